/** One stream for all runs of a page: a browser keeps only six connections to a server open. */
import type { OpenStream, StreamListener } from "./event-source.ts";
import { openWatchedStream, type WatchedStream } from "./watched-stream.ts";

export interface SharedStream {
  of(id: string): OpenStream;
}

/** Runs that join within this time share the first connection. */
const gatherMs = 100;
const retryMs = 2000;

interface Member {
  readonly position: () => number;
  readonly listener: StreamListener;
}

export function createSharedStream(): SharedStream {
  const members = new Map<string, Member>();
  let stream: WatchedStream | undefined;
  let opening: ReturnType<typeof setTimeout> | undefined;

  function openSoon(ms: number): void {
    clearTimeout(opening);
    opening = setTimeout(open, ms);
  }

  /** Anew with all members, each from where it is. */
  function open(): void {
    opening = undefined;
    stream?.close();
    stream = undefined;
    if (members.size === 0) return;
    const places = [...members].map(([id, { position }]) => `${id}~${position()}`);
    const opened = openWatchedStream(`api/stream?runs=${places.map(encodeURIComponent).join(",")}`, () => lose());
    stream = opened;
    const { source } = opened;
    source.onopen = () => {
      for (const { listener } of members.values()) listener.onOpen();
    };
    for (const [id, { listener }] of members) {
      source.addEventListener(id, ({ data }: MessageEvent<string>) => {
        opened.onMessage();
        const [end, ...lines] = data.split("\n");
        listener.onLines(Number(end), lines);
      });
    }
    const lose = () => {
      opened.close(); // by itself it would come back to where it began
      if (stream !== opened) return;
      for (const { listener } of members.values()) listener.onLost(false);
      openSoon(retryMs);
    };
    source.onerror = lose;
  }

  return {
    of: (id) => (position, listener) => {
      members.set(id, { position, listener });
      openSoon(gatherMs);
      return () => {
        members.delete(id);
        openSoon(gatherMs);
      };
    },
  };
}
