/**
 * Several LoRA deltas on one base at once: each row of a batch has its own weights of them, so that requests switch,
 * weight and combine deltas while they share programs and passes.
 *
 *     y = x Wᵀ/√I + ((x Aᵀ) ∘ w) Bᵀ,    A the deltas' factors one below the other, B side by side, each times its s
 *
 * w is the row's weight of each delta, repeated for its ranks. A row of zeros is the plain base.
 */
import { add, constant, type Dim, matmul, mul, reshape, spec, type Tensor } from "../graph/index.ts";
import type { ModelConfig } from "../model/config.ts";
import type { Graft, GraftPort, Grafts } from "../model/graft.ts";
import { UnsupportedError } from "../util/error.ts";
import { type DeltaWithValues, finishDelta } from "./finish.ts";
import { graftOf } from "./graft-block.ts";
import type { AttachedPlace } from "./method.ts";
import { type LoraOptions, loraScale } from "./methods/lora.ts";
import type { Place } from "./places.ts";

export interface MixedDeltas {
  readonly grafts: Grafts;
  /** All factors by name, with shapes. */
  readonly tensors: ReadonlyMap<string, { readonly shape: readonly number[]; readonly values: Float32Array }>;
  /** Names of the deltas, in the order of a row's weights. */
  readonly names: readonly string[];
  /** A row's weights; names that are not given count nothing. */
  weights(chosen: Readonly<Record<string, number>>): Float32Array;
}

interface Factors {
  readonly place: Place;
  /** Which delta each of the ranks is of. */
  readonly owners: number[];
  /** Rows of A, and columns of B times s, rank by rank. */
  readonly rows: Float32Array[];
  readonly columns: Float32Array[];
}

/**
 * @throws UnsupportedError CPM_DELTA_MIX for deltas that are not LoRA (DoRA's rows depend on the sum of all)
 */
export function mixDeltas(base: ModelConfig, given: ReadonlyMap<string, DeltaWithValues>): MixedDeltas {
  const names = [...given.keys()];
  const byPlace = new Map<string, Factors>();
  [...given].forEach(([name, each], owner) => {
    const { delta, values } = finishDelta(each);
    for (const { method, options, places } of delta.parts) {
      if (method.name !== "lora" || (options as LoraOptions).dora) throw notMixed(name, method.name);
      const lora = options as LoraOptions;
      const scale = loraScale(lora);
      for (const { place } of places) {
        const factors = byPlace.get(place.module) ?? { place, owners: [], rows: [], columns: [] };
        byPlace.set(place.module, factors);
        const [O, I] = place.shape as [number, number];
        const [a, b] = [values.get(`${place.module}.lora_A`)!, values.get(`${place.module}.lora_B`)!];
        for (let k = 0; k < lora.rank; k++) {
          factors.owners.push(owner);
          factors.rows.push(a.subarray(k * I, (k + 1) * I));
          factors.columns.push(Float32Array.from({ length: O }, (_, o) => scale * b[o * lora.rank + k]!));
        }
      }
    }
  });
  const tensors = new Map<string, { shape: number[]; values: Float32Array }>();
  const blocks: (Graft | undefined)[] = Array.from({ length: base.layers }, (_, layer) => {
    const own = [...byPlace.values()].filter(({ place }) => place.layer === layer);
    return own.length === 0 ? undefined : blockGraft(own, names.length, tensors, base);
  });
  return {
    grafts: { config: base, prefixSlots: 0, mixes: names.length, blocks },
    tensors,
    names,
    weights: (chosen) => Float32Array.from(names, (name) => chosen[name] ?? 0),
  };
}

function blockGraft(
  places: readonly Factors[],
  K: number,
  tensors: Map<string, { shape: number[]; values: Float32Array }>,
  base: ModelConfig,
): Graft {
  let mix: Tensor | undefined;
  const attached = places.map(({ place, owners, rows, columns }) => {
    const [O, I] = place.shape as [number, number];
    const R = owners.length;
    const a = new Float32Array(R * I);
    const b = new Float32Array(O * R);
    rows.forEach((row, r) => {
      a.set(row, r * I);
    });
    columns.forEach((column, r) => {
      column.forEach((value, o) => {
        b[o * R + r] = value;
      });
    });
    tensors.set(`${place.module}.mixed_A`, { shape: [R, I], values: a });
    tensors.set(`${place.module}.mixed_B`, { shape: [O, R], values: b });
    const spread = Float32Array.from({ length: K * R }, (_, i) => Number(owners[i % R] === Math.floor(i / R)));
    const parameter = (local: string, shape: readonly number[]) => {
      return { local, name: `${place.module}.${local}`, shape, initialize: () => {} };
    };
    const found: AttachedPlace = {
      place,
      parameters: [parameter("mixed_A", [R, I]), parameter("mixed_B", [O, R])],
      edits: {
        output: ({ x, y }, delta) => {
          const [B] = mix!.shape as [Dim, Dim];
          const weights_BR = matmul(mix!, constant(spread, "float32", [K, R]));
          const inner_NR = matmul(x, delta("mixed_A"), { transposeB: true });
          // Rows of a batch are runs of rows of the product.
          const inner_BTR = reshape(inner_NR, [B, -1, R]);
          const weighted = reshape(mul(inner_BTR, reshape(weights_BR, [B, 1, R])), inner_NR.shape);
          return add(y, matmul(weighted, delta("mixed_B"), { transposeB: true }));
        },
      },
    };
    return { ...found, signature: `mixed ${owners.join(",")}` };
  });
  const plain = graftOf(attached, base)!;
  return {
    ...plain,
    mixes: K,
    ports: plain.ports.map(
      ({ port, tensor, spec: { shape } }): GraftPort => ({ port, tensor, spec: spec("float32", shape) }),
    ),
    apply(outputs, inputs) {
      mix = inputs.get("delta.mix");
      return plain.apply(outputs, inputs);
    },
  };
}

function notMixed(name: string, method: string): UnsupportedError {
  return new UnsupportedError("CPM_DELTA_MIX", "this delta cannot share a batch with others", {
    where: name,
    got: method,
    expected: "lora without dora",
    hint: "Use it alone, or merged into a base of its own.",
  });
}
