/** The live server over real sockets: files and ranges, the stream with lost connections and slow readers, refusals. */
import assert from "node:assert/strict";
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { get, type IncomingMessage } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { brotliDecompressSync, gunzipSync, zstdDecompressSync } from "node:zlib";
import type { Absence } from "../src/live/protocol.ts";
import { parseRange } from "../src/live/range.ts";
import { type LiveServer, startLiveServer } from "../src/live/server.ts";
import { stepLine, writeSyntheticRun } from "./support/synthetic-run.ts";

const longScript = "console.log('a line of a script that is sent to everybody');\n".repeat(200);
let parent = "";
let folder = "";
let server: LiveServer;
const eventsOf = (id: string) => join(parent, id, "events.jsonl");
const address = (path: string) => `${server.url}${path}`;

before(async () => {
  parent = mkdtempSync(join(tmpdir(), "cpm-live-server-"));
  folder = writeSyntheticRun(parent, { id: "one", steps: 300 });
  writeSyntheticRun(parent, { id: "big", steps: 20, startMs: 1_600_000_000_000 });
  mkdirSync(join(folder, "checkpoints", "step-00000100"));
  writeFileSync(join(folder, "checkpoints", "step-00000100", "model.safetensors"), "weights");
  mkdirSync(join(folder, "log"));
  writeFileSync(join(folder, "log", "2026-01-01.zh.md"), "# 日志");
  symlinkSync("/etc/hostname", join(folder, "log", "link.zh.md"));
  const pages = join(parent, "pages");
  mkdirSync(join(pages, "assets"), { recursive: true });
  writeFileSync(join(pages, "index.html"), "<p>page");
  writeFileSync(join(pages, "assets", "main-abc.js"), "1");
  writeFileSync(join(pages, "assets", "long-abc.js"), longScript);
  server = await startLiveServer({
    runs: [parent],
    pages,
    host: "127.0.0.1",
    port: 0,
    checkpoints: true,
    now: Date.now,
  });
});

after(async () => {
  await server.close();
  rmSync(parent, { recursive: true });
});

/** Reads a stream until `enough` says so; the messages' ids and lines. */
function listen(
  id: string,
  from: number,
  enough: (lines: readonly string[]) => boolean,
  lastEventId?: number,
): Promise<{ lines: string[]; lastId: number }> {
  return new Promise((resolve, reject) => {
    const headers = lastEventId === undefined ? {} : { "Last-Event-ID": String(lastEventId) };
    const request = get(address(`api/runs/${id}/stream?from=${from}`), { headers }, (response: IncomingMessage) => {
      assert.match(response.headers["content-type"]!, /^text\/event-stream/);
      let rest = "";
      let lastId = 0;
      const lines: string[] = [];
      response.setEncoding("utf8").on("data", (chunk: string) => {
        const parts = (rest + chunk).split("\n\n");
        rest = parts.pop()!;
        for (const part of parts) {
          for (const line of part.split("\n")) {
            if (line.startsWith("id: ")) lastId = Number(line.slice(4));
            if (line.startsWith("data: ")) lines.push(line.slice(6));
          }
        }
        if (enough(lines)) {
          request.destroy();
          resolve({ lines, lastId });
        }
      });
    });
    request.on("error", (error) => (request.destroyed ? undefined : reject(error)));
  });
}

test("ranges as HTTP has them", () => {
  assert.deepEqual(parseRange("bytes=0-9", 100), { from: 0, to: 10 });
  assert.deepEqual(parseRange("bytes=90-", 100), { from: 90, to: 100 });
  assert.deepEqual(parseRange("bytes=-10", 100), { from: 90, to: 100 });
  assert.deepEqual(parseRange("bytes=90-500", 100), { from: 90, to: 100 });
  assert.equal(parseRange("bytes=100-", 100), null);
  assert.equal(parseRange("bytes=9-5", 100), null);
  for (const ignored of [undefined, "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6"])
    assert.equal(parseRange(ignored, 100), undefined);
});

test("the list, the description and the events; a part of them, and not at all where nothing is new", async () => {
  const list = (await (await fetch(address("api/runs.json"))).json()) as { id: string; eventBytes: number }[];
  const size = readFileSync(eventsOf("one")).length;
  assert.deepEqual(
    list.map(({ id, eventBytes }) => [id, eventBytes]),
    [
      ["one", size],
      ["big", readFileSync(eventsOf("big")).length],
    ],
  );
  const response = await fetch(address("api/runs/one/events.jsonl"));
  assert.equal(await response.text(), readFileSync(eventsOf("one"), "utf8"));
  const part = await fetch(address("api/runs/one/events.jsonl"), { headers: { Range: "bytes=10-19" } });
  assert.deepEqual([part.status, part.headers.get("content-range")], [206, `bytes 10-19/${size}`]);
  assert.equal(await part.text(), readFileSync(eventsOf("one"), "utf8").slice(10, 20));
  assert.equal(
    (await fetch(address("api/runs/one/events.jsonl"), { headers: { Range: `bytes=${size}-` } })).status,
    416,
  );
  const again = await fetch(address("api/runs/one/events.jsonl"), {
    headers: { "If-None-Match": response.headers.get("etag")! },
  });
  assert.equal(again.status, 304);
});

test("a torn last line is not sent until it is whole", async () => {
  const size = readFileSync(eventsOf("one")).length;
  const line = stepLine(301, {});
  appendFileSync(eventsOf("one"), line.slice(0, 40));
  const head = await fetch(address("api/runs/one/events.jsonl"), { method: "HEAD" });
  assert.equal(head.headers.get("content-length"), String(size));
  const listening = listen("one", size, (lines) => lines.length > 0);
  appendFileSync(eventsOf("one"), `${line.slice(40)}\n`);
  assert.deepEqual((await listening).lines, [line]);
});

test("whoever watches gets every line once, also after losing the connection", async () => {
  const whole = () => readFileSync(eventsOf("one"), "utf8").trimEnd().split("\n");
  const first = await listen("one", 0, (lines) => lines.length >= 100);
  const waiting = listen("one", 0, (lines) => lines.at(-1) === stepLine(350, {}), first.lastId);
  for (let step = 302; step <= 350; step++) appendFileSync(eventsOf("one"), `${stepLine(step, {})}\n`);
  const second = await waiting;
  assert.deepEqual([...first.lines, ...second.lines], whole());
});

test("fifty viewers, some of which come and go, all get the same", { timeout: 60_000 }, async () => {
  const from = readFileSync(eventsOf("one")).length;
  const last = stepLine(650, {});
  const steady = Array.from({ length: 40 }, () => listen("one", from, (lines) => lines.at(-1) === last));
  const restless = Array.from({ length: 10 }, async (_, i) => {
    const lines: string[] = [];
    let at = from;
    while (lines.at(-1) !== last) {
      const wanted = 3 + 7 * i;
      const part = await listen("one", from, (got) => got.length >= wanted || got.at(-1) === last, at);
      lines.push(...part.lines);
      at = part.lastId;
    }
    return { lines };
  });
  for (let step = 351; step <= 650; step++) {
    appendFileSync(eventsOf("one"), `${stepLine(step, {})}\n`);
    if (step % 20 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  const expected = Array.from({ length: 300 }, (_, i) => stepLine(351 + i, {}));
  for (const { lines } of await Promise.all([...steady, ...restless])) assert.deepEqual(lines, expected);
});

test("a viewer that does not read costs no memory and misses nothing", { timeout: 60_000 }, async () => {
  const from = readFileSync(eventsOf("big")).length;
  const request = get(address(`api/runs/big/stream?from=${from}`));
  const response = await new Promise<IncomingMessage>((resolve) => request.on("response", resolve));
  response.pause();
  const before = process.memoryUsage().rss;
  const line = JSON.stringify({ time: new Date(0).toISOString(), type: "note", text: "字".repeat(20_000) });
  const lines = 1500; // 90 MB
  for (let i = 0; i < lines; i++) {
    appendFileSync(eventsOf("big"), `${line}\n`);
    if (i % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await new Promise((resolve) => setTimeout(resolve, 300));
  // What the lines were written with is garbage by now, and no growth of the server's.
  setFlagsFromString("--expose-gc");
  runInNewContext("gc")();
  const grown = (process.memoryUsage().rss - before) / 2 ** 20;
  assert.ok(grown < 85, `the server took ${grown.toFixed(0)} MiB for a reader that does not read`);
  let received = 0;
  await new Promise<void>((resolve) => {
    let rest = "";
    response.setEncoding("utf8").on("data", (chunk: string) => {
      const parts = (rest + chunk).split("\n");
      rest = parts.pop()!;
      for (const part of parts) if (part === `data: ${line}`) received++;
      if (received === lines) resolve();
    });
    response.resume();
  });
  request.destroy();
  assert.equal(received, lines);
});

test("files of a run and of the pages, with their types and how long they keep", async () => {
  const checkpoint = await fetch(address("api/runs/one/checkpoints/step-00000100/model.safetensors"), {
    headers: { Range: "bytes=0-2" },
  });
  assert.deepEqual([checkpoint.status, await checkpoint.text()], [206, "wei"]);
  assert.match(checkpoint.headers.get("content-disposition")!, /^attachment/);
  const entries = await (await fetch(address("api/runs/one/checkpoints.json"))).json();
  assert.deepEqual(entries, [{ step: 100, files: [{ name: "model.safetensors", bytes: 7 }] }]);
  assert.deepEqual(await (await fetch(address("api/runs/one/log.json"))).json(), ["2026-01-01.zh.md", "link.zh.md"]);
  assert.equal(await (await fetch(address("api/runs/one/log/2026-01-01.zh.md"))).text(), "# 日志");
  const asset = await fetch(address("assets/main-abc.js"));
  assert.match(asset.headers.get("cache-control")!, /immutable/);
  const page = await fetch(server.url);
  assert.match(page.headers.get("content-security-policy")!, /default-src 'none'.*frame-ancestors 'none'/);
  assert.equal(page.headers.get("x-content-type-options"), "nosniff");
});

test("cost and carbon of the events so far", async () => {
  const ledger = (await (await fetch(address("api/runs/one/ledger.json"))).json()) as { kWh: number; kgCo2e: number };
  // 20 W over some hundred seconds of the run
  assert.ok(ledger.kWh > 0.0015 && ledger.kWh < 0.005, String(ledger.kWh));
  assert.ok(ledger.kgCo2e > 0);
  assert.match(await (await fetch(address("metrics"))).text(), /cpm_live_viewers \d/);
});

test("nothing outside of a run can be read", async () => {
  const paths = [
    "api/runs/one/log/link.zh.md",
    "api/runs/one/log/..%2frun.json",
    "api/runs/one/samples/%2e%2e%2frun.json",
    "api/runs/one/checkpoints/..%2f..%2frun.json/x",
    "api/runs/one/checkpoints/step-00000100/..%2f..%2frun.json",
    "api/runs/one/log/.hidden",
    "assets/..%2findex.html",
    "api/runs/two/run.json",
    "api/runs/..%2fone/run.json",
    "etc/passwd",
  ];
  for (const path of paths) assert.equal((await fetch(address(path))).status, 404, path);
});

test("only reading, short addresses, sensible offsets", async () => {
  for (const method of ["POST", "PUT", "DELETE", "PATCH"])
    assert.equal((await fetch(server.url, { method })).status, 405);
  assert.equal((await fetch(address(`?${"x".repeat(4000)}`))).status, 414);
  for (const from of ["-1", "x", "1e99"])
    assert.equal((await fetch(address(`api/runs/one/stream?from=${from}`))).status, 400);
});

test("several runs in one stream, each from where its reader is", async () => {
  const sizes = ["one", "big"].map((id) => readFileSync(eventsOf(id)).length);
  const received = new Map<string, { end: number; lines: string[] }>();
  const places = `one~${sizes[0]! - 1 - readFileSync(eventsOf("one"), "utf8").trimEnd().split("\n").at(-1)!.length}`;
  await new Promise<void>((resolve, reject) => {
    const request = get(address(`api/stream?runs=${places},big~0,gone~0`), (response) => {
      let rest = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        const parts = (rest + chunk).split("\n\n");
        rest = parts.pop()!;
        for (const part of parts) {
          const id = /^event: (.*)$/m.exec(part)?.[1];
          if (id === undefined) continue;
          const [end, ...lines] = [...part.matchAll(/^data: (.*)$/gm)].map(([, text]) => text!);
          const known = received.get(id)?.lines ?? [];
          received.set(id, { end: Number(end), lines: [...known, ...lines] });
        }
        if (received.get("one")?.end === sizes[0]! + addition.length && received.get("big")?.end === sizes[1]) {
          request.destroy();
          resolve();
        } else if (received.size === 2 && !added) {
          added = true;
          appendFileSync(eventsOf("one"), addition);
        }
      });
    });
    let added = false;
    const addition = `${stepLine(9999, {})}\n`;
    request.on("error", (error) => (request.destroyed ? undefined : reject(error)));
  });
  assert.deepEqual(received.get("big")!.lines, readFileSync(eventsOf("big"), "utf8").trimEnd().split("\n"));
  assert.deepEqual(received.get("one")!.lines, readFileSync(eventsOf("one"), "utf8").trimEnd().split("\n").slice(-2));
  for (const bad of ["", "one", "one~x", "one~-1", "../x~0", Array(40).fill("one~0").join()])
    assert.equal((await fetch(address(`api/stream?runs=${bad}`))).status, 400, bad);
});

test("runs asked for at once are all found when they have just appeared", async () => {
  await new Promise((resolve) => setTimeout(resolve, 2100));
  writeSyntheticRun(parent, { id: "sudden", steps: 3 });
  const paths = ["run.json", "events.jsonl", "ledger.json", "log.json"].map((name) => `api/runs/sudden/${name}`);
  const statuses = await Promise.all(paths.map(async (path) => (await fetch(address(path))).status));
  assert.deepEqual(statuses, [200, 200, 200, 200]);
});

test("a run that is not there: 404 in JSON, what and what to do, in both languages", async () => {
  for (const [path, code] of [
    ["api/runs/nobody/run.json", "CPM_LIVE_NO_RUN"],
    ["api/runs/nobody/events.jsonl", "CPM_LIVE_NO_RUN"],
    ["api/runs/nobody/stream?from=0", "CPM_LIVE_NO_RUN"],
    ["api/runs/one/log/none.md", "CPM_LIVE_NO_FILE"],
    ["api/elsewhere", "CPM_LIVE_NO_FILE"],
  ] as const) {
    const response = await fetch(address(path));
    assert.equal(response.status, 404);
    const { error, message, remedy } = (await response.json()) as Absence;
    assert.equal(error, code, path);
    for (const { zh, en } of [message, remedy]) assert.ok(/\p{Script=Han}/u.test(zh) && /^\w/.test(en));
  }
});

/** Status, headers and undecoded body: fetch would decode it. */
function raw(path: string, headers: Record<string, string>) {
  return new Promise<{ status: number; headers: IncomingMessage["headers"]; body: Buffer }>((resolve, reject) => {
    get(address(path), { headers }, (response) => {
      const parts: Buffer[] = [];
      response.on("data", (part: Buffer) => parts.push(part)).on("error", reject);
      response.on("end", () =>
        resolve({ status: response.statusCode!, headers: response.headers, body: Buffer.concat(parts) }),
      );
    }).on("error", reject);
  });
}

test("texts are compressed as the client takes it; parts, small answers, weights and streams are not", async () => {
  const decoders = { gzip: gunzipSync, br: brotliDecompressSync, zstd: zstdDecompressSync } as const;
  const events = readFileSync(eventsOf("one"));
  for (const [accept, encoding] of [
    ["gzip", "gzip"],
    ["gzip, deflate, br", "br"],
    ["gzip, deflate, br, zstd", "zstd"],
    ["gzip;q=1, br;q=0.5", "gzip"],
    ["br;q=0, *", "zstd"],
  ] as const) {
    const whole = await raw("api/runs/one/events.jsonl", { "Accept-Encoding": accept });
    assert.equal(whole.headers["content-encoding"], encoding, accept);
    assert.equal(whole.headers["content-length"], undefined);
    assert.match(whole.headers.vary!, /Accept-Encoding/);
    assert.ok(whole.body.length < events.length / 3, `${encoding}: ${whole.body.length} of ${events.length}`);
    assert.ok(decoders[encoding](whole.body).equals(events));
    const etag = whole.headers.etag!;
    assert.match(etag, /^W\//);
    const again = await raw("api/runs/one/events.jsonl", { "Accept-Encoding": accept, "If-None-Match": etag });
    assert.equal(again.status, 304);
    const part = await raw("api/runs/one/events.jsonl?from=1000", { "Accept-Encoding": accept });
    assert.deepEqual([part.status, part.headers["x-event-from"]], [200, "1000"]);
    assert.ok(decoders[encoding](part.body).equals(events.subarray(1000)));
    for (let round = 0; round < 2; round++) {
      const asset = await raw("assets/long-abc.js", { "Accept-Encoding": accept });
      assert.equal(asset.headers["content-encoding"], encoding);
      assert.equal(decoders[encoding](asset.body).toString(), longScript);
      assert.equal(Number(asset.headers["content-length"]), asset.body.length);
    }
  }
  const all = { "Accept-Encoding": "gzip, br, zstd" };
  const range = await raw("api/runs/one/events.jsonl", { ...all, Range: "bytes=0-9999" });
  assert.deepEqual([range.status, range.headers["content-encoding"]], [206, undefined]);
  assert.ok(range.body.equals(events.subarray(0, 10_000)));
  const small = await raw("api/runs/one/log.json", all);
  assert.equal(small.headers["content-encoding"], undefined);
  assert.deepEqual(JSON.parse(small.body.toString()), ["2026-01-01.zh.md", "link.zh.md"]);
  const weights = await raw("api/runs/one/checkpoints/step-00000100/model.safetensors", all);
  assert.equal(weights.headers["content-encoding"], undefined);
  for (const accept of ["identity", "gzip;q=0", "identity, gzip;q=0.5", "deflate"])
    assert.equal(
      (await raw("api/runs/one/events.jsonl", { "Accept-Encoding": accept })).headers["content-encoding"],
      undefined,
      accept,
    );
  await new Promise<void>((resolve) => {
    const request = get(address("api/runs/one/stream?from=0"), { headers: all }, (response) => {
      assert.equal(response.headers["content-encoding"], undefined);
      request.destroy();
      resolve();
    });
  });
  for (const from of ["-1", "x", "1e99", String(events.length + 1)])
    assert.equal((await fetch(address(`api/runs/one/events.jsonl?from=${from}`))).status, 400, from);
});

test("a run that appears is listed without a restart", { timeout: 15_000 }, async () => {
  writeSyntheticRun(parent, { id: "later", steps: 3 });
  for (;;) {
    const list = (await (await fetch(address("api/runs.json"))).json()) as { id: string }[];
    if (list.some(({ id }) => id === "later")) break;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
});

test("a replay releases lines by their time, in order, and says so", { timeout: 15_000 }, async () => {
  const startMs = 1_700_000_000_000;
  let clock = 5_000_000;
  const replay = { speed: 100, fromMs: startMs };
  const replayed = await startLiveServer({
    runs: [folder],
    pages: parent,
    host: "127.0.0.1",
    port: 0,
    checkpoints: false,
    replay,
    now: () => clock,
  });
  try {
    const countAt = async () =>
      (await (await fetch(`${replayed.url}api/runs/one/events.jsonl`)).text())
        .split("\n")
        .filter((line) => line.includes('"type":"step"')).length;
    const list = (await (await fetch(`${replayed.url}api/runs.json`)).json()) as { replaySpeed: number }[];
    assert.equal(list[0]!.replaySpeed, 100);
    assert.equal(await countAt(), 0);
    clock += 500; // 50 seconds of the run
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.equal(await countAt(), 50);
    assert.deepEqual(await (await fetch(`${replayed.url}api/runs/one/checkpoints.json`)).json(), []);
  } finally {
    await replayed.close();
  }
});
