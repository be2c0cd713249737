import assert from "node:assert/strict";
import { createServer, get, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { createEventWriter, type EventWriterOptions } from "./event-writer.ts";

/** Answers one request with `respond`; `read` gets the response. */
async function exchange(
  respond: (outgoing: ServerResponse) => void,
  read: (incoming: IncomingMessage) => Promise<void>,
): Promise<void> {
  const server = createServer((_, outgoing) => respond(outgoing)).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  const incoming = await new Promise<IncomingMessage>((resolve, reject) => {
    get({ port, host: "127.0.0.1" }, resolve).once("error", reject);
  });
  incoming.on("error", () => {});
  await read(incoming);
  incoming.destroy();
  server.closeAllConnections();
  server.close();
}

const options = (more: Partial<EventWriterOptions> = {}): EventWriterOptions => ({
  headers: { "X-Request-Id": "1" },
  onSlow: () => {},
  ...more,
});

test("headers go out with the first event; comments while it takes long", { timeout: 20_000 }, async () => {
  await exchange(
    (outgoing) => {
      const writer = createEventWriter(outgoing, options({ heartbeatMs: 20 }));
      assert.equal(writer.begun, false);
      setTimeout(() => {
        assert.equal(writer.begun, true, "the comment began it");
        writer.send({ text: "一\n二" });
        writer.end(true);
        writer.send("too late");
      }, 150);
    },
    async (incoming) => {
      assert.equal(incoming.headers["x-request-id"], "1");
      let text = "";
      for await (const part of incoming.setEncoding("utf8")) text += part;
      assert.match(text, /^(: \n\n)+data: \{"text":"一\\n二"\}\n\ndata: \[DONE\]\n\n$/);
    },
  );
});

test("whoever does not read is buffered for up to a limit, then given up", { timeout: 20_000 }, async () => {
  let slow = 0;
  let sent = 0;
  await exchange(
    (outgoing) => {
      const writer = createEventWriter(outgoing, options({ maxBufferedBytes: 256 * 1024, onSlow: () => slow++ }));
      const timer = setInterval(() => {
        writer.send("x".repeat(64 * 1024));
        sent += 64;
        if (outgoing.destroyed || sent > 100_000) clearInterval(timer);
      }, 1);
    },
    async (incoming) => {
      incoming.pause();
      while (slow === 0 && sent < 100_000) await wait(10);
    },
  );
  assert.equal(slow, 1);
  assert.ok(sent < 100_000, `${sent} KiB`);
});

test("a stream that stands still is given up", { timeout: 20_000 }, async () => {
  let slow = 0;
  await exchange(
    (outgoing) => createEventWriter(outgoing, options({ stallMs: 100, onSlow: () => slow++ })).send("x"),
    async () => {
      while (slow === 0) await wait(10);
    },
  );
  assert.equal(slow, 1);
});
