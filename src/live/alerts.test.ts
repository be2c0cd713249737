import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { CpmError } from "../util/error.ts";
import { type Alert, alertSchema, createAlerter, parseAlerts } from "./alerts.ts";
import { parseEvent, type RunEvent } from "./events.ts";

const run = { id: "r1", name: "训练" };
const event = (value: object): RunEvent => parseEvent(JSON.stringify({ time: "2026-01-01T00:00:00.000Z", ...value }))!;
const start = event({ type: "start", step: 0, tokens: 0, attempt: 1 });
const step = (number: number) => event({ type: "step", step: number, tokens: 1, loss: 3 });
const intervention = event({ type: "intervention", step: 5, action: "rollback", reason: "the loss is NaN" });

let server: Server;
let url = "";
let answer: (count: number) => { status: number; headers?: Record<string, string> } = () => ({ status: 200 });
let received: { body: Alert; secret: string | undefined }[] = [];

before(async () => {
  server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => {
      body += chunk;
    });
    request.on("end", () => {
      received.push({ body: JSON.parse(body) as Alert, secret: request.headers["x-secret"] as string | undefined });
      const { status, headers } = answer(received.length);
      response.writeHead(status, headers).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook?token=secret`;
});
after(() => {
  server.closeAllConnections();
  server.close();
});

function alerter(changes: object = {}, clock = { ms: 0 }) {
  received = [];
  answer = () => ({ status: 200 });
  const failures: string[] = [];
  const alerts = [alertSchema.parse({ url, ...changes })];
  const made = createAlerter({
    run,
    alerts,
    now: () => clock.ms,
    retryMs: 1,
    onFailure: (reason) => failures.push(reason),
  });
  return { ...made, failures, clock };
}

test("what is asked for is posted, with the run, the step and the headers", async () => {
  const { see, close, failures } = alerter({ headers: { "X-Secret": "s" } });
  for (const each of [
    start,
    step(5),
    intervention,
    event({ type: "end", step: 9, tokens: 1, reason: "failed", error: "no disk" }),
  ])
    see(each);
  await close();
  assert.deepEqual(
    received.map(({ body }) => [body.kind, body.step, body.text]),
    [
      ["intervention", 5, "rollback: the loss is NaN"],
      ["failure", 5, "no disk"],
    ],
  );
  assert.deepEqual([received[0]!.body.run, received[0]!.secret], [run, "s"]);
  assert.deepEqual(failures, []);
});

test("a stall is told once, and again after steps went on", async () => {
  const { see, tick, close, clock } = alerter({ on: ["stall"], stallMinutes: 10 });
  see(start);
  for (const minutes of [5, 11, 12, 30]) {
    clock.ms = minutes * 60_000;
    tick();
  }
  see(step(1));
  clock.ms += 11 * 60_000;
  tick();
  see(event({ type: "end", step: 1, tokens: 1, reason: "steps" }));
  clock.ms += 11 * 60_000;
  tick();
  await close();
  assert.deepEqual(
    received.map(({ body }) => body.text),
    ["no step for 11 minutes", "no step for 11 minutes"],
  );
});

test("a server that is busy is asked again, one that refuses is not; failures keep secrets", async () => {
  const busy = alerter();
  answer = (count) => ({ status: count < 3 ? 503 : 200 });
  busy.see(intervention);
  await busy.close();
  assert.deepEqual([received.length, busy.failures], [3, []]);
  const refused = alerter();
  answer = () => ({ status: 403 });
  refused.see(intervention);
  await refused.close();
  assert.equal(received.length, 1);
  assert.match(refused.failures[0]!, /^http:\/\/127\.0\.0\.1:\d+\/…: HTTP 403$/);
});

test("an address that leads elsewhere is not followed, one that is dead fails quietly", async () => {
  const moved = alerter();
  answer = () => ({ status: 302, headers: { Location: "http://127.0.0.1:1/" } });
  moved.see(intervention);
  await moved.close();
  assert.equal(moved.failures.length, 1);
  const dead = alerter({ url: "http://127.0.0.1:1/" });
  dead.see(intervention);
  await dead.close();
  assert.equal(dead.failures.length, 1);
});

test("only http and https, only known keys", () => {
  for (const bad of [
    [{ url: "file:///etc/passwd" }],
    [{ url: "ftp://x/" }],
    [{ url: "x" }],
    [{ url: "http://x/", to: 1 }],
    [{ url: "http://x/", on: [] }],
    {},
  ]) {
    assert.throws(
      () => parseAlerts(bad),
      (error) => error instanceof CpmError && error.code === "CPM_LIVE_ALERT",
    );
  }
  assert.equal(parseAlerts([{ url: "https://example.org/hook" }])[0]!.stallMinutes, 30);
});
