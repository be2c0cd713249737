/** What requests of one model share: its deltas in one batch, prompts that were read, a drafter, a memory limit. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, type TestContext, test } from "node:test";
import OpenAI from "openai";
import { addKey } from "../src/serve/api-keys.ts";
import { eventsOf, startTestServer, type TestServer, type TestServerOptions } from "./support/served-model.ts";
import { smallConfig, temporaryFolder, writeSmallModel } from "./support/text-model.ts";
import { writeRandomDelta } from "./support/written-delta.ts";

const folder = temporaryFolder("cpm-serve-batches-");
const base = join(folder, "base");
await writeSmallModel(base);
const lora = { method: "lora", rank: 2 } as const;
const poems = await writeRandomDelta(base, join(folder, "poems"), lora, { seed: 1 });
const news = await writeRandomDelta(base, join(folder, "news"), { ...lora, places: ["attn.out"] }, { seed: 2 });
const prompt = "春天来了，";

async function started(context: TestContext, options: TestServerOptions): Promise<TestServer> {
  const api = await startTestServer(base, options);
  context.after(() => api.server.drain(0));
  return api;
}

interface Completion {
  readonly choices: readonly { readonly text: string }[];
  readonly usage: {
    readonly prompt_tokens_details: { readonly cached_tokens: number };
    readonly prompt_tokens: number;
  };
}

const write = async (api: TestServer, body: Record<string, unknown> = {}, init: RequestInit = {}) =>
  await api.ask<Completion>("/v1/completions", { prompt, max_tokens: 16, min_tokens: 16, seed: 4, ...body }, init);
const textOf = ({ choices }: Completion) => choices[0]!.text;

suite("deltas in one batch", { timeout: 120_000 }, () => {
  test("each request is what it is with its delta alone; sums and weights; one process for all", async (context) => {
    const [plain, ofPoems, ofNews] = [
      await write(await started(context, {})),
      await write(await started(context, { delta: poems }), { model: "small:poems" }),
      await write(await started(context, { delta: news }), { model: "small:news" }),
    ].map(textOf);
    assert.equal(new Set([plain, ofPoems, ofNews]).size, 3);
    const api = await started(context, { mixed: [poems, `daily=${news}`] });
    assert.equal(api.model.dispatcher.pool.states.length, 1);
    const client = new OpenAI({ baseURL: `${api.url}/v1`, apiKey: "unused", maxRetries: 0 });
    const ids = (await client.models.list()).data.map(({ id }) => id);
    assert.deepEqual(ids, ["small", "small:poems", "small:daily"]);
    const names = [
      "small",
      "small:poems",
      "small:daily",
      "small:poems+0*daily",
      "small:0*poems+daily",
      "small:0*poems",
    ];
    const together = await Promise.all(
      names.map((model) =>
        client.completions.create({ model, prompt, max_tokens: 16, seed: 4, min_tokens: 16 } as never),
      ),
    );
    assert.deepEqual(
      together.map(({ choices }) => choices[0]!.text),
      [plain, ofPoems, ofNews, ofPoems, ofNews, plain],
    );
    assert.equal((await client.models.retrieve("small:poems")).id, "small:poems");
    const [half, both] = [
      await write(api, { model: "small:0.5*poems+daily" }),
      await write(api, { model: "small:daily+poems" }),
    ].map(textOf);
    assert.equal(textOf(await write(api, { model: "small:daily+0.5*poems" })), half, "the order says nothing");
    assert.notEqual(half, both);
    for (const model of ["small:x", "small:", "small:poems+poems", "small:poems*2", "small:99*poems", "other:poems"]) {
      await assert.rejects(client.completions.create({ model, prompt }), OpenAI.NotFoundError, model);
    }
    const { data } = await client.embeddings.create({ model: "small:poems", input: "春天", encoding_format: "float" });
    const plainly = await client.embeddings.create({ model: "small", input: "春天", encoding_format: "float" });
    assert.notDeepEqual(data[0]!.embedding, plainly.data[0]!.embedding);
    const perplexity = async (model: string) =>
      (await api.ask<{ perplexity: number }>("/score", { model, text: "春天来了" })).perplexity;
    assert.notEqual(await perplexity("small:daily"), await perplexity("small"));
    assert.equal(await perplexity("small:0*daily"), await perplexity("small"));
    const metrics = await (await fetch(`${api.url}/metrics`)).text();
    assert.match(metrics, /cpm_serve_generated_tokens_total\{model="small:poems"\} 16/);
    assert.match(metrics, /cpm_serve_generated_tokens_total\{model="small:\+"\}/, "mixtures have one label");
  });

  test("what cannot share a batch is told at the start", async () => {
    const ia3 = await writeRandomDelta(base, join(folder, "ia3"), { method: "ia3" }, { seed: 3 });
    const other = await writeRandomDelta(base, join(folder, "other"), lora, {
      seed: 4,
      use: { promptTask: 1, segment: 1 },
    });
    for (const delta of [ia3, other]) {
      await assert.rejects(
        startTestServer(base, { mixed: [poems, delta] }),
        (error: { code: string; message: string }) => {
          assert.equal(error.code, "CPM_SERVE_MODEL");
          assert.match(error.message, /cannot share a batch/);
          return true;
        },
      );
    }
  });
});

suite("prompts that come again", { timeout: 120_000 }, () => {
  test("are not read again for the same key; another key does not learn that they were there", async (context) => {
    const keysPath = join(temporaryFolder("cpm-serve-reuse-"), "keys.json");
    const [one, two] = [
      await addKey(keysPath, { name: "one", scopes: ["generate"] }, Date.now()),
      await addKey(keysPath, { name: "two", scopes: ["generate"] }, Date.now()),
    ];
    const api = await started(context, { keysPath, promptCacheBytes: 2 ** 20, mixed: [poems] });
    const as = (secret: string) => ({ headers: { Authorization: `Bearer ${secret}` } });
    const cached = ({ usage }: Completion) => usage.prompt_tokens_details.cached_tokens;
    const first = await write(api, {}, as(one.secret));
    assert.equal(cached(first), 0);
    const again = await write(api, {}, as(one.secret));
    assert.equal(cached(again), again.usage.prompt_tokens);
    assert.equal(textOf(again), textOf(first));
    assert.notEqual(textOf(await write(api, { seed: 5 }, as(one.secret))), textOf(first));
    assert.equal(cached(await write(api, { model: "small:poems" }, as(one.secret))), 0, "another model's state");
    assert.equal(cached(await write(api, {}, as(two.secret))), 0, "another key");
    assert.equal(cached(await write(api, { prompt: `${prompt}花` }, as(one.secret))), 0, "another prompt");
  });
});

suite("keys and values in fewer bits", { timeout: 120_000 }, () => {
  test("log probabilities are close to float32's; a prompt that comes again gives the same text", async (context) => {
    interface Likely {
      readonly choices: readonly { readonly logprobs: { readonly token_logprobs: readonly number[] } }[];
    }
    const first = async (api: TestServer) => {
      const body = { prompt, max_tokens: 2, min_tokens: 2, temperature: 0, logprobs: 1 };
      return (await api.ask<Likely>("/v1/completions", body)).choices[0]!.logprobs.token_logprobs;
    };
    const exact = await first(await started(context, {}));
    for (const cacheType of ["float16", "int8"] as const) {
      const api = await started(context, { cacheType, promptCacheBytes: 2 ** 20, mixed: [poems] });
      const own = await first(api);
      own.forEach((value, at) => {
        assert.ok(Math.abs(value - exact[at]!) < 0.02, `${cacheType}: ${value} beside ${exact[at]}`);
      });
      const [once, again] = [await write(api), await write(api)];
      assert.ok(again.usage.prompt_tokens_details.cached_tokens > 0);
      assert.equal(textOf(again), textOf(once));
      const together = await Promise.all([write(api), write(api, { model: "small:poems" }), write(api, { seed: 5 })]);
      assert.equal(textOf(together[0]!), textOf(once));
      assert.equal(new Set(together.map(textOf)).size, 3);
    }
  });
});

suite("guessing ahead", { timeout: 120_000 }, () => {
  test("texts are the same, greedy and drawn, whole and streamed, alone and in company", async (context) => {
    const other = join(folder, "drafts");
    await writeSmallModel(other, { config: { ...smallConfig, layers: 1 } });
    const plain = await started(context, {});
    const bodies = [{ temperature: 0 }, {}, { repetition_penalty: 1.3, seed: 9 }, { n: 2 }];
    const expected = await Promise.all(
      bodies.map(async (body) => (await write(plain, body)).choices.map((c) => c.text)),
    );
    for (const draft of [{ path: other }, { path: base }, "lookup"] as const) {
      const api = await started(context, { draft });
      for (const [at, body] of bodies.entries()) {
        const alone = await write(api, body);
        assert.deepEqual(
          alone.choices.map((c) => c.text),
          expected[at],
        );
      }
      const stream = await api.post("/v1/completions", {
        prompt,
        max_tokens: 16,
        min_tokens: 16,
        seed: 4,
        stream: true,
      });
      const events = eventsOf(await stream.text()).slice(0, -1) as Completion[];
      assert.equal(events.map(textOf).join(""), expected[1]![0]);
      assert.equal(events.length, 16, "one event a token");
      const company = await Promise.all(bodies.map((body) => write(api, body)));
      assert.deepEqual(
        company.map(({ choices }) => choices.map((c) => c.text)),
        expected,
      );
    }
  });

  test("a drafter with another vocabulary is refused at the start", async () => {
    const other = join(folder, "foreign");
    await writeSmallModel(other, { config: { ...smallConfig, vocabSize: 1200 } });
    const lines = readFileSync(join(other, "vocab.txt"), "utf8").split("\n");
    const [a, b] = [lines.length - 3, lines.length - 2];
    [lines[a], lines[b]] = [lines[b]!, lines[a]!];
    writeFileSync(join(other, "vocab.txt"), lines.join("\n"));
    await assert.rejects(startTestServer(base, { draft: { path: other } }), {
      code: "CPM_SERVE_MODEL",
      message: /another vocabulary/,
    });
  });
});

suite("a memory limit", { timeout: 120_000 }, () => {
  test("is told to be too small at the start; with room the texts are the same", async (context) => {
    const cacheFolder = temporaryFolder("cpm-serve-memory-");
    await assert.rejects(startTestServer(base, { memoryBytes: 2 ** 20, cacheFolder }), {
      code: "CPM_SERVE_MODEL",
      message: /memory limit/,
    });
    const plain = await started(context, {});
    const limited = await started(context, { memoryBytes: 2 ** 30, cacheFolder });
    assert.equal(textOf(await write(limited)), textOf(await write(plain)));
  });
});
