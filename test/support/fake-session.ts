/**
 * A `DecodingSession` without a model, for tests of decoding: the logits of a row are a pure function of its tokens (by
 * default seeded normals for its last three, like an n-gram table). It watches its caller: overlapping calls, tokens
 * outside of the vocabulary, rows beyond the capacity, and reading logits after they have expired all fail.
 */
import assert from "node:assert/strict";
import type { DecodingSession } from "../../src/infer/session.ts";
import { fillNormal } from "../../src/util/random.ts";

export interface FakeSession extends DecodingSession {
  /** What was called, with the number of rows after it: "prefill 2", "reorder 3", "step 3". */
  readonly calls: string[];
  /** The tokens of each row now. */
  readonly tokens: readonly (readonly number[])[];
}

export interface FakeSessionSettings {
  readonly vocabSize: number;
  readonly capacityTokens?: number;
  readonly logitsOf?: (tokens: readonly number[]) => Float32Array;
  /** Called at the start of `step`, before anything changes: to abort or to throw at a known moment. */
  readonly onStep?: (step: number) => void;
}

/** Logits of a seeded trigram model: normals with a standard deviation of `spread` nats. */
export function ngramLogits(vocabSize: number, seed: number, spread = 2): (tokens: readonly number[]) => Float32Array {
  return (tokens) => {
    const row = new Float32Array(vocabSize);
    fillNormal(row, seed, tokens.slice(-3).join(" "), 0, spread);
    return row;
  };
}

export function createFakeSession({
  vocabSize,
  capacityTokens = 1000,
  logitsOf = ngramLogits(vocabSize, 1),
  onStep,
}: FakeSessionSettings): FakeSession {
  const calls: string[] = [];
  let rows: number[][] = [];
  let returned = new Float32Array(0);
  let busy = false;
  let steps = 0;

  async function call(name: string, change: () => void): Promise<Float32Array> {
    assert.ok(!busy, `${name} while another call runs`);
    busy = true;
    returned.fill(Number.NaN); // expired
    await Promise.resolve();
    try {
      change();
      calls.push(`${name} ${rows.length}`);
      const capacity = Math.max(...rows.map((tokens) => tokens.length));
      assert.ok(capacity <= capacityTokens, `${capacity} tokens in a session of ${capacityTokens}`);
      for (const tokens of rows) for (const id of tokens) assert.ok(id >= 0 && id < vocabSize, `token ${id}`);
      returned = new Float32Array(rows.length * vocabSize);
      for (const [row, tokens] of rows.entries()) returned.set(logitsOf(tokens), row * vocabSize);
      return returned;
    } finally {
      busy = false;
    }
  }

  return {
    vocabSize,
    capacityTokens,
    calls,
    get rows() {
      return rows.length;
    },
    get tokens() {
      return rows;
    },
    prefill: (prompts) =>
      call("prefill", () => {
        rows = prompts.map((prompt) => [...prompt]);
        steps = 0;
      }),
    step: (tokens) =>
      call("step", () => {
        onStep?.(++steps);
        assert.equal(tokens.length, rows.length, "one token a row");
        for (const [row, id] of tokens.entries()) rows[row]!.push(id);
      }),
    async reorder(sources) {
      await call("reorder", () => {
        rows = Array.from(sources, (source) => [...rows[source]!]);
      });
      returned.fill(Number.NaN);
    },
    dispose() {
      rows = [];
    },
  };
}
