/**
 * A server among clients that misbehave, in miniature (`bench/serve-faults.ts` is the full size): clients that vanish,
 * read nothing or send nonsense, workers that are killed, a stop under load. Afterwards all is as before.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { request as httpRequest } from "node:http";
import { connect } from "node:net";
import { after, suite, test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { apiErrors } from "../src/serve/api-errors.ts";
import { bodiesFor } from "./support/request-bodies.ts";
import { eventsOf, startTestServer } from "./support/served-model.ts";
import { temporaryFolder, writeSmallModel } from "./support/text-model.ts";

const folder = temporaryFolder("cpm-serve-faults-");
await writeSmallModel(folder);
const api = await startTestServer(folder, { maxWaiting: 200 });
after(() => api.server.drain(0));

/** Fails unless the server is idle soon: no request waits or works, no row is taken. */
async function assertIdle(): Promise<void> {
  for (let i = 0; i < 200; i++) {
    const { open, pool } = api.model.dispatcher;
    if (open === 0 && pool.states.every(({ rows, jobs, ready }) => rows === 0 && jobs === 0 && ready)) return;
    await wait(50);
  }
  assert.fail(`${api.model.dispatcher.open} requests are open, ${JSON.stringify(api.model.dispatcher.pool.states)}`);
}

/** A refusal by type, or a whole answer. */
async function answered(response: Response): Promise<string> {
  const text = await response.text();
  if (response.status === 200) return "ok";
  const { error } = JSON.parse(text) as { error: { code: string } };
  assert.equal(apiErrors[error.code as keyof typeof apiErrors]?.status, response.status, text);
  return error.code;
}

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

async function liveHeapBytes(): Promise<number> {
  for (let i = 0; i < 4; i++) {
    collect();
    await wait(50);
  }
  return process.memoryUsage().heapUsed;
}

suite("faults", { timeout: 240_000 }, () => {
  test("a third of the clients vanish in the middle; the others get every token", async () => {
    const expected = await api.ask<{ choices: { text: string }[] }>("/v1/completions", {
      prompt: "春天来了",
      max_tokens: 40,
      min_tokens: 40,
      seed: 1,
    });
    const client = async (index: number): Promise<string> => {
      const leaving = new AbortController();
      const body = { prompt: "春天来了", max_tokens: 40, min_tokens: 40, seed: 1, stream: true };
      try {
        const response = await api.post("/v1/completions", body, { signal: leaving.signal });
        assert.equal(response.status, 200);
        let text = "";
        for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
          text += part;
          if (index % 3 === 0) leaving.abort();
        }
        return eventsOf(text)
          .filter((event) => event !== "[DONE]")
          .map((event) => (event as { choices: { text: string }[] }).choices[0]!.text)
          .join("");
      } catch (error) {
        assert.ok(leaving.signal.aborted, String(error));
        return "left";
      }
    };
    const texts = await Promise.all(Array.from({ length: 30 }, (_, index) => client(index)));
    for (const [index, text] of texts.entries())
      assert.equal(text, index % 3 === 0 ? "left" : expected.choices[0]!.text, `client ${index}`);
    await assertIdle();
    assert.ok(api.log.some(({ code }) => code === "client_left"));
  });

  test("bodies made from the OpenAPI document and then spoiled: an answer or a typed refusal, never a failure", async () => {
    const document = await (await fetch(`${api.url}/openapi.json`)).json();
    const before = api.log.length;
    for (const { path, bodies } of bodiesFor(document)) {
      const codes = new Set<string>();
      await fc.assert(
        fc.asyncProperty(bodies, async (body) => {
          const code = await answered(await api.post(path, body));
          codes.add(code);
          assert.notEqual(code, "internal_error");
          assert.notEqual(code, "model_failure");
        }),
        { numRuns: 30, seed: 7 },
      );
      assert.ok(codes.has("ok") || path === "/v1/fill", `${path}: no body was good`);
      assert.ok(codes.has("invalid_json") && codes.has("invalid_value"), `${path}: ${[...codes].join(", ")}`);
    }
    assert.equal(api.log.slice(before).filter(({ event }) => event === "internal_error").length, 0);
    await assertIdle();
  });

  test("what is no HTTP, or stops in the middle, harms no one", async () => {
    const { port } = api.server;
    const raw = (text: string) =>
      new Promise<string>((resolve) => {
        const socket = connect(port, "127.0.0.1", () => socket.end(text));
        let got = "";
        socket.on("data", (data) => {
          got += data;
        });
        socket.on("close", () => resolve(got)).on("error", () => {});
      });
    assert.match(await raw("\0\x01\x02\r\n\r\n"), /^HTTP\/1\.1 400/);
    await raw('POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"prompt":');
    await raw(`GET /${"a".repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`);
    await raw(`POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n[]GARBAGE`);
    await assertIdle();
    await api.ask("/tokenize", { text: "春" });
  });

  test("a client that reads nothing does not hold up the others", async () => {
    const body = JSON.stringify({ prompt: "春天", max_tokens: 60, min_tokens: 60, stream: true, n: 2, logprobs: 20 });
    const slow = httpRequest(`${api.url}/v1/completions`, { method: "POST" });
    slow.end(body);
    const response = await new Promise<import("node:http").IncomingMessage>((resolve) =>
      slow.once("response", resolve),
    );
    response.pause();
    await assertIdle();
    await api.ask("/v1/completions", { prompt: "春天", max_tokens: 5 });
    let text = "";
    for await (const part of response.setEncoding("utf8")) text += part;
    assert.equal(eventsOf(text).at(-1), "[DONE]", "what it asked for was kept for it");
  });

  test("the worker is killed while it streams: every stream goes on to its end, as if nothing had been", async () => {
    const ask = (seed: number) => ({ prompt: "春天来了", max_tokens: 60, min_tokens: 60, seed, stream: true });
    const whole = await Promise.all(
      [1, 2, 3].map((seed) =>
        api.ask<{ choices: { text: string }[] }>("/v1/completions", { ...ask(seed), stream: false }),
      ),
    );
    const streams = await Promise.all([1, 2, 3].map((seed) => api.post("/v1/completions", ask(seed))));
    const { pid } = api.model.dispatcher.pool.states[0]!;
    process.kill(pid!, "SIGKILL");
    for (const [at, stream] of streams.entries()) {
      const events = eventsOf(await stream.text());
      assert.equal(events.at(-1), "[DONE]");
      const texts = events.slice(0, -1).map((event) => (event as { choices: { text: string }[] }).choices[0]!.text);
      assert.equal(texts.join(""), whole[at]!.choices[0]!.text);
    }
    await assertIdle();
    assert.notEqual(api.model.dispatcher.pool.states[0]!.pid, pid);
    assert.equal((await fetch(`${api.url}/health/ready`)).status, 200);
  });

  test("requests leave nothing on the heap, however they end", async () => {
    const ask = { prompt: "夏天", max_tokens: 4 };
    const kinds: Record<string, () => Promise<unknown>> = {
      refused: async () => (await api.post("/v1/completions", { prompt: 3 })).text(),
      whole: async () => (await api.post("/v1/completions", ask)).text(),
      streamed: async () => (await api.post("/v1/completions", { ...ask, stream: true })).text(),
      left: async () => {
        const leaving = new AbortController();
        const body = { ...ask, max_tokens: 60, min_tokens: 60, stream: true };
        const response = await api.post("/v1/completions", body, { signal: leaving.signal });
        await response.body!.getReader().read();
        leaving.abort();
      },
    };
    for (const [name, kind] of Object.entries(kinds)) {
      const many = async (count: number) => {
        for (let done = 0; done < count; done += 8) await Promise.all(Array.from({ length: 8 }, kind));
        await assertIdle();
        api.log.length = 0;
        return await liveHeapBytes();
      };
      const before = await many(200);
      const perRequest = ((await many(400)) - before) / 400;
      // What a request holds while it is open is some tens of kilobytes.
      assert.ok(perRequest < 3000, `${name}: ${perRequest.toFixed(0)} bytes a request`);
    }
  });

  test("SIGTERM under load: what is under way is finished, the rest refused by type, and the process ends well", async (context) => {
    const cpm = fileURLToPath(new URL("../bin/cpm.js", import.meta.url));
    const words = ["serve", folder, "--port", "0", "--rows", "2", "--context", "96", "--threads", "1", "--json"];
    const child = spawn(process.execPath, [cpm, ...words], { stdio: ["ignore", "pipe", "pipe"] });
    context.after(() => child.kill("SIGKILL"));
    let log = "";
    child.stderr.setEncoding("utf8").on("data", (text) => {
      log += text;
    });
    const url = await new Promise<string>((resolve, reject) => {
      child.stdout.setEncoding("utf8").once("data", (line) => resolve(JSON.parse(line).url));
      child.once("exit", () => reject(new Error(log)));
    });
    const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
    const body = JSON.stringify({ prompt: "春天来了", max_tokens: 60, min_tokens: 60, stream: true });
    const client = async (): Promise<string> => {
      const response = await fetch(`${url}/v1/completions`, { method: "POST", body });
      if (response.status !== 200) return ((await response.json()) as { error: { code: string } }).error.code;
      return eventsOf(await response.text()).at(-1) === "[DONE]" ? "done" : "cut";
    };
    const open = Array.from({ length: 6 }, client);
    await wait(300);
    child.kill("SIGTERM");
    await wait(50);
    const ready = await fetch(`${url}/health/ready`).then(
      ({ status }) => status,
      () => 0,
    );
    assert.ok(ready === 503 || ready === 0, `${ready}`);
    const late = await client().catch(() => "closed");
    assert.ok(late === "shutting_down" || late === "closed", late);
    assert.deepEqual(new Set(await Promise.all(open)), new Set(["done"]));
    assert.equal(await ended, 0, log);
    assert.match(log, /"event":"stopped"/);
  });
});
