/** A finished run as if it happened now: its lines are released by their recorded times, at any speed, in order. */
import { open } from "node:fs/promises";
import { join } from "node:path";
import type { EventFeed } from "./event-feed.ts";
import { readRange, releaseBytes } from "./released-bytes.ts";
import { eventsFile, readEvents } from "./run-folder.ts";

export interface ReplayOptions {
  /** Factor on time; infinite releases everything at once. */
  readonly speed: number;
  /** Begin at this moment of the run (milliseconds since the epoch), with all that came before it there. */
  readonly fromMs?: number | undefined;
  readonly now: () => number;
}

/** Between two looks at the clock. */
const tickMs = 50;

export async function openReplayFeed(folder: string, { speed, fromMs, now }: ReplayOptions): Promise<EventFeed> {
  const times: number[] = [];
  const ends: number[] = [];
  let latest = Number.NEGATIVE_INFINITY;
  for await (const { event, endByte } of readEvents(folder)) {
    latest = Math.max(latest, Date.parse(event.time)); // a clock that was set back does not hold the run up
    times.push(latest);
    ends.push(endByte);
  }
  const file = await open(join(folder, eventsFile), "r");
  const startedMs = now();
  const origin = fromMs ?? times[0] ?? 0;
  const released = releaseBytes(file);
  /** Events that are released. */
  let count = 0;
  let busy = false;
  const tick = async () => {
    if (busy) return;
    busy = true;
    try {
      const moment = speed === Number.POSITIVE_INFINITY ? speed : origin + (now() - startedMs) * speed;
      let next = count;
      while (next < times.length && times[next]! <= moment) next++;
      if (next === count) return;
      const lines = await readRange(file, released.size, ends[next - 1]!);
      count = next;
      released.release(lines);
      if (count === times.length) clearInterval(timer);
    } finally {
      busy = false;
    }
  };
  const timer = setInterval(() => void tick(), tickMs);
  timer.unref();
  await tick();
  return {
    get size() {
      return released.size;
    },
    read: released.read,
    subscribe: released.subscribe,
    async close() {
      clearInterval(timer);
      await file.close();
    },
  };
}
