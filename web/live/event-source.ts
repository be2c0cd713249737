/**
 * A run's events into a store: first what there is, as bytes, then what comes, pushed. Without a stream (a static export)
 * it ends with what there is.
 *
 * The byte after the last whole line is the position: the stream starts there, and after a lost connection goes on from
 * the id of the last message, so no line is missed or doubled.
 */
import type { RunStore } from "./run-store.ts";
import { openWatchedStream } from "./watched-stream.ts";

export type ConnectionState = "loading" | "live" | "reconnecting" | "static" | "failed" | "missing";

export interface RunFeed {
  readonly state: ConnectionState;
  /** Bytes of events so far. */
  readonly position: number;
  close(): void;
}

/** Longest stretch of parsing before the page gets a turn. */
const sliceMs = 8;

/** After so long a frame is waited for: browsers may put off drawing for as long as messages and data keep coming. */
const frameMs = 24;
/** A page out of sight has no frames. */
const frameWaitMs = 100;

/** Lets the page answer; a timer would idle for 4 ms each time. */
const turn = () =>
  new Promise<void>((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(undefined);
  });

/** Lets the page draw: until a frame has been made. */
const frame = () =>
  new Promise<void>((resolve) => {
    const timer = setTimeout(done, frameWaitMs);
    const request = requestAnimationFrame(done);
    function done(): void {
      clearTimeout(timer);
      cancelAnimationFrame(request);
      void turn().then(resolve); // behind the frame, not in it
    }
  });

class Missing extends Error {}

export interface StreamListener {
  onOpen(): void;
  /** `end`: the byte after the lines. */
  onLines(end: number, lines: readonly string[]): void;
  /** `isOver`: it does not come back by itself. */
  onLost(isOver: boolean): void;
}

/** Opens what is pushed from a position on; the function that is returned closes it. */
export type OpenStream = (position: () => number, listener: StreamListener) => () => void;

/** A stream of one run's own: the browser comes back by itself and says where it was. */
export const openRunStream =
  (base: string): OpenStream =>
  (position, { onOpen, onLines, onLost }) => {
    const stream = openWatchedStream(`${base}stream?from=${position()}`, () => onLost(true));
    const { source } = stream;
    source.onopen = onOpen;
    source.onmessage = ({ data, lastEventId }: MessageEvent<string>) => {
      stream.onMessage();
      onLines(Number(lastEventId), data.split("\n"));
    };
    source.onerror = () => {
      const isOver = source.readyState === EventSource.CLOSED;
      if (isOver) stream.close();
      onLost(isOver);
    };
    return stream.close;
  };

/** `base` is the run's folder of the protocol, with a slash at its end. `onChange` is told of new lines and states. */
export function followRun(
  base: string,
  store: RunStore,
  onChange: () => void,
  openStream: OpenStream = openRunStream(base),
): RunFeed {
  const abort = new AbortController();
  let state: ConnectionState = "loading";
  let position = 0;
  let stop: (() => void) | undefined;
  let retry: ReturnType<typeof setTimeout> | undefined;

  const become = (next: ConnectionState) => {
    state = next;
    onChange();
  };

  async function loadAll(): Promise<boolean> {
    // An address of its own and no Range: browsers take a range only uncompressed.
    const response = await fetch(`${base}events.jsonl${position > 0 ? `?from=${position}` : ""}`, {
      signal: abort.signal,
    });
    if (response.status === 404) throw new Missing();
    if (!response.ok || response.body === null) throw new Error(`HTTP ${response.status}`);
    // Files without a server are sent from their beginning: what we have is passed over.
    let skip = response.headers.get("X-Event-From") === String(position) ? 0 : position;
    const live = response.headers.has("X-Event-Bytes");
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let rest: Uint8Array = new Uint8Array(0);
    let sliceStart = performance.now();
    let frameStart = sliceStart;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      let data: Uint8Array = value;
      if (skip > 0) {
        const passed = Math.min(skip, data.length);
        skip -= passed;
        data = data.subarray(passed);
      }
      if (rest.length > 0) {
        const joined = new Uint8Array(rest.length + data.length);
        joined.set(rest);
        joined.set(data, rest.length);
        data = joined;
      }
      let start = 0;
      for (let end = data.indexOf(10, start); end >= 0; end = data.indexOf(10, start)) {
        store.addLine(decoder.decode(data.subarray(start, end)));
        position += end + 1 - start;
        start = end + 1;
        const now = performance.now();
        if (now - sliceStart < sliceMs) continue;
        onChange();
        const isFrameDue = now - frameStart >= frameMs;
        await (isFrameDue ? frame() : turn());
        sliceStart = performance.now();
        if (isFrameDue) frameStart = sliceStart;
      }
      rest = data.slice(start);
    }
    onChange();
    return live;
  }

  function listen(): void {
    stop = openStream(() => position, {
      onOpen: () => become("live"),
      onLines(end, lines) {
        if (end <= position) return; // sent again
        for (const line of lines) if (line !== "") store.addLine(line);
        position = end;
        onChange();
      },
      onLost(isOver) {
        become("reconnecting");
        if (isOver) retry = setTimeout(() => void begin(), 2000);
      },
    });
  }

  async function begin(): Promise<void> {
    try {
      const live = await loadAll();
      if (abort.signal.aborted) return;
      if (live) listen();
      else become("static");
    } catch (error) {
      if (abort.signal.aborted) return;
      if (error instanceof Missing) return become("missing"); // nothing to wait for
      become(position > 0 ? "reconnecting" : "failed");
      retry = setTimeout(() => void begin(), 3000);
    }
  }
  void begin();

  return {
    get state() {
      return state;
    },
    get position() {
      return position;
    },
    close() {
      abort.abort();
      stop?.();
      clearTimeout(retry);
    },
  };
}
