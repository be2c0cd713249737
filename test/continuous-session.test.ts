/** Sessions whose rows come and go: each row is what it is alone, whoever joins, leaves or is copied beside it. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { createCpmAntSession } from "../src/infer/cpm-ant-session.ts";
import type { ContinuousSession } from "../src/infer/session.ts";
import type { ModelConfig } from "../src/model/config.ts";
import { createNativeRuntime } from "../src/runtime/index.ts";
import { createRandom } from "../src/util/random.ts";
import { assertClose } from "./support/close.ts";
import { everyMask, tinyConfig, uploadWeights } from "./support/tiny-model.ts";

const configs: Readonly<Record<string, ModelConfig>> = {
  plain: tinyConfig,
  pruned: { ...tinyConfig, layers: everyMask.length, maskModules: everyMask },
};
const V = tinyConfig.vocabSize;
const capacityTokens = 24;

async function withSession(config: ModelConfig, use: (session: ContinuousSession) => Promise<void>): Promise<void> {
  using runtime = createNativeRuntime({ threads: 1 });
  const parameters = uploadWeights(runtime, config);
  const session = await createCpmAntSession(runtime, config, parameters, { capacityTokens, rowCapacity: 2 });
  await use(session);
  session.dispose();
  for (const tensor of parameters.values()) tensor.dispose();
  assert.deepEqual([runtime.memory().tensors, runtime.memory().programs], [0, 0]);
}

function row(logits: Float32Array, index: number): number[] {
  return Array.from(logits.subarray(index * V, (index + 1) * V));
}

/** The next token of a text: any fixed rule will do, so long as it depends on the whole of it. */
function nextToken(text: readonly number[]): number {
  return text.reduce((sum, id, at) => (sum + id * (at + 3)) % V, 7);
}

/** The logits after a prompt and after each of the tokens that follow it, alone. */
async function alone(session: ContinuousSession, prompt: readonly number[], steps: number): Promise<number[][]> {
  const text = [...prompt];
  const all = [Array.from(await session.prefill([prompt]))];
  for (let step = 0; step < steps; step++) {
    text.push(nextToken(text));
    all.push(Array.from(await session.step(Int32Array.of(text.at(-1)!))));
  }
  return all;
}

for (const [name, config] of Object.entries(configs)) {
  suite(`continuous session: ${name}`, () => {
    test("rows join, are copied and leave in any order, also while a prompt is half read", async () => {
      await withSession(config, async (session) => {
        const random = createRandom(5, "come and go");
        const prompts = Array.from({ length: 5 }, () =>
          Array.from({ length: 1 + random.integer(8) }, () => random.integer(V)),
        );
        const expected: number[][][] = [];
        for (const prompt of prompts) expected.push(await alone(session, prompt, capacityTokens - prompt.length));
        for (let left = session.rows; left > 0; left--) session.remove(0);

        const rows: { prompt: number; text: number[] }[] = [];
        const check = (logits: Float32Array, at: number, which: (typeof rows)[number]) => {
          const step = which.text.length - prompts[which.prompt]!.length;
          assertClose(row(logits, at), expected[which.prompt]![step]!, 1e-5, `prompt ${which.prompt}, step ${step}`);
        };
        const stepAll = async () => {
          if (rows.length === 0) return;
          for (const each of rows) each.text.push(nextToken(each.text));
          const logits = await session.step(Int32Array.from(rows, ({ text }) => text.at(-1)!));
          rows.forEach((each, at) => {
            check(logits, at, each);
          });
        };
        let most = 0;
        for (let round = 0; round < 60; round++) {
          const action = random.integer(4);
          if (action === 0) {
            const joining = Array.from({ length: 1 + random.integer(2) }, () => random.integer(prompts.length));
            const newcomers = await session.begin(joining.map((prompt) => prompts[prompt]!));
            while (newcomers.layersLeft > 0) {
              await newcomers.advance(1);
              if (rows.every(({ text }) => text.length < capacityTokens)) await stepAll();
            }
            if (random.integer(5) === 0) newcomers.dispose();
            else {
              const logits = await newcomers.join();
              for (const [at, prompt] of joining.entries()) {
                rows.push({ prompt, text: [...prompts[prompt]!] });
                check(logits, at, rows.at(-1)!);
              }
            }
          } else if (action === 1 && rows.length > 0) {
            const from = random.integer(rows.length);
            session.fork(from);
            rows.push({ ...rows[from]!, text: [...rows[from]!.text] });
          }
          for (let at = rows.length - 1; at >= 0; at--) {
            if (rows[at]!.text.length < capacityTokens && random.integer(8) > 0) continue;
            session.remove(at);
            const last = rows.pop()!;
            if (at < rows.length) rows[at] = last;
          }
          assert.equal(session.rows, rows.length);
          most = Math.max(most, rows.length);
          await stepAll();
        }
        assert.ok(most >= 4, `only ${most} rows at once`);
      });
    });

    test("a pass with targets gives what steps give; rows of a batch do not touch it, nor it them", async () => {
      await withSession(config, async (session) => {
        const prompt = [6, 9, 12, 7, 30];
        const steps = 6;
        const stepped = await alone(session, prompt, steps);
        const text = [...prompt];
        while (text.length < prompt.length + steps) text.push(nextToken(text));
        await session.prefill([prompt]);
        const isTarget = Uint8Array.from(text, (_, at) => (at < prompt.length ? 0 : 1));
        const pass = await session.pass([
          { ids: [3, 4], isTarget: Uint8Array.of(0, 1) },
          { ids: text, isTarget },
        ]);
        await pass.advance(1);
        const after = Array.from(await session.step(Int32Array.of(text[prompt.length]!)));
        assertClose(after, stepped[1]!, 1e-6);
        await pass.advance();
        const first = pass.columns + config.promptLength + prompt.length - 1;
        const logits = await pass.logits(Int32Array.from({ length: steps + 1 }, (_, i) => first + i));
        stepped.forEach((values, at) => {
          assertClose(row(logits, at), values, 1e-5, `position ${at}`);
        });
        const hidden = await pass.hidden(Int32Array.of(first));
        assert.equal(hidden.length, config.dimModel);
        // The head is the token table over √D: hidden states and logits belong together.
        const rootMeanSquare = Math.sqrt(hidden.reduce((sum, value) => sum + value * value, 0) / hidden.length);
        assert.ok(rootMeanSquare > 0.5 && rootMeanSquare < 2, `${rootMeanSquare}`);
        pass.dispose();
      });
    });
  });
}

test("rows that are not there are refused", async () => {
  await withSession(tinyConfig, async (session) => {
    await session.prefill([[1, 2]]);
    for (const wrong of [-1, 1, 0.5]) {
      assert.throws(() => session.fork(wrong), /internal/);
      assert.throws(() => session.remove(wrong), /internal/);
    }
    await assert.rejects(session.begin([[]]), { code: "CPM_INFER_PROMPT" });
    await assert.rejects(session.begin([Array(25).fill(1)]), { code: "CPM_INFER_CAPACITY" });
    await assert.rejects(session.pass([{ ids: [1] }], { promptTask: 99 }), { code: "CPM_INFER_TASK" });
    session.remove(0);
    assert.equal(session.rows, 0);
  });
});
