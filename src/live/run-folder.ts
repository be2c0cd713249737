/**
 * A run on disk, written while it trains and read by whoever watches:
 *
 *     run.json         what the run is: recipe, model, data, machine, assumptions; replaced atomically at start and end
 *     events.jsonl     what happened, appended (events.ts)
 *     checkpoints/     step-XXXXXXXX folders (train/checkpoint.ts); undone/ holds those that a person took back
 *     data/            the data set, where the run began with text files
 *     samples/         batches that the guard wrote aside
 *     log/             daily logs
 *     run.lock         the process that writes
 *
 * One process writes a run at a time. A line that a crash left torn is cut off when the run is opened again; readers stop
 * before it. Both files may come from strangers: sizes are bounded, lines that are no event are passed over.
 */
import { randomBytes } from "node:crypto";
import {
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readSync,
  writeSync,
} from "node:fs";
import { link, mkdir, open, readdir, rm, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { basename, join, resolve } from "node:path";
import { z } from "zod";
import { fileErrorOf, writeFileAtomic } from "../util/atomic-file.ts";
import { ConfigError, DataError } from "../util/error.ts";
import { type NewEvent, parseEvent, type RunEvent } from "./events.ts";
import { ledgerAssumptionsSchema } from "./ledger-assumptions.ts";

export const runFile = "run.json";
export const eventsFile = "events.jsonl";
export const checkpointsFolder = "checkpoints";
const lockFile = "run.lock";

export const runStatuses = ["running", "stopped", "ended", "failed"] as const;

export const runDescriptionSchema = z.object({
  format: z.literal(1),
  id: z.string().regex(/^[\w.-]{1,128}$/),
  name: z.string().max(512),
  createdAt: z.iso.datetime(),
  status: z.enum(runStatuses),
  /** The options of the command that made it. */
  recipe: z.record(z.string(), z.unknown()),
  model: z.object({
    preset: z.string().optional(),
    config: z.record(z.string(), z.unknown()),
    parameters: z.int().min(0),
  }),
  data: z.object({
    sources: z.array(
      z.object({ label: z.string(), tokens: z.number(), weight: z.number(), licence: z.string().optional() }),
    ),
    tokenizer: z.object({ vocabSize: z.int(), sha256: z.string() }).optional(),
  }),
  target: z.object({ steps: z.int().optional(), tokens: z.int().optional(), ms: z.number().optional() }),
  machine: z.object({ cpu: z.string(), cores: z.int(), memoryBytes: z.number(), threads: z.int().optional() }),
  versions: z.record(z.string(), z.string()),
  ledger: ledgerAssumptionsSchema.optional(),
  plan: z.record(z.string(), z.unknown()).optional(),
  /** Of the machine's plain product, for MFU. */
  productFlopsPerSecond: z.number().optional(),
});
export type RunDescription = z.output<typeof runDescriptionSchema>;

const maxDescriptionBytes = 16 * 1024 * 1024;
/** A longer line is no event. */
export const maxLineBytes = 4 * 1024 * 1024;

/**
 * Reads a run's description.
 *
 * @throws DataError CPM_RUN_FOLDER where there is none or it is not as it must be
 */
export function readRun(folder: string): RunDescription {
  const path = join(folder, runFile);
  const bad = (what: string, got?: string, cause?: unknown) =>
    new DataError("CPM_RUN_FOLDER", what, {
      where: path,
      got,
      expected: "the folder of a run, as cpm train --run makes it",
      cause,
    });
  let file: number;
  try {
    file = openSync(path, "r");
  } catch (cause) {
    throw bad("There is no run here", (cause as { code?: string }).code, cause);
  }
  try {
    const { size } = fstatSync(file);
    if (size > maxDescriptionBytes) throw bad("The description of a run is too long", `${size} bytes`);
    const value: unknown = JSON.parse(readFileSync(file, "utf8"));
    const parsed = runDescriptionSchema.safeParse(value);
    if (parsed.success) return parsed.data;
    const [issue] = parsed.error.issues;
    throw bad("The description of a run is not as it must be", `${issue?.path.join(".")}: ${issue?.message}`);
  } catch (cause) {
    if (cause instanceof DataError) throw cause;
    throw bad("The description of a run is not JSON", undefined, cause);
  } finally {
    closeSync(file);
  }
}

/** A run that this process writes. */
export interface RunWriter {
  readonly folder: string;
  readonly description: RunDescription;
  /**
   * Appends an event with the time of the clock. `durable`: it is on the disk when this returns. A line that could not be
   * written whole is written over by the next one.
   *
   * @throws FileError CPM_FILE_NO_SPACE and others
   */
  append(event: NewEvent, durable?: boolean): void;
  /** Changes the description and writes it. */
  update(changes: Partial<RunDescription>): Promise<void>;
  /** Ends writing; the lock is given back. */
  close(): Promise<void>;
}

/** A new run's identity: sortable by date, unlikely to meet another. */
export function newRunId(nowMs: number): string {
  return `${new Date(nowMs).toISOString().slice(0, 19).replace(/[:T]/g, "-")}-${randomBytes(3).toString("hex")}`;
}

/** @throws ConfigError CPM_RUN_EXISTS where a new run's folder holds something else than what is expected */
export function requireEmptyRun(folder: string, found: readonly string[], expected: readonly string[] = []): void {
  const other = found.filter((name) => !expected.includes(name));
  if (other.length === 0) return;
  throw new ConfigError("CPM_RUN_EXISTS", "The folder for a new run is not empty", {
    where: folder,
    got: other.slice(0, 5).join(", "),
    hint: "Give another --run, or go on with this one: cpm train --resume FOLDER",
  });
}

/**
 * Makes a run's folder and opens it for writing.
 *
 * @param expected what may be in the folder already
 * @throws ConfigError CPM_RUN_EXISTS where the folder holds something else; FileError
 */
export async function createRun(
  folder: string,
  description: RunDescription,
  now: () => number,
  expected: readonly string[] = [],
): Promise<RunWriter> {
  const found = await mkdir(folder, { recursive: true })
    .then(() => readdir(folder))
    .catch((error) => {
      throw fileErrorOf(error, "write", folder);
    });
  requireEmptyRun(folder, found, expected);
  await takeLock(folder);
  try {
    await mkdir(join(folder, checkpointsFolder));
    await writeFileAtomic(join(folder, runFile), `${JSON.stringify(description, undefined, 1)}\n`);
    await writeFileAtomic(join(folder, eventsFile), "");
    return openWriter(folder, description, now);
  } catch (error) {
    await giveLock(folder);
    throw fileErrorOf(error, "write", folder);
  }
}

/**
 * Opens a run to go on with it.
 *
 * @throws DataError CPM_RUN_FOLDER; ConfigError CPM_RUN_LOCKED where another process writes it
 */
export async function reopenRun(folder: string, now: () => number): Promise<RunWriter> {
  readRun(folder);
  await takeLock(folder);
  try {
    // Read again: whoever held the lock may have changed it.
    return openWriter(folder, readRun(folder), now);
  } catch (error) {
    await giveLock(folder);
    throw fileErrorOf(error, "write", folder);
  }
}

function openWriter(folder: string, initial: RunDescription, now: () => number): RunWriter {
  const path = join(folder, eventsFile);
  const file = openSync(path, existsSync(path) ? "r+" : "w+");
  let size = cutTornLine(file);
  let description = initial;
  let open_ = true;
  return {
    folder,
    get description() {
      return description;
    },
    append(event, durable = false) {
      if (!open_) throw new Error("internal: an event for a run that is closed");
      const line = Buffer.from(`${JSON.stringify({ time: new Date(now()).toISOString(), ...event })}\n`);
      try {
        for (let written = 0; written < line.length; )
          written += writeSync(file, line, written, line.length - written, size + written);
        size += line.length;
        if (durable) fsyncSync(file);
      } catch (error) {
        throw fileErrorOf(error, "write", path);
      }
    },
    async update(changes) {
      description = { ...description, ...changes };
      await writeFileAtomic(join(folder, runFile), `${JSON.stringify(description, undefined, 1)}\n`);
    },
    async close() {
      if (!open_) return;
      open_ = false;
      try {
        fsyncSync(file);
      } finally {
        closeSync(file);
        await giveLock(folder);
      }
    },
  };
}

/** Cuts what follows the last line end; returns the file's size then. */
function cutTornLine(file: number): number {
  const { size } = fstatSync(file);
  const chunk = Buffer.alloc(Math.min(size, 65536));
  for (let end = size; end > 0; ) {
    const start = Math.max(0, end - chunk.length);
    readSync(file, chunk, 0, end - start, start);
    const at = chunk.subarray(0, end - start).lastIndexOf(10);
    if (at >= 0) {
      if (start + at + 1 < size) ftruncateSync(file, start + at + 1);
      return start + at + 1;
    }
    end = start;
  }
  if (size > 0) ftruncateSync(file, 0);
  return 0;
}

/** Folders that this process writes: its own number in a lock says nothing about itself. */
const held = new Set<string>();

/**
 * A file with our process's number, which appears with its content. That of a process that is gone is removed by one
 * taker at a time: who removes it looks again while no other may.
 */
async function takeLock(folder: string): Promise<void> {
  const path = join(folder, lockFile);
  const locked = (holder: string) =>
    new ConfigError("CPM_RUN_LOCKED", "Another process writes this run", {
      where: folder,
      got: holder,
      hint: `Wait for it to end; if it is gone for good, remove ${path}.`,
    });
  if (held.has(resolve(folder))) throw locked(`process ${process.pid}, this one`);
  const aside = `${path}.${process.pid}-${randomBytes(4).toString("hex")}`;
  const mine = JSON.stringify({ pid: process.pid, host: hostname() });
  const removal = `${path}.removal`;
  try {
    await writeFile(aside, mine, { flag: "wx" });
    let placed = await placeLock(aside, path, mine);
    if (!placed) {
      refuseLiving(path, locked);
      if (!(await placeLock(aside, removal, mine))) {
        refuseLiving(removal, locked);
        // Left by a crash between two calls; the next one who comes finds it gone.
        await rm(removal, { force: true });
        throw locked("a process that was taking it over");
      }
      try {
        refuseLiving(path, locked);
        await rm(path, { force: true });
        placed = await placeLock(aside, path, mine);
      } finally {
        await rm(removal, { force: true });
      }
    }
    if (!placed) throw locked("a process that has just begun");
    held.add(resolve(folder));
  } catch (error) {
    throw fileErrorOf(error, "write", path);
  } finally {
    await rm(aside, { force: true }).catch(() => {});
  }
}

/** Whether a process that may still live writes the run. */
export function isBeingWritten(folder: string): boolean {
  if (held.has(resolve(folder))) return true;
  const holder = readHolder(join(folder, lockFile));
  return holder !== undefined && (holder.host !== hostname() || isAlive(holder.pid));
}

/** Throws where a lock is that of a process which may still live; one that we could not have written is as good as none. */
function refuseLiving(path: string, locked: (holder: string) => ConfigError): void {
  const holder = readHolder(path);
  if (holder !== undefined && (holder.host !== hostname() || isAlive(holder.pid))) {
    throw locked(`process ${holder.pid} on ${holder.host}`);
  }
}

/** Gives the prepared file the lock's name unless that is taken. */
async function placeLock(aside: string, path: string, content: string): Promise<boolean> {
  try {
    await link(aside, path);
    return true;
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === "EEXIST") return false;
    if (code === "ENOENT" || code === "EACCES" || code === "ENOSPC" || code === "EROFS") throw error;
  }
  // A file system without links.
  try {
    await writeFile(path, content, { flag: "wx" });
    return true;
  } catch (error) {
    if ((error as { code?: string }).code === "EEXIST") return false;
    throw error;
  }
}

async function giveLock(folder: string): Promise<void> {
  held.delete(resolve(folder));
  await rm(join(folder, lockFile), { force: true });
}

function readHolder(path: string): { pid: number; host: string } | undefined {
  try {
    const { pid, host } = JSON.parse(readFileSync(path, "utf8")) as { pid?: unknown; host?: unknown };
    return typeof pid === "number" && typeof host === "string" ? { pid, host } : undefined;
  } catch {
    return undefined;
  }
}

function isAlive(pid: number): boolean {
  if (pid === process.pid) return false; // left by an earlier process of our number
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code === "EPERM";
  }
}

/** Events with the byte after their line, in bounded memory; a torn last line is left out. */
export async function* readEvents(
  folder: string,
  fromByte = 0,
): AsyncGenerator<{ readonly event: RunEvent; readonly endByte: number }> {
  const path = join(folder, eventsFile);
  const handle = await open(path, "r").catch((cause) => {
    throw new DataError("CPM_RUN_FOLDER", "The events of a run cannot be read", { where: path, cause });
  });
  try {
    let rest = Buffer.alloc(0);
    let position = fromByte;
    let lineStart = fromByte;
    /** The line under way is longer than an event can be. */
    let skipping = false;
    const chunk = Buffer.alloc(1 << 18);
    for (;;) {
      const { bytesRead } = await handle.read(chunk, 0, chunk.length, position);
      if (bytesRead === 0) return;
      position += bytesRead;
      let data = Buffer.concat([rest, chunk.subarray(0, bytesRead)]);
      for (let end = data.indexOf(10); end >= 0; end = data.indexOf(10)) {
        lineStart += end + 1;
        const event = skipping ? undefined : parseEvent(data.toString("utf8", 0, end));
        if (event !== undefined) yield { event, endByte: lineStart };
        skipping = false;
        data = data.subarray(end + 1);
      }
      if (data.length > maxLineBytes) {
        skipping = true;
        lineStart += data.length;
        data = Buffer.alloc(0);
      }
      rest = Buffer.from(data);
    }
  } finally {
    await handle.close();
  }
}

/** Folders of runs: each path that is one, and those inside a path that is not. Newest first. */
export async function findRuns(paths: readonly string[]): Promise<string[]> {
  const found = new Map<string, string>();
  const add = (folder: string) => {
    try {
      found.set(folder, readRun(folder).createdAt);
    } catch {
      // no run, or none that can be read: not listed
    }
  };
  for (const path of paths) {
    if (existsSync(join(path, runFile))) {
      add(path);
      continue;
    }
    const entries = await readdir(path, { withFileTypes: true }).catch((cause) => {
      throw new DataError("CPM_RUN_FOLDER", "There is no run here", { where: path, cause });
    });
    for (const entry of entries) if (entry.isDirectory()) add(join(path, entry.name));
  }
  return [...found].sort(([, a], [, b]) => b.localeCompare(a)).map(([folder]) => folder);
}

/** The folder's name: how pages and commands call a run. */
export function runName(folder: string): string {
  return basename(folder);
}
