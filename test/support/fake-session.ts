/**
 * A `DecodingSession` without a model, for tests of decoding: the logits of a row are a pure function of its tokens (by
 * default seeded normals for its last three, like an n-gram table). It watches its caller: overlapping calls, tokens
 * outside of the vocabulary, rows beyond the capacity, and reading logits after they have expired all fail.
 */
import assert from "node:assert/strict";
import type { DecodingSession } from "../../src/infer/session.ts";
import { fillNormal } from "../../src/util/random.ts";

export interface FakeSession extends DecodingSession {
  /** What was called, with the number of rows after it: "prefill 2", "reorder 3", "step 3", "extend 3". */
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
  /** Tokens of each row's prompt. */
  let given: number[] = [];
  let returned = new Float32Array(0);
  let busy = false;
  let steps = 0;

  async function call(name: string, change: () => void, after?: () => number[][]): Promise<Float32Array> {
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
      const texts = after?.() ?? rows;
      returned = new Float32Array(texts.length * vocabSize);
      for (const [row, tokens] of texts.entries()) returned.set(logitsOf(tokens), row * vocabSize);
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
        given = rows.map((tokens) => tokens.length);
        steps = 0;
      }),
    step: (tokens) =>
      call("step", () => {
        onStep?.(++steps);
        assert.equal(tokens.length, rows.length, "one token a row");
        for (const [row, id] of tokens.entries()) rows[row]!.push(id);
      }),
    extend: (tokens, wanted = "all") =>
      call(
        "extend",
        () => {
          onStep?.(++steps);
          assert.equal(tokens.length, rows.length, "tokens for every row");
          assert.ok(
            tokens.some((own) => own.length > 0),
            "a row is fed something",
          );
          for (const [row, own] of tokens.entries()) rows[row]!.push(...Array.from(own));
        },
        () =>
          tokens.flatMap((own, row) => {
            const text = rows[row]!;
            const count = wanted === "all" ? own.length : Math.min(own.length, 1);
            return Array.from({ length: count }, (_, i) => text.slice(0, text.length - count + 1 + i));
          }),
      ),
    truncate(removed) {
      returned.fill(Number.NaN);
      rows = rows.map((tokens, row) => {
        const kept = tokens.length - removed[row]!;
        assert.ok(kept >= given[row]!, `row ${row} would lose tokens of its prompt`);
        return tokens.slice(0, kept);
      });
    },
    stateBytes: (row) => 4 * rows[row]!.length,
    save: (row) => ({ length: rows[row]!.length, promptLength: given[row]!, parts: [Float32Array.from(rows[row]!)] }),
    load(states) {
      returned.fill(Number.NaN);
      rows = states.map(({ parts }) => Array.from(parts[0]!));
      given = states.map(({ promptLength }) => promptLength);
      calls.push(`load ${rows.length}`);
    },
    async reorder(sources) {
      await call("reorder", () => {
        given = Array.from(sources, (source) => given[source]!);
        rows = Array.from(sources, (source) => [...rows[source]!]);
      });
      returned.fill(Number.NaN);
    },
    dispose() {
      rows = [];
    },
  };
}
