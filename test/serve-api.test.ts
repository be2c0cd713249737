/** The API over a small model in a worker process: what it answers, in whose name, and how it refuses. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { after, suite, test } from "node:test";
import { promisify } from "node:util";
import type { z } from "zod";
import { openCheckpoint } from "../src/checkpoint/index.ts";
import { attachDelta, baseHash, saveDelta } from "../src/delta/index.ts";
import { createTextGenerator, openTextModel } from "../src/infer/index.ts";
import { createNativeRuntime } from "../src/runtime/index.ts";
import { apiErrors } from "../src/serve/api-errors.ts";
import { addKey, revokeKeys } from "../src/serve/api-keys.ts";
import {
  chatAnswer,
  chatChunk,
  completionAnswer,
  detokenizeAnswer,
  embeddingAnswer,
  errorAnswer,
  fillAnswer,
  modelList,
  scoreAnswer,
  tokenizeAnswer,
} from "../src/serve/api-schemas.ts";
import { chatTranscript } from "../src/serve/completions.ts";
import { fillNormal } from "../src/util/random.ts";
import { eventsOf, startTestServer, type TestServer } from "./support/served-model.ts";
import { temporaryFolder, writeSmallModel } from "./support/text-model.ts";

const folder = temporaryFolder("cpm-serve-");
await writeSmallModel(folder);
const api: TestServer = await startTestServer(folder, { corsOrigins: ["https://app.example"] });
after(() => api.server.drain(0));

type Completion = z.output<typeof completionAnswer>;
type Chat = z.output<typeof chatAnswer>;
type Chunk = z.output<typeof chatChunk>;

async function refusal(
  response: Response,
): Promise<{ status: number; code: string; param: string | null; message: string }> {
  const { error } = errorAnswer.parse(await response.json());
  assert.ok(error.code in apiErrors, error.code);
  assert.match(response.headers.get("x-request-id") ?? "", /^[0-9a-f-]{36}$/);
  return { status: response.status, ...error };
}

async function refused(body: unknown, code: keyof typeof apiErrors, param?: string | null, path = "/v1/completions") {
  const found = await refusal(await api.post(path, body));
  assert.deepEqual([found.code, found.status], [code, apiErrors[code].status], JSON.stringify(body).slice(0, 200));
  if (param !== undefined) assert.equal(found.param, param);
}

suite("completions", { timeout: 120_000 }, () => {
  test("a text is what cpm generate writes with the same seed; in company, streamed and in a list as well", async () => {
    const settings = { seed: 11, maxTokens: 24, temperature: 0.8, topP: 0.95, topK: 50, samples: 2 };
    const prompts = ["春天来了，", "学习语言模型"];
    using runtime = createNativeRuntime({ threads: 1 });
    const model = await openTextModel(runtime, folder);
    const generator = createTextGenerator(runtime, model);
    const expected: string[] = [];
    for (const prompt of prompts) {
      const stream = generator.stream([prompt], settings);
      for (let next = await stream.next(); ; next = await stream.next()) {
        if (!next.done) continue;
        expected.push(...next.value.texts.map(({ text }) => text));
        break;
      }
    }
    generator.dispose();
    model.dispose();

    const body = { prompt: prompts, seed: 11, max_tokens: 24, temperature: 0.8, top_p: 0.95, top_k: 50, n: 2 };
    const company = Array.from({ length: 6 }, (_, seed) =>
      api.ask<Completion>("/v1/completions", { prompt: "别的文章", max_tokens: 20, seed, temperature: 1.2 }),
    );
    const whole = completionAnswer.parse(await api.ask("/v1/completions", body));
    await Promise.all(company);
    assert.deepEqual(
      whole.choices.map(({ index, text }) => [index, text]),
      expected.map((text, index) => [index, text]),
    );
    assert.equal(whole.usage!.completion_tokens, 4 * 24);
    assert.equal(whole.cpm!.seed, 11);

    const response = await api.post("/v1/completions", {
      ...body,
      stream: true,
      stream_options: { include_usage: true },
    });
    assert.match(response.headers.get("content-type")!, /^text\/event-stream/);
    const events = eventsOf(await response.text());
    assert.equal(events.pop(), "[DONE]");
    const chunks = events.map((event) => completionAnswer.parse(event));
    const last = chunks.pop()!;
    assert.deepEqual(last.choices, []);
    assert.equal(last.usage!.completion_tokens, 4 * 24);
    const texts = expected.map(() => "");
    const finishes = expected.map(() => [] as (string | null)[]);
    for (const { choices } of chunks) {
      for (const { index, text, finish_reason } of choices) {
        texts[index] += text;
        finishes[index]!.push(finish_reason);
      }
    }
    assert.deepEqual(texts, expected);
    for (const reasons of finishes) {
      assert.equal(reasons.pop(), "length");
      assert.ok(reasons.every((reason) => reason === null));
    }
  });

  test("usage tells tokens, time, energy, carbon and cost, and they add up", async () => {
    const { usage } = await api.ask<Completion>("/v1/completions", {
      prompt: "春天来了",
      max_tokens: 12,
      min_tokens: 12,
    });
    const { compute_ms, energy_wh, co2e_g, cost, currency, queue_ms } = usage!.cpm;
    assert.equal(usage!.completion_tokens, 12);
    assert.equal(usage!.total_tokens, usage!.prompt_tokens + 12);
    assert.ok(compute_ms > 0 && queue_ms >= 0);
    // Two cores of 10 W; 3.6 an hour; 0.5366 kg a kWh.
    const close = (a: number, b: number) => assert.ok(Math.abs(a - b) <= 1e-6 + 1e-3 * Math.abs(b), `${a} ${b}`);
    close(energy_wh!, (compute_ms / 3.6e6) * 20);
    close(co2e_g!, energy_wh! * 0.5366);
    close(cost!, compute_ms / 1e6);
    assert.equal(currency, "CNY");
  });

  test("stop strings, minimum length, logit bias, token ids as prompt", async () => {
    const body = { prompt: "春天来了", max_tokens: 30, min_tokens: 30, seed: 4 };
    const free = (await api.ask<Completion>("/v1/completions", body)).choices[0]!;
    const stop = [...free.text].slice(3, 5).join("");
    const stopped = (await api.ask<Completion>("/v1/completions", { ...body, stop })).choices[0]!;
    assert.equal(stopped.text, free.text.slice(0, free.text.indexOf(stop)));
    assert.equal(stopped.finish_reason, "stop");
    const ids = api.model.tokenizer.encode("春天来了").ids;
    for (const prompt of [[...ids], [api.model.tokenizer.bosId, ...ids], [[...ids]]]) {
      assert.equal((await api.ask<Completion>("/v1/completions", { ...body, prompt })).choices[0]!.text, free.text);
    }
    const id = api.model.tokenizer.idOf("春")!;
    const biased = await api.ask<Completion>("/v1/completions", { ...body, logit_bias: { [id]: 100 }, temperature: 0 });
    assert.equal(biased.choices[0]!.text, "春".repeat(30));
  });

  test("log probabilities: those of /score for the same text; in a stream those of the whole", async () => {
    const context = "春天来了，";
    // A text that is cut into the tokens that it was made of.
    let body = { prompt: context, max_tokens: 6, min_tokens: 6, seed: 0, logprobs: 3 };
    let choice: Completion["choices"][number];
    for (; ; body = { ...body, seed: body.seed + 1 }) {
      choice = completionAnswer.parse(await api.ask("/v1/completions", body)).choices[0]!;
      const { pieces } = await api.ask<{ pieces: string[] }>("/tokenize", { text: choice.text });
      if (pieces.join("|") === choice.logprobs!.tokens.join("|")) break;
      assert.ok(body.seed < 50);
    }
    const { text, logprobs } = choice;
    assert.equal(logprobs!.tokens.length, 6);
    assert.equal(logprobs!.tokens.join(""), text);
    for (const [at, top] of logprobs!.top_logprobs!.entries()) {
      assert.equal(Object.keys(top).length, 3);
      const best = Math.max(...Object.values(top));
      assert.ok(best >= logprobs!.token_logprobs[at]! - 1e-6);
    }
    const streamed = eventsOf(await (await api.post("/v1/completions", { ...body, stream: true })).text())
      .filter((event) => event !== "[DONE]")
      .map((event) => (event as Completion).choices[0]!.logprobs!);
    assert.deepEqual(
      streamed.flatMap(({ tokens }) => tokens),
      logprobs!.tokens,
    );
    assert.deepEqual(
      streamed.flatMap(({ text_offset }) => text_offset),
      logprobs!.text_offset,
    );
    streamed
      .flatMap(({ token_logprobs }) => token_logprobs)
      .forEach((value, at) => {
        assert.ok(Math.abs(value - logprobs!.token_logprobs[at]!) < 1e-4);
      });
    const scored = scoreAnswer.parse(await api.ask("/score", { context, text, top_logprobs: 3 }));
    assert.ok(Math.abs(scored.logprob - scored.tokens.reduce((sum, { logprob }) => sum + logprob, 0)) < 1e-9);
    assert.equal(scored.tokens.map(({ token }) => token).join(""), text);
    scored.tokens.forEach(({ logprob }, at) => {
      assert.ok(Math.abs(logprob - logprobs!.token_logprobs[at]!) < 1e-4, `token ${at}`);
    });
    assert.ok(Math.abs(scored.bits_per_character * [...text].length + scored.logprob / Math.LN2) < 1e-6);
  });

  test("without a seed texts differ, and the seed that was drawn gives the text again", async () => {
    const body = { prompt: "春天", max_tokens: 16 };
    const [one, two] = [
      await api.ask<Completion>("/v1/completions", body),
      await api.ask<Completion>("/v1/completions", body),
    ];
    assert.notEqual(one.cpm!.seed, two.cpm!.seed);
    const again = await api.ask<Completion>("/v1/completions", { ...body, seed: two.cpm!.seed });
    assert.equal(again.choices[0]!.text, two.choices[0]!.text);
  });

  test("more requests than rows all get theirs", async () => {
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, seed) =>
        api.ask<Completion>("/v1/completions", { prompt: "夏天", max_tokens: 8, seed: seed % 3 }),
      ),
    );
    for (const [at, { choices }] of answers.entries())
      assert.equal(choices[0]!.text, answers[at % 3]!.choices[0]!.text);
  });
});

suite("chat", { timeout: 120_000 }, () => {
  const messages = [
    { role: "system", content: "你是一位助手。" },
    { role: "user", content: [{ type: "text", text: "你好" }] },
  ];

  test("a dialogue is a transcript that goes on, whole and streamed", async () => {
    const transcript = chatTranscript(messages as never);
    assert.equal(transcript, "你是一位助手。\n用户：你好\n助手：");
    const body = { messages, max_completion_tokens: 12, seed: 3, logprobs: true, top_logprobs: 2 };
    const whole = chatAnswer.parse(await api.ask<Chat>("/v1/chat/completions", body));
    const completion = await api.ask<Completion>("/v1/completions", { prompt: transcript, max_tokens: 12, seed: 3 });
    const { message, logprobs } = whole.choices[0]!;
    assert.equal(message.content, completion.choices[0]!.text);
    for (const { top_logprobs, bytes, token } of logprobs!.content) {
      assert.equal(top_logprobs.length, 2);
      if (!token.startsWith("<0x")) assert.equal(Buffer.from(bytes!).toString(), token);
    }
    const events = eventsOf(await (await api.post("/v1/chat/completions", { ...body, stream: true })).text());
    assert.equal(events.pop(), "[DONE]");
    const chunks = events.map((event) => chatChunk.parse(event)) as Chunk[];
    assert.deepEqual(chunks[0]!.choices[0]!.delta, { role: "assistant", content: "" });
    assert.equal(chunks.map(({ choices }) => choices[0]!.delta.content ?? "").join(""), message.content);
    assert.equal(chunks.flatMap(({ choices }) => choices[0]!.logprobs?.content ?? []).length, logprobs!.content.length);
  });

  test("what is no dialogue is refused", async () => {
    const chat = "/v1/chat/completions";
    await refused({ messages: [] }, "invalid_value", "messages", chat);
    await refused({ messages: [{ role: "tool", content: "x" }] }, "invalid_value", "messages.0.role", chat);
    await refused({ messages, tools: [] }, "unsupported_parameter", "tools", chat);
    await refused({ messages, top_logprobs: 2 }, "invalid_value", "top_logprobs", chat);
  });
});

suite("reading", { timeout: 120_000 }, () => {
  test("vectors have length 1, are the same alone and in company, and come as base64 too", async () => {
    const input = ["春天来了，花开了。", "夏", "学习语言模型需要很多文本"];
    for (const pooling of ["mean", "last"]) {
      const { data, usage } = embeddingAnswer.parse(await api.ask("/v1/embeddings", { input, pooling }));
      assert.equal(data.length, 3);
      assert.ok(usage.prompt_tokens > 10);
      for (const [index, { embedding }] of data.entries()) {
        const vector = embedding as number[];
        assert.equal(vector.length, api.model.config.dimModel);
        assert.ok(Math.abs(Math.hypot(...vector) - 1) < 1e-5);
        const alone = embeddingAnswer.parse(
          await api.ask("/v1/embeddings", { input: input[index], pooling, encoding_format: "base64" }),
        );
        const bytes = Buffer.from(alone.data[0]!.embedding as string, "base64");
        vector.forEach((value, at) => {
          assert.ok(Math.abs(bytes.readFloatLE(at * 4) - value) < 1e-5);
        });
      }
    }
  });

  test("blanks are filled from the best, each as long as one of the lengths", async () => {
    const body = { text: "春天____，花____了。", blank_tokens: [1, 3], n: 4, temperature: 1, seed: 5 };
    const { choices, usage } = fillAnswer.parse(await api.ask("/v1/fill", body));
    assert.ok(choices.length >= 2 && choices.length <= 4);
    for (const [at, { text, blanks, score }] of choices.entries()) {
      assert.equal(text, `春天${blanks[0]}，花${blanks[1]}了。`);
      if (at > 0) assert.ok(score <= choices[at - 1]!.score);
    }
    assert.ok(usage.completion_tokens > 0);
    assert.deepEqual(
      fillAnswer.parse(await api.ask("/v1/fill", body)).choices,
      choices,
      "the same seed, the same fills",
    );
    const greedy = fillAnswer.parse(await api.ask("/v1/fill", { text: "春[?]", marker: "[?]", blank_tokens: 2, n: 3 }));
    assert.equal(greedy.choices.length, 1);
    await refused({ text: "没有空" }, "invalid_value", "text", "/v1/fill");
    await refused({ text: "____".repeat(40) }, "context_length_exceeded", "text", "/v1/fill");
  });

  test("tokens and back; the models", async () => {
    const text = "春天来了，\n花开了。";
    const { tokens, pieces, count, unknown } = tokenizeAnswer.parse(await api.ask("/tokenize", { text }));
    assert.equal(count, tokens.length);
    assert.equal(pieces.join(""), text);
    assert.equal(unknown, 0);
    assert.equal(detokenizeAnswer.parse(await api.ask("/detokenize", { tokens })).text, text);
    await refused({ tokens: [1200] }, "invalid_value", "tokens", "/detokenize");
    const models = modelList.parse(await (await fetch(`${api.url}/v1/models`)).json());
    assert.deepEqual([models.data[0]!.id, models.data[0]!.cpm.context_tokens], ["small", 96]);
    assert.equal((await fetch(`${api.url}/v1/models/small`)).status, 200);
    assert.equal((await refusal(await fetch(`${api.url}/v1/models/large`))).code, "model_not_found");
  });
});

suite("forms", { timeout: 120_000 }, () => {
  test("a text keeps to its form: an object, a schema, an expression; a form that is none is refused", async () => {
    const schema = {
      type: "object",
      properties: { name: { enum: ["春天", "夏天"] }, good: { type: "boolean" } },
      required: ["name", "good"],
      additionalProperties: false,
    };
    const response_format = { type: "json_schema", json_schema: { name: "season", strict: true, schema } };
    const messages = [{ role: "user", content: "你好" }];
    const body = { messages, seed: 2, n: 2, max_tokens: 60, response_format };
    const { choices } = await api.ask<Chat>("/v1/chat/completions", body);
    for (const { message, finish_reason } of choices) {
      const value = JSON.parse(message.content) as { name: string; good: boolean };
      assert.ok(["春天", "夏天"].includes(value.name) && typeof value.good === "boolean", message.content);
      assert.equal(finish_reason, "stop");
    }
    const regex = { type: "regex", regex: "第[0-9]{2}章" };
    const text = await api.ask<Completion>("/v1/completions", { prompt: "春天", response_format: regex });
    assert.match(text.choices[0]!.text, /^第[0-9]{2}章$/);
    const wrong = { type: "json_schema", json_schema: { name: "x", schema: { type: "colour" } } };
    await refused({ prompt: "春天", response_format: wrong }, "invalid_value", "response_format");
    await refused(
      { prompt: "春天", response_format: { type: "regex", regex: "(" } },
      "invalid_value",
      "response_format",
    );
    await refused({ prompt: "春天", response_format: { type: "xml" } }, "invalid_value", "response_format.type");
  });
});

suite("deltas", { timeout: 120_000 }, () => {
  test("listed beside their model, chosen by name, and the model is as before", async (context) => {
    await using checkpoint = await openCheckpoint(folder);
    const delta = attachDelta(checkpoint.config, [{ method: "lora", rank: 2, places: ["attn.q", "ffn.out"] }]);
    const values = new Map(
      delta.parameters.map(({ name, shape }) => {
        const numbers = new Float32Array(shape.reduce((product, size) => product * size, 1));
        fillNormal(numbers, 3, name, 0, 0.5);
        return [name, numbers];
      }),
    );
    const parent = temporaryFolder("cpm-serve-delta-");
    const baseSha256 = await baseHash(checkpoint.config, (name) => checkpoint.tensor(name).readFloat32());
    await saveDelta(join(parent, "poems"), { delta, values }, { baseSha256 });
    await saveDelta(join(parent, "foreign"), { delta, values }, { baseSha256: "0".repeat(64) });
    const tuned = await startTestServer(folder, { delta: join(parent, "poems") });
    context.after(() => tuned.server.drain(0));
    const { data } = modelList.parse(await (await fetch(`${tuned.url}/v1/models`)).json());
    assert.deepEqual(
      data.map(({ id, cpm }) => [id, cpm.base]),
      [
        ["small", null],
        ["small:poems", "small"],
      ],
    );
    const body = { prompt: "春天来了", max_tokens: 20, seed: 1 };
    const write = async (server: TestServer, model?: string) =>
      (await server.ask<Completion>("/v1/completions", { ...body, model })).choices[0]!.text;
    const plain = await write(api);
    assert.equal(await write(tuned), plain);
    assert.equal(await write(tuned, "small"), plain);
    assert.notEqual(await write(tuned, "small:poems"), plain);
    await assert.rejects(startTestServer(folder, { delta: join(parent, "foreign") }), { code: "CPM_SERVE_MODEL" });
  });
});

suite("refusals", { timeout: 120_000 }, () => {
  test("each with its code, its status and the parameter at fault", async () => {
    const prompt = "春天";
    await refused("{", "invalid_json");
    await refused("\xff\xfe", "invalid_json");
    await refused("[]", "invalid_value", null);
    await refused({ prompt: 3 }, "invalid_value", "prompt");
    await refused({ prompt: [] }, "invalid_value", "prompt");
    await refused({ prompt, temperature: -1 }, "invalid_value", "temperature");
    await refused({ prompt, n: 5 }, "invalid_value", "n");
    await refused({ prompt, model: "other" }, "model_not_found", "model");
    await refused({ prompt, suffix: "花" }, "unsupported_parameter", "suffix");
    await refused({ prompt, what: 1 }, "unsupported_parameter", "what");
    await refused({ prompt, logit_bias: { 1200: 1 } }, "invalid_value", "logit_bias");
    await refused({ prompt, min_tokens: 9, max_tokens: 3 }, "invalid_value", "min_tokens");
    await refused({ prompt: [1200] }, "invalid_value", "prompt");
    await refused({ prompt: "" }, "empty_prompt", "prompt");
    await refused({ prompt, max_tokens: 96 }, "context_length_exceeded");
    await refused({ prompt: "春天".repeat(100) }, "context_length_exceeded", "prompt");
    await refused({ prompt: "春天".repeat(10_000) }, "context_length_exceeded", "prompt");
    await refused({ prompt: "春".repeat(30_000) }, "request_too_large");
    await refused({ prompt, deadline_ms: 1, max_tokens: 60 }, "deadline_exceeded");
  });

  test("paths, methods, language, bodies of unknown length", async () => {
    assert.equal((await refusal(await fetch(`${api.url}/v1/nothing`))).code, "not_found");
    assert.equal((await refusal(await fetch(`${api.url}/v1/completions`))).code, "method_not_allowed");
    const chinese = await refusal(
      await api.post("/v1/completions", { prompt: "" }, { headers: { "Accept-Language": "zh-CN" } }),
    );
    assert.match(chinese.message, /输入/);
    const endless = new ReadableStream({
      pull: (controller) => controller.enqueue(new Uint8Array(8192).fill(32)),
    });
    const options = { method: "POST", body: endless, duplex: "half" } as RequestInit;
    // The server may close while the client still writes: either way it is not read on.
    const outcome = await fetch(`${api.url}/v1/completions`, options).then(
      async (response) => (await refusal(response)).code,
      () => "closed",
    );
    assert.ok(outcome === "request_too_large" || outcome === "closed", outcome);
    await api.ask("/tokenize", { text: "春" });
  });

  test("pages of named origins may call, others not", async () => {
    const preflight = (origin: string) =>
      fetch(`${api.url}/v1/completions`, {
        method: "OPTIONS",
        headers: { Origin: origin, "Access-Control-Request-Method": "POST" },
      });
    const allowed = await preflight("https://app.example");
    assert.equal(allowed.status, 204);
    assert.equal(allowed.headers.get("access-control-allow-origin"), "https://app.example");
    assert.match(allowed.headers.get("access-control-allow-headers")!, /Authorization/);
    assert.equal((await preflight("https://other.example")).headers.get("access-control-allow-origin"), null);
    const answer = await api.post("/tokenize", { text: "春" }, { headers: { Origin: "https://app.example" } });
    assert.equal(answer.headers.get("access-control-allow-origin"), "https://app.example");
  });
});

suite("keys", { timeout: 120_000 }, () => {
  test("scopes, limits and revocation; health and metrics need no key", async (context) => {
    const path = join(temporaryFolder("cpm-serve-keys-"), "keys.json");
    let nowMs = Date.now();
    const writer = await addKey(path, { name: "writer", scopes: ["generate"], requestsPerMinute: 3 }, nowMs);
    const reader = await addKey(path, { name: "reader", scopes: ["embed", "score"], tokensPerMinute: 5 }, nowMs);
    const guarded = await startTestServer(folder, { keysPath: path, now: () => nowMs });
    context.after(() => guarded.server.drain(0));
    const call = async (secret: string | undefined, at: string, body: unknown) => {
      const headers = secret === undefined ? {} : { Authorization: `Bearer ${secret}` };
      const response = await guarded.post(at, body, { headers });
      return response.status === 200
        ? { code: "ok", retry: null }
        : { code: (await refusal(response)).code, retry: response.headers.get("retry-after") };
    };
    const text = { prompt: "春天", max_tokens: 2 };
    for (const wrong of [undefined, "cpm-wrong", `${writer.secret}x`])
      assert.equal((await call(wrong, "/v1/completions", text)).code, "invalid_api_key");
    assert.equal((await call(writer.secret, "/v1/embeddings", { input: "春" })).code, "insufficient_scope");
    assert.equal((await call(reader.secret, "/v1/completions", text)).code, "insufficient_scope");
    for (let i = 0; i < 3; i++) assert.equal((await call(writer.secret, "/v1/completions", text)).code, "ok");
    const limited = await call(writer.secret, "/v1/completions", text);
    assert.equal(limited.code, "rate_limit_exceeded");
    assert.equal(Number(limited.retry), 20);
    assert.equal(
      (await call(reader.secret, "/score", { text: "春天来了，花开了。" })).code,
      "ok",
      "tokens are counted after",
    );
    assert.equal((await call(reader.secret, "/score", { text: "春" })).code, "rate_limit_exceeded");
    nowMs += 60_000;
    assert.equal((await call(writer.secret, "/v1/completions", text)).code, "ok");
    await revokeKeys(path, "writer", nowMs);
    nowMs += 2000;
    assert.equal((await call(writer.secret, "/v1/completions", text)).code, "invalid_api_key");
    for (const open of ["/health/live", "/health/ready", "/metrics", "/openapi.json"])
      assert.equal((await fetch(guarded.url + open)).status, 200);
    const logged = JSON.stringify(guarded.log);
    assert.ok(!logged.includes(writer.secret) && !logged.includes("春"), "neither keys nor texts are logged");
    assert.ok(logged.includes(writer.key.id));
  });
});

suite("around", { timeout: 120_000 }, () => {
  test("metrics in Prometheus' format, counting what was done", async () => {
    await api.ask("/v1/completions", { prompt: "春天", max_tokens: 4, min_tokens: 4 });
    const text = await (await fetch(`${api.url}/metrics`)).text();
    for (const line of text.trimEnd().split("\n"))
      assert.match(line, /^(# (HELP|TYPE) \S+ .+|[a-z_]+(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? -?[\d.e+-]+)$/);
    const value = (start: string) =>
      Number(
        text
          .split("\n")
          .find((line) => line.startsWith(start))
          ?.split(" ")
          .at(-1),
      );
    assert.ok(value('cpm_serve_generated_tokens_total{model="small"}') >= 4);
    assert.ok(value('cpm_serve_first_token_seconds_count{model="small"}') >= 1);
    assert.equal(value('cpm_serve_workers_ready{model="small"}'), 1);
    assert.equal(value('cpm_serve_waiting{model="small"}'), 0);
  });

  test("the OpenAPI document has every path, and its references lead somewhere", async () => {
    const document = (await (await fetch(`${api.url}/openapi.json`)).json()) as {
      openapi: string;
      paths: Record<string, object>;
      components: { schemas: Record<string, object> };
    };
    assert.equal(document.openapi, "3.1.0");
    for (const path of [
      "/v1/completions",
      "/v1/chat/completions",
      "/v1/embeddings",
      "/v1/models",
      "/v1/models/{model}",
      "/v1/fill",
      "/tokenize",
      "/detokenize",
      "/score",
    ])
      assert.ok(path in document.paths, path);
    for (const [, name] of JSON.stringify(document).matchAll(/"#\/components\/schemas\/(\w+)"/g))
      assert.ok(name! in document.components.schemas, String(name));
  });

  test("curl", async (context) => {
    const run = promisify(execFile);
    const body = JSON.stringify({ prompt: "春天", max_tokens: 4, seed: 1, stream: true });
    const found = await run("curl", ["--version"]).catch(() => undefined);
    if (found === undefined) return context.skip("SKIPPED: there is no curl");
    const { stdout } = await run("curl", ["-sN", `${api.url}/v1/completions`, "-d", body]);
    const events = eventsOf(stdout);
    assert.equal(events.at(-1), "[DONE]");
    const whole = await api.ask<Completion>("/v1/completions", { prompt: "春天", max_tokens: 4, seed: 1 });
    const streamed = events.slice(0, -1).map((event) => (event as Completion).choices[0]!.text);
    assert.equal(streamed.join(""), whole.choices[0]!.text);
  });
});
