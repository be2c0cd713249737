/** Decoding sessions against the training forward pass and against themselves, on random weights. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { type CpmAntSessionOptions, createCpmAntSession } from "../src/infer/cpm-ant-session.ts";
import type { DecodingSession } from "../src/infer/session.ts";
import { createBatch } from "../src/model/batch.ts";
import type { ModelConfig } from "../src/model/config.ts";
import { parameterTable } from "../src/model/parameters.ts";
import { createNativeRuntime, type Runtime } from "../src/runtime/index.ts";
import { arenaLayout, createArena } from "../src/train/arena.ts";
import { createTrainingStep } from "../src/train/step.ts";
import { assertClose } from "./support/close.ts";
import { interceptCompile } from "./support/intercept-compile.ts";
import { everyMask, randomWeights, tinyConfig, uploadWeights } from "./support/tiny-model.ts";

const configs: Readonly<Record<string, ModelConfig>> = {
  plain: tinyConfig,
  "heads of 12": { ...tinyConfig, heads: 2, dimHead: 12 },
  "heads wider than the model": { ...tinyConfig, heads: 5, dimHead: 16 },
  pruned: { ...tinyConfig, layers: everyMask.length, maskModules: everyMask },
};
const V = tinyConfig.vocabSize;

async function withSession(
  config: ModelConfig,
  options: CpmAntSessionOptions,
  use: (session: DecodingSession, runtime: Runtime) => Promise<void>,
): Promise<void> {
  using runtime = createNativeRuntime({ threads: 1 });
  const parameters = uploadWeights(runtime, config);
  const session = await createCpmAntSession(runtime, config, parameters, { capacityTokens: 24, ...options });
  await use(session, runtime);
  session.dispose();
  for (const tensor of parameters.values()) tensor.dispose();
  assert.equal(runtime.memory().tensors, 0);
  assert.equal(runtime.memory().programs, 0);
}

/** The logits after a prompt and after each following token, one row alone. */
async function alone(
  session: DecodingSession,
  prompt: readonly number[],
  tokens: readonly number[],
): Promise<number[][]> {
  const all = [Array.from(await session.prefill([prompt]))];
  for (const token of tokens) all.push(Array.from(await session.step(Int32Array.of(token))));
  return all;
}

function row(logits: Float32Array, index: number): number[] {
  return Array.from(logits.subarray(index * V, (index + 1) * V));
}

/**
 * What the training pass says for the same text: the prompt as context, generated tokens as targets, so that they see
 * what comes before them and nothing sees them that came before.
 */
async function trainingLogits(
  config: ModelConfig,
  prompt: readonly number[],
  tokens: readonly number[],
): Promise<number[][]> {
  using runtime = createNativeRuntime({ threads: 1 });
  const P = config.promptLength;
  const text = [...prompt, ...tokens];
  const columns = P + text.length;
  const batch = createBatch(1, columns);
  const task = 2;
  batch.input.set([...Array.from({ length: P }, (_, i) => task * P + i), ...text]);
  batch.length[0] = columns;
  batch.context.fill(1, 0, P + prompt.length);
  batch.segment.fill(2, P);
  const parameters = createArena(runtime, arenaLayout(parameterTable(config)));
  const weights = randomWeights(config);
  for (const [name, tensor] of parameters.tensors) runtime.write(tensor, weights.get(name)!);
  const step = await createTrainingStep(runtime, config, parameters, undefined, {
    rows: 1,
    columns,
    recompute: "none",
  });
  const { logits } = await step.outputs(batch);
  const all = logits.view() as Float32Array;
  return Array.from({ length: tokens.length + 1 }, (_, i) => row(all, P + prompt.length - 1 + i));
}

const prompts = [[6, 9, 12, 7, 30], [8, 11], [17]] as const;
const tokens = [3, 39, 0, 21, 5, 5, 14];

for (const [name, config] of Object.entries(configs)) {
  suite(`decoding session: ${name}`, () => {
    for (const weights of ["packed", "shared"] as const) {
      test(`${weights}: steps give what a training pass gives with the generated tokens as targets`, async () => {
        await withSession(config, { weights }, async (session) => {
          for (const prompt of prompts) {
            const decoded = await alone(session, prompt, tokens);
            const trained = await trainingLogits(config, prompt, tokens);
            for (const [i, logits] of decoded.entries()) assertClose(logits, trained[i]!, 1e-5, `after ${i} tokens`);
          }
        });
      });
    }

    test("rows of a batch are what each is alone, whatever their lengths", async () => {
      await withSession(config, {}, async (session) => {
        const expected: number[][][] = [];
        for (const prompt of prompts) expected.push(await alone(session, prompt, tokens));
        let logits = await session.prefill(prompts);
        assert.equal(session.rows, 3);
        for (let i = 0; ; i++) {
          for (const index of prompts.keys())
            assertClose(row(logits, index), expected[index]![i]!, 1e-5, `row ${index}`);
          if (i === tokens.length) break;
          logits = await session.step(new Int32Array(3).fill(tokens[i]!));
        }
      });
    });

    for (const weights of ["packed", "shared"] as const) {
      test(`${weights}: several tokens at once give what steps give, for rows of unequal lengths and numbers`, async () => {
        await withSession(config, { weights, passTokens: 9 }, async (session) => {
          const expected: number[][][] = [];
          for (const prompt of prompts) expected.push(await alone(session, prompt, tokens));
          await session.prefill(prompts);
          const fed = [0, 0, 0];
          // One, more than a pass takes, none; then single tokens, the fused step; then the last logits alone.
          const rounds = [
            [1, 5, 0],
            [1, 1, 1],
            [2, 0, 3],
            [3, 1, 2],
          ] as const;
          for (const [round, counts] of rounds.entries()) {
            const wanted = round === 3 ? "last" : "all";
            const logits = await session.extend(
              counts.map((count, index) => tokens.slice(fed[index]!, fed[index]! + count)),
              wanted,
            );
            let at = 0;
            counts.forEach((count, index) => {
              for (let i = wanted === "all" ? 1 : count; i <= count && count > 0; i++, at++) {
                assertClose(row(logits, at), expected[index]![fed[index]! + i]!, 1e-5, `round ${round}, row ${index}`);
              }
              fed[index]! += count;
            });
            assert.equal(at * V, logits.length);
          }
          assert.deepEqual(fed, [7, 7, 6]);
        });
      });
    }

    test("several tokens of a row alone, in one pass and in several", async () => {
      for (const passTokens of [64, 3]) {
        await withSession(config, { passTokens }, async (session) => {
          const expected = await alone(session, prompts[0], tokens);
          for (const wanted of ["all", "last"] as const) {
            await session.prefill([prompts[0]]);
            await session.extend([tokens.slice(0, 2)]);
            const logits = await session.extend([tokens.slice(2)], wanted);
            const from = wanted === "all" ? 3 : tokens.length;
            assert.equal(logits.length, (tokens.length + 1 - from) * V);
            for (let i = from; i <= tokens.length; i++) {
              assertClose(row(logits, i - from), expected[i]!, 1e-5, `after ${i}, ${wanted}, passes of ${passTokens}`);
            }
            session.truncate([4]);
            assertClose(row(await session.step(Int32Array.of(tokens[3]!)), 0), expected[4]!, 1e-5);
          }
        });
      }
    });

    test("rows go back to what they were before tokens were fed, and on with others", async () => {
      await withSession(config, {}, async (session) => {
        const expected: number[][][] = [];
        for (const prompt of prompts) expected.push(await alone(session, prompt, tokens));
        await session.prefill(prompts);
        await session.extend(prompts.map(() => tokens.slice(0, 2)));
        await session.extend([[7, 7, 7, 7], [1], [9, 9]]);
        session.truncate([4, 1, 2]);
        const again = await session.extend([tokens.slice(2, 4), tokens.slice(2, 5), tokens.slice(2, 3)], "last");
        [4, 5, 3].forEach((count, index) => {
          assertClose(row(again, index), expected[index]![count]!, 1e-5, `row ${index}`);
        });
        await session.reorder(Int32Array.of(2, 1));
        session.truncate([3, 0]);
        const stepped = await session.step(Int32Array.of(tokens[0]!, tokens[5]!));
        assertClose(row(stepped, 0), expected[2]![1]!, 1e-5);
        assertClose(row(stepped, 1), expected[1]![6]!, 1e-5);
        assert.throws(() => session.truncate([2, 0]), /internal: .*cannot lose 2,0/);
        assert.throws(() => session.truncate([0]), /internal/);
      });
    });

    for (const [cacheType, tolerance, parts] of [
      ["float16", 0.02, [Uint16Array]],
      ["int8", 0.12, [Int8Array, Float32Array]],
    ] as const) {
      test(`a cache of ${cacheType} gives nearly the same, in steps, in passes, moved and saved`, async () => {
        const expected: number[][][] = [];
        await withSession(config, {}, async (session) => {
          for (const prompt of prompts) expected.push(await alone(session, prompt, tokens));
        });
        await withSession(config, { cacheType }, async (session, runtime) => {
          // Logits here are of standard deviation 1; operands of attention keep 11 bits, or keys and values 8.
          const close = (actual: readonly number[], wanted: readonly number[], what: string) => {
            const worst = Math.max(...actual.map((value, i) => Math.abs(value - wanted[i]!)));
            assert.ok(worst < tolerance, `${what}: ${worst}`);
          };
          await session.prefill(prompts);
          for (let i = 0; i < 2; i++) {
            const logits = await session.step(new Int32Array(3).fill(tokens[i]!));
            for (const index of prompts.keys()) close(row(logits, index), expected[index]![i + 1]!, `step ${i}`);
          }
          const passed = await session.extend(
            prompts.map(() => tokens.slice(2, 5)),
            "last",
          );
          for (const index of prompts.keys()) close(row(passed, index), expected[index]![5]!, `pass, row ${index}`);
          await session.reorder(Int32Array.of(2, 0));
          const saved = session.save(1);
          assert.equal(
            session.stateBytes(1),
            saved.parts.reduce((sum, part) => sum + part.byteLength, 0),
          );
          assert.ok(saved.parts.every((part, index) => part instanceof parts[index % parts.length]!));
          session.load([saved]);
          close(row(await session.step(Int32Array.of(tokens[5]!)), 0), expected[0]![6]!, "loaded");
          assert.ok(runtime.memory().tensors > 0);
        });
      });
    }

    test("a row goes on as the row it was copied from: fewer rows, other order, more rows than before", async () => {
      await withSession(config, {}, async (session) => {
        const expected: number[][][] = [];
        for (const prompt of prompts) expected.push(await alone(session, prompt, tokens));
        await session.prefill(prompts);
        let rows = [0, 1, 2];
        for (const [i, sources] of [[2, 0], [1, 0], [0, 1], [1, 0, 1, 1, 0], [0, 1, 2, 4, 3], [1], [0, 0]].entries()) {
          rows = sources.map((source) => rows[source]!);
          await session.reorder(Int32Array.from(sources));
          assert.equal(session.rows, rows.length);
          const logits = await session.step(new Int32Array(rows.length).fill(tokens[i]!));
          rows.forEach((from, index) => {
            assertClose(row(logits, index), expected[from]![i + 1]!, 1e-5, `move ${i}, row ${index} from ${from}`);
          });
        }
      });
    });
  });
}

suite("decoding session", () => {
  test("a prompt is bidirectional: feeding it token by token is something else", async () => {
    await withSession(tinyConfig, {}, async (session) => {
      const whole = Array.from(await session.prefill([prompts[0]]));
      const stepwise = (await alone(session, prompts[0].slice(0, 1), prompts[0].slice(1))).at(-1)!;
      const difference = Math.max(...whole.map((value, i) => Math.abs(value - stepwise[i]!)));
      assert.ok(difference > 0.01, `${difference}`);
    });
  });

  test("segment and task matter", async () => {
    const results: number[][] = [];
    for (const options of [{}, { promptTask: 1 }, { segment: 3 }]) {
      await withSession(tinyConfig, options, async (session) => {
        results.push((await alone(session, prompts[0], [4])).flat());
      });
    }
    for (const other of results.slice(1)) assert.ok(other.some((value, i) => Math.abs(value - results[0]![i]!) > 0.01));
  });

  test("rows may become as long as the capacity and no longer", async () => {
    const capacityTokens = 6;
    await withSession(tinyConfig, { capacityTokens }, async (session) => {
      const longer = { code: "CPM_INFER_CAPACITY", where: "prompt 1", got: "7 tokens" };
      await assert.rejects(session.prefill([[1], Array(7).fill(5)]), longer);
      const logits = Array.from(await session.prefill([Array(6).fill(5), [1, 2]]));
      assert.ok(logits.every(Number.isFinite), "a prompt may fill the session");
      await assert.rejects(session.step(Int32Array.of(1, 1)), { code: "CPM_INFER_CAPACITY", where: "row 0" });
      await session.reorder(Int32Array.of(1));
      const filled = await alone(session, [1, 2], [3, 4, 5, 6]);
      await assert.rejects(session.step(Int32Array.of(1)), { code: "CPM_INFER_CAPACITY", where: "row 0" });
      // Nothing was overwritten by the refused step, and the last slot counts.
      const trained = await trainingLogits(tinyConfig, [1, 2], [3, 4, 5, 6]);
      assertClose(filled.at(-1)!, trained.at(-1)!, 1e-5);
    });
  });

  test("several tokens fill the last slots, beside rows that have more of them to come", async () => {
    await withSession(tinyConfig, { capacityTokens: 6 }, async (session) => {
      const long = [5, 6, 7, 8];
      const short = [9];
      const expected = [await alone(session, long, [1, 2]), await alone(session, short, [3, 4, 5, 6, 7])];
      await session.prefill([long, short]);
      const full = { code: "CPM_INFER_CAPACITY", where: "row 0", got: "3 tokens, with room for 2" };
      await assert.rejects(session.extend([[1, 2, 3], [3]]), full);
      const logits = await session.extend([
        [1, 2],
        [3, 4, 5, 6, 7],
      ]);
      [...expected[0]!.slice(1), ...expected[1]!.slice(1)].forEach((wanted, at) => {
        assertClose(row(logits, at), wanted, 1e-5, `${at}`);
      });
      await assert.rejects(session.extend([[], [1]]), { code: "CPM_INFER_CAPACITY", where: "row 1", got: "6 tokens" });
      await assert.rejects(session.extend([[], []]), /internal/);
      await assert.rejects(session.extend([[1]]), /internal/);
      await assert.rejects(session.extend([[V], []]), { code: "CPM_INFER_PROMPT", where: "the tokens of row 0" });
    });
  });

  test("wrong prompts, ids and rows are refused before anything runs", async () => {
    await withSession(tinyConfig, {}, async (session) => {
      const refused = { code: "CPM_INFER_PROMPT" };
      await assert.rejects(session.step(new Int32Array(0)), /internal/);
      await assert.rejects(session.prefill([]), refused);
      await assert.rejects(session.prefill([[1], []]), { ...refused, where: "prompt 1" });
      for (const id of [-1, V, 1.5]) await assert.rejects(session.prefill([[id]]), { ...refused, got: String(id) });
      const first = await alone(session, [1, 2], [3]);
      await assert.rejects(session.step(Int32Array.of(V)), refused);
      await assert.rejects(session.step(Int32Array.of(-1)), refused);
      await assert.rejects(session.step(Int32Array.of(1, 2)), /internal: 2 tokens for 1 rows/);
      assert.throws(() => session.reorder(Int32Array.of(1)), /internal/);
      const again = Array.from(await session.step(Int32Array.of(7)));
      assert.deepEqual([...first, again], await alone(session, [1, 2], [3, 7]), "the row is what it was");
    });
  });

  test("wrong options are refused", async () => {
    using runtime = createNativeRuntime({ threads: 1 });
    const parameters = uploadWeights(runtime, tinyConfig);
    const refuses = (options: CpmAntSessionOptions, code: string) =>
      assert.rejects(createCpmAntSession(runtime, tinyConfig, parameters, options), { code });
    for (const promptTask of [-1, tinyConfig.promptTypes, 0.5]) await refuses({ promptTask }, "CPM_INFER_TASK");
    for (const segment of [0, tinyConfig.segmentTypes]) await refuses({ segment }, "CPM_INFER_SEGMENT");
    for (const capacityTokens of [0, -3, 2.5, Number.NaN]) await refuses({ capacityTokens }, "CPM_INFER_CAPACITY");
  });

  test("a session that cannot be made leaves nothing, and its weights free", async () => {
    using runtime = createNativeRuntime({ threads: 1 });
    const parameters = uploadWeights(runtime, tinyConfig);
    const { tensors } = runtime.memory();
    for (let limit = 0; limit < 8; limit++) {
      let compiled = 0;
      const failing = interceptCompile(runtime, () => {
        if (compiled++ === limit) throw new Error("no more");
      });
      await assert.rejects(createCpmAntSession(failing, tinyConfig, parameters, { capacityTokens: 8 }), /no more/);
      assert.deepEqual([runtime.memory().programs, runtime.memory().tensors], [0, tensors]);
    }
    for (const tensor of parameters.values()) tensor.dispose();
  });
});
