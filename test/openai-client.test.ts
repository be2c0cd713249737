/** The server as the official client of the OpenAI API sees it. */
import assert from "node:assert/strict";
import { after, suite, test } from "node:test";
import OpenAI from "openai";
import { startTestServer } from "./support/served-model.ts";
import { temporaryFolder, writeSmallModel } from "./support/text-model.ts";

const folder = temporaryFolder("cpm-openai-");
await writeSmallModel(folder);
const api = await startTestServer(folder);
after(() => api.server.drain(0));
const client = new OpenAI({ baseURL: `${api.url}/v1`, apiKey: "unused", maxRetries: 0 });
const [model] = (await client.models.list()).data;

suite("the openai client", { timeout: 120_000 }, () => {
  test("lists models and completes, with log probabilities and usage", async () => {
    assert.ok(model?.id);
    const settings = { model: model.id, prompt: "春天来了，", max_tokens: 8, seed: 3, n: 2, logprobs: 2 } as const;
    const first = await client.completions.create(settings);
    assert.equal(first.object, "text_completion");
    assert.equal(first.choices.length, 2);
    assert.equal(first.usage?.completion_tokens, 16);
    assert.equal(first.choices[0]?.logprobs?.tokens?.length, 8);
    const second = await client.completions.create(settings);
    assert.deepEqual(
      second.choices.map(({ text }) => text),
      first.choices.map(({ text }) => text),
    );
  });

  test("streams what it would have answered whole", async () => {
    const settings = { model: model!.id, prompt: "春天", max_tokens: 12, seed: 5 } as const;
    const whole = await client.completions.create(settings);
    const stream = await client.completions.create({
      ...settings,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = "";
    let tokens: number | undefined;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.text ?? "";
      tokens = chunk.usage?.completion_tokens ?? tokens;
    }
    assert.equal(text, whole.choices[0]!.text);
    assert.equal(tokens, 12);
  });

  test("chats, streams a chat and embeds", async () => {
    const messages = [{ role: "user", content: "你好" }] as const;
    const settings = { model: model!.id, messages: [...messages], max_tokens: 6, seed: 1 };
    const answer = await client.chat.completions.create(settings);
    assert.equal(answer.choices[0]?.message.role, "assistant");
    let streamed = "";
    for await (const chunk of await client.chat.completions.create({ ...settings, stream: true })) {
      streamed += chunk.choices[0]?.delta.content ?? "";
    }
    assert.equal(streamed, answer.choices[0]?.message.content);
    const { data } = await client.embeddings.create({
      model: model!.id,
      input: ["春天", "夏天"],
      encoding_format: "float",
    });
    assert.equal(data.length, 2);
    assert.equal(data[0]!.embedding.length, data[1]!.embedding.length);
    assert.notDeepEqual(data[0]!.embedding, data[1]!.embedding);
  });

  test("refusals arrive as the client's own errors, with their codes", async () => {
    await assert.rejects(
      client.completions.create({ model: "no-such-model", prompt: "春" }),
      (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found",
    );
    await assert.rejects(
      client.completions.create({ model: model!.id, prompt: "春", temperature: -1 }),
      (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature",
    );
  });

  test("a stream that the client leaves frees its place", async () => {
    const long = { model: model!.id, prompt: "春天", max_tokens: 80, stream: true as const };
    const stream = await client.completions.create(long);
    for await (const chunk of stream) {
      if (chunk.choices[0]?.text) break;
    }
    const after = await client.completions.create({ model: model!.id, prompt: "夏天", max_tokens: 2 });
    assert.equal(after.usage?.completion_tokens, 2);
  });
});
