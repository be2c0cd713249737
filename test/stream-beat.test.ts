/** A connection that died in silence: the server's beats, and the page that misses them. */
import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import type { ServerResponse } from "node:http";
import { beforeEach, test } from "node:test";
import type { EventFeed } from "../src/live/event-feed.ts";
import { createEventStream } from "../src/live/event-stream.ts";
import { beatEvent, beatMs, silenceMs } from "../src/live/stream-beat.ts";
import { openWatchedStream } from "../web/live/watched-stream.ts";

test("a stream in which nothing happens beats, more often than a page's patience lasts", (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const feed: EventFeed = {
    size: 0,
    read: async () => Buffer.alloc(0),
    subscribe: () => () => {},
    close: async () => {},
  };
  const written: string[] = [];
  const response = Object.assign(new EventEmitter(), {
    destroyed: false,
    write: (bytes: Uint8Array | string) => written.push(Buffer.from(bytes as string).toString()) > 0,
    end: () => {},
  });
  const stream = createEventStream(feed);
  stream.add(response as unknown as ServerResponse, 0);
  t.mock.timers.tick(2 * beatMs);
  const beats = written.join("").match(new RegExp(`event: ${beatEvent}\ndata: .+\n\n`, "g"));
  assert.equal(beats?.length, 2);
  assert.ok(2 * beatMs < silenceMs);
  stream.close();
});

let opened: FakeSource[] = [];
class FakeSource extends EventTarget {
  static readonly OPEN = 1;
  static readonly CLOSED = 2;
  readyState = 0;
  constructor() {
    super();
    opened.push(this);
  }
  close(): void {
    this.readyState = FakeSource.CLOSED;
  }
}
Object.assign(globalThis, { EventSource: FakeSource });
beforeEach(() => {
  opened = [];
});

test("a page takes silence for a lost connection, beats and lines for life, and connecting for neither", (t) => {
  t.mock.timers.enable({ apis: ["setInterval", "Date"] });
  let lost = 0;
  const stream = openWatchedStream("stream", () => lost++);
  const [source] = opened;
  t.mock.timers.tick(10 * silenceMs); // the browser is still trying
  assert.equal(lost, 0);
  source!.readyState = FakeSource.OPEN;
  for (let i = 0; i < 10; i++) {
    t.mock.timers.tick(silenceMs - 6000);
    if (i % 2 === 0) source!.dispatchEvent(new Event(beatEvent));
    else stream.onMessage();
  }
  assert.equal(lost, 0);
  t.mock.timers.tick(silenceMs + 6000);
  assert.deepEqual([lost, source!.readyState], [1, FakeSource.CLOSED]);
  t.mock.timers.tick(10 * silenceMs);
  assert.equal(lost, 1);
});
