/**
 * Server-sent events to many viewers of one feed.
 *
 * What is appended is framed once and the same bytes are written to every viewer that is up to date. A viewer that reads
 * too slowly is not buffered for: it falls out of the live set and, each time its connection has drained, is sent the
 * next part from the feed until it has caught up. So memory does not grow with slow viewers, and nobody loses a line.
 */
import type { ServerResponse } from "node:http";
import { type EventFeed, readLines } from "./event-feed.ts";
import { beatEvent, beatMs } from "./stream-beat.ts";

/** A message that no run's can be: what a page takes for a sign of life. Comments never reach a page's code. */
const beat = Buffer.from(`event: ${beatEvent}\ndata: \u00b7\n\n`);

/** Lines as one message: `id` is the byte after them. */
export function frameLines(lines: Buffer, endByte: number): Buffer {
  return framed(`id: ${endByte}\n`, lines);
}

/** The same for a stream of several runs: named after its run, the byte after the lines first. */
export function frameLinesOf(run: string, lines: Buffer, endByte: number): Buffer {
  return framed(`event: ${run}\ndata: ${endByte}\n`, lines);
}

const dataField = Buffer.from("data: ");
const lineEnd = Buffer.from("\n");

function framed(head: string, lines: Buffer): Buffer {
  const parts: Buffer[] = [Buffer.from(head)];
  for (let from = 0; from < lines.length; ) {
    const at = lines.indexOf(10, from);
    const end = at < 0 ? lines.length : at;
    parts.push(dataField, lines.subarray(from, end), lineEnd);
    from = end + 1;
  }
  parts.push(lineEnd);
  return Buffer.concat(parts);
}

export interface EventStream {
  readonly viewers: number;
  /**
   * Takes over a response and sends from a byte on. `run`: the response is shared with streams of other runs, so messages
   * are named after this one.
   */
  add(response: ServerResponse, fromByte: number, run?: string): void;
  /** Ends all connections. */
  close(): void;
}

interface Viewer {
  readonly response: ServerResponse;
  readonly run: string | undefined;
  /** Up to where it was sent. */
  at: number;
  catchingUp: boolean;
}

export function createEventStream(feed: EventFeed): EventStream {
  const viewers = new Set<Viewer>();
  let closed = false;
  const unsubscribe = feed.subscribe((from, lines) => {
    const end = from + lines.length;
    // Framed once for all who watch.
    let plain: Buffer | undefined;
    let named: Buffer | undefined;
    for (const viewer of viewers) {
      if (viewer.catchingUp) continue;
      if (viewer.at !== from) void catchUp(viewer);
      else if (viewer.run === undefined) send(viewer, (plain ??= frameLines(lines, end)), end);
      else send(viewer, (named ??= frameLinesOf(viewer.run, lines, end)), end);
    }
  });
  const heartbeat = setInterval(() => {
    for (const { response, catchingUp } of viewers) if (!catchingUp) response.write(beat);
  }, beatMs);
  heartbeat.unref();

  function send(viewer: Viewer, frame: Buffer, end: number): void {
    viewer.at = end;
    if (viewer.response.write(frame)) return;
    // Its buffer is full: nothing more until it has drained.
    viewer.catchingUp = true;
    viewer.response.once("drain", () => void catchUp(viewer));
  }

  /** Where the events cannot be read the connection ends: the viewer comes back with its last id. */
  function catchUp(viewer: Viewer): Promise<void> {
    return sendMissing(viewer).catch(() => void viewer.response.destroy());
  }

  async function sendMissing(viewer: Viewer): Promise<void> {
    viewer.catchingUp = true;
    while (viewers.has(viewer) && viewer.at < feed.size) {
      const { lines, end } = await readLines(feed, viewer.at);
      if (!viewers.has(viewer)) return;
      if (end === viewer.at) break;
      viewer.at = end;
      if (lines.length === 0) continue;
      const { response, run, at } = viewer;
      if (!response.write(run === undefined ? frameLines(lines, at) : frameLinesOf(run, lines, at))) {
        response.once("drain", () => void catchUp(viewer));
        return;
      }
    }
    viewer.catchingUp = false;
  }

  return {
    get viewers() {
      return viewers.size;
    },
    add(response, fromByte, run) {
      if (response.destroyed || closed) return void response.destroy(); // left while its run was looked up
      const viewer: Viewer = { response, run, at: Math.min(fromByte, feed.size), catchingUp: true };
      response.on("close", () => viewers.delete(viewer));
      response.on("error", () => viewers.delete(viewer));
      response.write(`retry: 2000\n: from ${viewer.at}\n\n`);
      viewers.add(viewer);
      void catchUp(viewer);
    },
    close() {
      closed = true;
      unsubscribe();
      clearInterval(heartbeat);
      for (const { response } of viewers) response.end();
      viewers.clear();
    },
  };
}
