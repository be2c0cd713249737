/** What users of OpenAI's API, vLLM and llama.cpp's server expect of a server beside plain completions. */
import assert from "node:assert/strict";
import { after, suite, test } from "node:test";
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import OpenAI from "openai";
import { completionAnswer } from "../src/serve/api-schemas.ts";
import { eventsOf, startTestServer } from "./support/served-model.ts";
import { temporaryFolder, writeSmallModel } from "./support/text-model.ts";

const folder = temporaryFolder("cpm-serve-compatible-");
await writeSmallModel(folder);
const api = await startTestServer(folder);
after(() => api.server.drain(0));
const client = new OpenAI({ baseURL: `${api.url}/v1`, apiKey: "unused", maxRetries: 0 });
const model = "small";
const prompt = "春天来了，";

/** vLLM's and ours, which the client's types do not have. */
const complete = (body: Record<string, unknown>) =>
  client.completions.create({
    model,
    prompt,
    max_tokens: 12,
    seed: 3,
    ...body,
  } as OpenAI.CompletionCreateParamsNonStreaming);
const textOf = ({ choices }: OpenAI.Completion) => choices[0]!.text;

async function refused(body: Record<string, unknown>, code: string, param: string, path = "/v1/completions") {
  const response = await api.post(path, path === "/v1/completions" ? { prompt, ...body } : body);
  const { error } = (await response.json()) as { error: { code: string; param: string; message: string } };
  assert.deepEqual([error.code, error.param], [code, param]);
  return error.message;
}

suite("completions", { timeout: 120_000 }, () => {
  test("echo: the prompt in front, its tokens with the probabilities of /score, streamed as well", async () => {
    const plain = await complete({ logprobs: 2 });
    const echoed = await complete({ logprobs: 2, echo: true });
    assert.equal(textOf(echoed), prompt + textOf(plain));
    const { logprobs } = echoed.choices[0]!;
    const scored = await api.ask<{ tokens: { logprob: number; token: string }[] }>("/score", { text: prompt });
    const count = scored.tokens.length;
    assert.deepEqual(logprobs!.tokens, [
      ...scored.tokens.map(({ token }) => token),
      ...plain.choices[0]!.logprobs!.tokens!,
    ]);
    assert.deepEqual(
      logprobs!.token_logprobs!.slice(0, count),
      scored.tokens.map(({ logprob }) => logprob),
    );
    assert.deepEqual(logprobs!.token_logprobs!.slice(count), plain.choices[0]!.logprobs!.token_logprobs);
    assert.equal(logprobs!.text_offset![count], scored.tokens.map(({ token }) => token).join("").length);
    assert.equal(Object.keys(logprobs!.top_logprobs![0]!).length, 2);
    assert.equal(echoed.usage!.prompt_tokens, plain.usage!.prompt_tokens);
    const stream = await api.post("/v1/completions", {
      prompt,
      max_tokens: 12,
      seed: 3,
      logprobs: 2,
      echo: true,
      stream: true,
    });
    const chunks = eventsOf(await stream.text())
      .slice(0, -1)
      .map((event) => completionAnswer.parse(event));
    assert.equal(chunks.map(({ choices }) => choices[0]!.text).join(""), textOf(echoed));
    assert.equal(chunks[0]!.choices[0]!.text, prompt);
    const joined = chunks.flatMap(({ choices }) => choices[0]!.logprobs!.text_offset);
    assert.deepEqual(joined, logprobs!.text_offset);
  });

  test("echo of several prompts and of ids; with max_tokens 0 a prompt is only scored", async () => {
    const both = await complete({ prompt: ["春天", "夏天来了"], echo: true, n: 2 });
    assert.deepEqual(
      both.choices.map(({ text }) => text.slice(0, 2)),
      ["春天", "春天", "夏天", "夏天"],
    );
    const { tokens } = await api.ask<{ tokens: number[] }>("/tokenize", { text: "春天来了" });
    const scored = await complete({ prompt: [tokens, tokens.slice(0, 1)], echo: true, max_tokens: 0, logprobs: 1 });
    assert.equal(textOf(scored), "春天来了");
    assert.deepEqual(
      scored.choices.map(({ logprobs }) => logprobs!.token_logprobs!.length),
      [tokens.length, 1],
    );
    assert.equal(scored.usage!.completion_tokens, 0);
    assert.equal(scored.choices[0]!.finish_reason, "length");
    await refused({ max_tokens: 0 }, "invalid_value", "max_tokens");
    await refused({ max_tokens: 0, echo: true, stream: true }, "invalid_value", "max_tokens");
  });

  test("best_of: of several texts those with the highest mean log probability", async () => {
    const all = await complete({ n: 4, logprobs: 0 });
    const mean = ({ logprobs }: OpenAI.CompletionChoice) => {
      const { token_logprobs } = logprobs!;
      return token_logprobs!.reduce((sum, each) => sum + each, 0) / token_logprobs!.length;
    };
    const ranked = all.choices.toSorted((a, b) => mean(b) - mean(a)).map(({ text }) => text);
    const best = await complete({ n: 2, best_of: 4 });
    assert.deepEqual(
      best.choices.map(({ text, index }) => [index, text]),
      ranked.slice(0, 2).map((text, index) => [index, text]),
    );
    assert.equal(best.usage!.completion_tokens, all.usage!.completion_tokens);
    await refused({ n: 3, best_of: 2 }, "invalid_value", "best_of");
    await refused({ best_of: 2, stream: true }, "invalid_value", "best_of");
    await refused({ best_of: 5 }, "invalid_value", "n");
  });

  test("presence and frequency penalties keep tokens from coming again", async () => {
    const distinct = async (body: Record<string, unknown>) => {
      const { choices } = await complete({ temperature: 0, max_tokens: 60, ignore_eos: true, logprobs: 0, ...body });
      return new Set(choices[0]!.logprobs!.tokens).size;
    };
    const plain = await distinct({ logit_bias: { 300: 40 } });
    assert.equal(plain, 1, "one token is far ahead");
    assert.equal(await distinct({ logit_bias: { 300: 40 }, presence_penalty: 2 }), 1, "a penalty once is not enough");
    assert.ok((await distinct({ logit_bias: { 300: 40 }, frequency_penalty: 2 })) > 1);
    await refused({ presence_penalty: 3 }, "invalid_value", "presence_penalty");
  });

  test("stop_token_ids end a text, ignore_eos lets none end", async () => {
    // An end is not allowed to come first.
    const stopped = await complete({ max_tokens: 20, logit_bias: { 300: 100 }, stop_token_ids: [300] });
    assert.deepEqual([stopped.usage!.completion_tokens, stopped.choices[0]!.finish_reason], [1, "stop"]);
    const endless = await complete({ max_tokens: 30, ignore_eos: true });
    assert.equal(endless.usage!.completion_tokens, 30);
    assert.equal(endless.choices[0]!.finish_reason, "length");
    await refused({ stop_token_ids: [1200] }, "invalid_value", "stop_token_ids");
  });

  test("what clients send along is taken; what cannot be done is refused with a way out", async () => {
    await complete({ user: "u", metadata: { run: "1" }, store: false, service_tier: "auto", prompt_cache_key: "k" });
    const messages = [{ role: "user", content: "你好" }];
    const tools = [{ type: "function", function: { name: "f", parameters: {} } }];
    assert.match(
      await refused({ messages, tools }, "unsupported_parameter", "tools", "/v1/chat/completions"),
      /response_format/,
    );
    await refused({ store: true }, "unsupported_parameter", "store");
    assert.match(await refused({ suffix: "x" }, "unsupported_parameter", "suffix"), /\/v1\/fill/);
  });
});

suite("HTTP", { timeout: 120_000 }, () => {
  test("a request keeps the name that its client gave it, where it may stand in a log", async () => {
    const named = await api.post("/tokenize", { text: "春" }, { headers: { "X-Request-Id": "trace-1/span.2" } });
    assert.equal(named.headers.get("x-request-id"), "trace-1/span.2");
    assert.ok(api.log.some(({ client_request }) => client_request === "trace-1/span.2"));
    const wrong = await api.post("/tokenize", { text: 1 }, { headers: { "X-Request-Id": "trace-2" } });
    assert.equal(wrong.headers.get("x-request-id"), "trace-2");
    for (const bad of ["a b", "x".repeat(200), '"', "é"]) {
      const { headers } = await api.post("/tokenize", { text: "春" }, { headers: { "X-Request-Id": bad } });
      assert.match(headers.get("x-request-id")!, /^[0-9a-f-]{36}$/);
    }
    const completion = await api.ask<{ id: string }>(
      "/v1/completions",
      { prompt, max_tokens: 1 },
      { headers: { "X-Request-Id": "same" } },
    );
    assert.match(completion.id, /^cmpl-[0-9a-f-]{36}$/, "answers have ids of their own");
  });

  test("packed bodies are unpacked, up to the limit", async () => {
    const body = JSON.stringify({ text: "春天来了" });
    const expected = await api.ask<{ tokens: number[] }>("/tokenize", { text: "春天来了" });
    const send = (packed: Uint8Array, encoding: string) =>
      fetch(`${api.url}/tokenize`, {
        method: "POST",
        body: packed as Uint8Array<ArrayBuffer>,
        headers: { "Content-Encoding": encoding },
      });
    for (const [encoding, pack] of [
      ["gzip", gzipSync],
      ["deflate", deflateSync],
      ["br", brotliCompressSync],
      ["zstd", zstdCompressSync],
      ["GZIP", gzipSync],
      ["identity", (text: string) => Buffer.from(text)],
    ] as const) {
      const response = await send(pack(body), encoding);
      assert.equal(response.status, 200, encoding);
      assert.deepEqual(((await response.json()) as { tokens: number[] }).tokens, expected.tokens);
    }
    const codeOf = async (response: Response) => ((await response.json()) as { error: { code: string } }).error.code;
    const bomb = await send(gzipSync(`{"text":"${" ".repeat(50_000_000)}"}`), "gzip");
    assert.deepEqual([bomb.status, await codeOf(bomb)], [413, "request_too_large"]);
    const unknown = await send(Buffer.from(body), "snappy");
    assert.deepEqual([unknown.status, await codeOf(unknown)], [415, "unsupported_encoding"]);
    for (const broken of [Buffer.from(body), gzipSync(body).subarray(0, 20)])
      assert.equal(await codeOf(await send(broken, "gzip")), "invalid_json");
  });

  test("HEAD, OPTIONS, Allow; one model by its name; health by the name that others have", async () => {
    for (const path of ["/v1/models", "/v1/models/small", "/health", "/health/live", "/metrics", "/openapi.json"]) {
      const head = await fetch(api.url + path, { method: "HEAD" });
      assert.equal(head.status, 200, path);
      assert.equal(await head.text(), "");
      assert.equal((await fetch(api.url + path)).status, 200);
      const wrong = await fetch(api.url + path, { method: "DELETE" });
      assert.deepEqual([wrong.status, wrong.headers.get("allow")], [405, "GET, HEAD, OPTIONS"], path);
    }
    const options = await fetch(`${api.url}/v1/completions`, { method: "OPTIONS" });
    assert.deepEqual([options.status, options.headers.get("allow")], [204, "POST, OPTIONS"]);
    const get = await fetch(`${api.url}/v1/completions`);
    assert.deepEqual([get.status, get.headers.get("allow")], [405, "POST, OPTIONS"]);
    assert.equal((await fetch(`${api.url}/v1/nothing`, { method: "OPTIONS" })).status, 404);
    assert.equal((await client.models.retrieve("small")).id, "small");
    await assert.rejects(client.models.retrieve("other"), OpenAI.NotFoundError);
  });

  test("draining twice is draining once", async () => {
    const own = await startTestServer(folder);
    const open = own.ask<OpenAI.Completion>("/v1/completions", { prompt, max_tokens: 40, ignore_eos: true });
    await new Promise((resolve) => setTimeout(resolve, 50));
    const first = own.server.drain(20_000);
    const second = own.server.drain(0);
    assert.equal((await open).usage!.completion_tokens, 40, "the second did not cut the first short");
    await Promise.all([first, second, own.server.drain(0)]);
    assert.equal(own.log.filter(({ event }) => event === "stopped").length, 1);
  });
});
