/** The runs that a live server shows: found again now and then, each with one feed and one stream for all viewers. */

import { type EventFeed, openFileFeed, readLines } from "./event-feed.ts";
import { createEventStream, type EventStream } from "./event-stream.ts";
import { parseEvent } from "./events.ts";
import type { Ledger } from "./ledger.ts";
import { createRunMetrics, type RunMetrics } from "./prometheus.ts";
import type { RunSummary } from "./protocol.ts";
import { readPublicRun } from "./public-description.ts";
import { openReplayFeed, type ReplayOptions } from "./replay.ts";
import { findRuns, type RunDescription, readRun } from "./run-folder.ts";
import { ledgerFor } from "./run-ledger.ts";

export interface LiveRun {
  readonly id: string;
  readonly folder: string;
  readonly feed: EventFeed;
  readonly stream: EventStream;
  readonly metrics: RunMetrics;
  readonly ledger: Ledger;
  readonly replaySpeed?: number;
  describe(): RunDescription;
}

export interface LiveRuns {
  list(): Promise<RunSummary[]>;
  find(id: string): Promise<LiveRun | undefined>;
  /** Those that are open. */
  readonly open: ReadonlyMap<string, LiveRun>;
  close(): Promise<void>;
}

/** Between two looks for new runs. */
const rescanMs = 2000;

/** @throws DataError CPM_RUN_FOLDER where a path is neither a run nor a folder with some */
export async function openLiveRuns(
  paths: readonly string[],
  now: () => number,
  replay?: Omit<ReplayOptions, "now">,
): Promise<LiveRuns> {
  const open = new Map<string, LiveRun>();
  const opening = new Map<string, Promise<LiveRun>>();
  let folders: string[] = await findRuns(paths);
  let ids = new Map<string, string>();
  let scannedMs = now();
  let closed = false;
  const identify = () => {
    ids = new Map();
    for (const folder of folders) {
      try {
        ids.set(readRun(folder).id, folder);
      } catch {
        // gone, or being written: the next look tells
      }
    }
  };
  identify();
  let scanning: Promise<void> | undefined;
  /** Whoever asks while it goes on waits for it too. */
  const rescan = (): Promise<void> => {
    if (scanning === undefined && now() - scannedMs >= rescanMs) {
      scannedMs = now();
      scanning = findRuns(paths)
        .then((found) => {
          folders = found;
        })
        .catch(() => undefined) // the folder may be gone for a moment
        .then(identify)
        .finally(() => {
          scanning = undefined;
        });
    }
    return scanning ?? Promise.resolve();
  };

  async function openRun(id: string, folder: string): Promise<LiveRun> {
    const feed = await (replay ? openReplayFeed(folder, { ...replay, now }) : openFileFeed(folder));
    const metrics = createRunMetrics();
    const ledger = ledgerFor(readRun(folder));
    await countEvents(feed, metrics, ledger);
    const run: LiveRun = {
      id,
      folder,
      feed,
      stream: createEventStream(feed),
      metrics,
      ledger,
      ...(replay && { replaySpeed: replay.speed }),
      describe: () => readPublicRun(folder),
    };
    open.set(id, run);
    return run;
  }

  async function find(id: string): Promise<LiveRun | undefined> {
    await rescan();
    // Not "there is none": whoever asks should come back.
    if (closed) throw new Error("internal: a run was asked for while the server is being closed");
    const folder = ids.get(id);
    if (folder === undefined) return undefined;
    const known = open.get(id);
    if (known !== undefined) return known;
    let pending = opening.get(id);
    if (pending === undefined) {
      pending = openRun(id, folder).finally(() => opening.delete(id));
      opening.set(id, pending);
    }
    return pending;
  }

  return {
    open,
    find,
    async list() {
      await rescan();
      const summaries: RunSummary[] = [];
      for (const id of ids.keys()) {
        const run = await find(id);
        if (run === undefined) continue;
        try {
          const { name, createdAt, status, model, target } = run.describe();
          const { parameters } = model;
          const eventBytes = run.feed.size;
          const { replaySpeed } = run;
          summaries.push({
            id,
            name,
            createdAt,
            status,
            parameters,
            target,
            eventBytes,
            ...(replaySpeed && { replaySpeed }),
          });
        } catch {
          // being replaced: left out this time
        }
      }
      return summaries;
    },
    async close() {
      closed = true;
      await Promise.allSettled(opening.values());
      for (const { stream, feed } of open.values()) {
        stream.close();
        await feed.close();
      }
      open.clear();
    },
  };
}

/** Follows a feed from its first byte, what is there already included. */
async function countEvents(feed: EventFeed, ...counters: readonly Pick<RunMetrics | Ledger, "add">[]): Promise<void> {
  let at = 0;
  const take = (lines: Buffer) => {
    for (const line of lines.toString("utf8").split("\n")) {
      const event = line === "" ? undefined : parseEvent(line);
      if (event !== undefined) for (const counter of counters) counter.add(event);
    }
  };
  let caughtUp = false;
  feed.subscribe((from, lines) => {
    if (!caughtUp) return; // still reading what came before
    at = from + lines.length; // the feed may have passed over a line that is too long
    take(lines);
  });
  while (at < feed.size) {
    const { lines, end } = await readLines(feed, at);
    if (end === at) break;
    at = end;
    take(lines);
  }
  caughtUp = true;
}
