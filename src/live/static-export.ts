/**
 * Runs and their pages as files that any web server can serve, or none that runs code: the tree of `protocol.ts` without
 * the stream. The page finds that out and shows an archive.
 *
 * Each file is written aside and renamed, data before the page that refers to it, and only where its content changed, so
 * an export can be repeated over an older one while people read it.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { copyFile, mkdir, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { listCheckpoints } from "../train/checkpoint.ts";
import { fileErrorOf, writeFileAtomic } from "../util/atomic-file.ts";
import { DataError } from "../util/error.ts";
import type { CheckpointEntry, RunSummary } from "./protocol.ts";
import { readPublicRun } from "./public-description.ts";
import { checkpointsFolder, eventsFile, findRuns, readEvents } from "./run-folder.ts";
import { pageLedger, readLedger } from "./run-ledger.ts";

export interface StaticExportOptions {
  /** Runs, or folders of runs. */
  readonly runs: readonly string[];
  /** The built pages. */
  readonly pages: string;
  readonly output: string;
  /** Copies weights too: they are large. */
  readonly checkpoints: boolean;
  readonly signal?: AbortSignal | undefined;
}

export interface StaticExport {
  readonly runs: number;
  readonly files: number;
  /** Of these, how many were written: the others had the content already. */
  readonly written: number;
  readonly bytes: number;
}

/**
 * @throws DataError CPM_RUN_FOLDER where there is no run; FileError; what was exported before stays usable then
 */
export async function exportStatic(options: StaticExportOptions): Promise<StaticExport> {
  const { output, pages, signal } = options;
  const folders = await findRuns(options.runs);
  if (folders.length === 0)
    throw new DataError("CPM_RUN_FOLDER", "There is no run here", { where: options.runs.join(", ") });
  let files = 0;
  let written = 0;
  let bytes = 0;
  const kept = new Set<string>();
  const count = (path: string, size: number, isNew: boolean) => {
    kept.add(path);
    files++;
    bytes += size;
    if (isNew) written++;
  };
  const write = async (path: string, content: string | Uint8Array): Promise<void> => {
    signal?.throwIfAborted();
    const data = typeof content === "string" ? Buffer.from(content) : content;
    const target = join(output, path);
    const old = await readFile(target).catch(() => undefined);
    const same = old !== undefined && Buffer.compare(old, data) === 0;
    if (!same) {
      await makeFolder(dirname(target));
      await writeFileAtomic(target, data);
    }
    count(path, data.length, !same);
  };
  const copy = async (path: string, source: string): Promise<void> => {
    signal?.throwIfAborted();
    const target = join(output, path);
    const { size } = await stat(source);
    const old = await stat(target).catch(() => undefined);
    const same = old?.size === size && (await digestOf(source)) === (await digestOf(target));
    if (!same) {
      await makeFolder(dirname(target));
      const aside = `${target}.partial-${process.pid}`;
      await copyFile(source, aside);
      await rename(aside, target);
    }
    count(path, size, !same);
  };

  const summaries: RunSummary[] = [];
  for (const folder of folders) {
    const run = readPublicRun(folder);
    const base = `api/runs/${run.id}`;
    await write(`${base}/run.json`, JSON.stringify(run));
    const events = await wholeEvents(folder);
    await write(`${base}/events.jsonl`, events);
    await write(`${base}/ledger.json`, JSON.stringify(pageLedger(await readLedger(folder))));
    const logs = (await namesIn(join(folder, "log"))).filter((name) => /^[\w.-]+\.md$/.test(name));
    for (const name of logs) await copy(`${base}/log/${name}`, join(folder, "log", name));
    await write(`${base}/log.json`, JSON.stringify(logs));
    for (const name of await namesIn(join(folder, "samples")))
      await copy(`${base}/samples/${name}`, join(folder, "samples", name));
    const entries: CheckpointEntry[] = [];
    for (const { step, path } of options.checkpoints ? await listCheckpoints(join(folder, checkpointsFolder)) : []) {
      const names = await namesIn(path);
      const step8 = path.split(/[\\/]/).at(-1)!;
      const ofStep = [];
      for (const name of names) {
        await copy(`${base}/checkpoints/${step8}/${name}`, join(path, name));
        ofStep.push({ name, bytes: (await stat(join(path, name))).size });
      }
      entries.push({ step, files: ofStep });
    }
    await write(`${base}/checkpoints.json`, JSON.stringify(entries));
    const { id, name, createdAt, status, model, target } = run;
    summaries.push({ id, name, createdAt, status, parameters: model.parameters, target, eventBytes: events.length });
  }
  await write("api/runs.json", JSON.stringify(summaries));
  for (const name of await namesIn(join(pages, "assets"))) await copy(`assets/${name}`, join(pages, "assets", name));
  await copy("index.html", join(pages, "index.html"));
  // Scripts of an older page are of no use once the new page is there.
  for (const name of await namesIn(join(output, "assets"))) {
    if (!kept.has(`assets/${name}`)) await rm(join(output, "assets", name), { force: true });
  }
  return { runs: folders.length, files, written, bytes };
}

async function makeFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true }).catch((error) => {
    throw fileErrorOf(error, "write", path);
  });
}

/** Plain files of a folder that need not exist. */
async function namesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  return entries
    .filter((entry) => entry.isFile() && /^[\w][\w.-]*$/.test(entry.name))
    .map((entry) => entry.name)
    .sort();
}

/** The events without a line that is being written. */
async function wholeEvents(folder: string): Promise<Buffer> {
  let end = 0;
  for await (const { endByte } of readEvents(folder)) end = endByte;
  const bytes = await readFile(join(folder, eventsFile));
  return bytes.subarray(0, end);
}

async function digestOf(path: string): Promise<string> {
  const digest = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) digest.update(chunk as Buffer);
  return digest.digest("hex");
}
