/**
 * LoRA (Hu et al., arXiv 2106.09685): a branch of rank r beside a linear layer.
 *
 *     y = x Wᵀ/√I + s · x Aᵀ Bᵀ,    A [r, I],  B [O, r],  s = alpha/r
 *
 * As in the original the branch knows nothing of the layer's 1/√I, so W′ = W + s·√I·BA. A begins Kaiming-uniform with
 * a = √5 (uniform within 1/√I), B at zero. Options:
 *
 * - `rankStabilized` (rsLoRA, arXiv 2312.03732): s = alpha/√r
 * - `dora` (DoRA, arXiv 2402.09353): y = m/‖W/√I + s·BA‖ ∘ (that), row by row, with a magnitude m [O] that is trained; the
 *   norm counts as a constant for gradients (unless `constantNorm` is false). m begins as the norm.
 * - `rateRatio` (LoRA+, arXiv 2402.12354): B learns so many times faster than A
 * - `init: "pissa"` (PiSSA, arXiv 2404.02948): A and B begin as the r principal directions of W/√I, which are taken out
 *   of the base by a frozen branch of their own, A0 and B0, so that the base stays as it is
 */
import { z } from "zod";
import {
  add,
  div,
  matmul,
  mul,
  reduceSum,
  reduceSumSquare,
  reshape,
  sqrt,
  stopGradient,
  sub,
  type Tensor,
} from "../../graph/index.ts";
import { fillUniform } from "../../util/random.ts";
import { type DeltaParameter, defineMethod, type InitialContext, type Merge, type OutputSite } from "../method.ts";
import { optionError } from "../option-error.ts";
import { principalFactors } from "../principal-factors.ts";

export const loraOptions = z.object({
  rank: z.int().min(1).max(4096).default(8),
  alpha: z.number().positive().default(16),
  rankStabilized: z.boolean().default(false),
  dora: z.boolean().default(false),
  /** Of DoRA: gradients do not flow through the norm, as its authors recommend. */
  constantNorm: z.boolean().default(true),
  /** 1: both factors at the schedule's rate. */
  rateRatio: z.number().positive().default(1),
  init: z.enum(["kaiming", "pissa"]).default("kaiming"),
});
export type LoraOptions = z.output<typeof loraOptions>;

/** s of the branch. */
export function loraScale({
  rank,
  alpha,
  rankStabilized,
}: Pick<LoraOptions, "rank" | "alpha" | "rankStabilized">): number {
  return alpha / (rankStabilized ? Math.sqrt(rank) : rank);
}

/** s · x Aᵀ Bᵀ */
function branch(x: Tensor, a: Tensor, b: Tensor, scale: number): Tensor {
  return matmul(matmul(x, a, { transposeB: true }), b, { transposeB: true, alpha: scale });
}

/**
 * ‖αW + s·BA‖ of each row, [O], without making BA: ‖αW‖² + 2s·α·Σ B∘(WAᵀ) + s²·Σ B∘(B·AAᵀ).
 */
function rowNorms(
  { weight, alpha }: Pick<OutputSite, "weight" | "alpha">,
  a: Tensor,
  b: Tensor,
  scale: number,
): Tensor {
  const own = mul(reduceSumSquare(weight, -1), alpha * alpha);
  const cross = mul(reduceSum(mul(b, matmul(weight, a, { transposeB: true, alpha })), -1), 2 * scale);
  const inner = matmul(b, matmul(a, a, { transposeB: true }));
  return sqrt(add(add(own, cross), mul(reduceSum(mul(b, inner), -1), scale * scale)));
}

export const lora = defineMethod({
  name: "lora",
  summary: {
    zh: "线性层旁的低秩支路；可选 rsLoRA、DoRA、LoRA+、PiSSA",
    en: "a low-rank branch beside linear layers; rsLoRA, DoRA, LoRA+ and PiSSA as options",
  },
  options: loraOptions,
  kinds: ["linear"],
  defaultPlaces: ["attn.q", "attn.v"],
  startsAs: "rounding",
  attach(place, options) {
    const { rank: r, dora, constantNorm, init } = options;
    const [O, I] = place.shape as [number, number];
    const scale = loraScale(options);
    const alpha = 1 / Math.sqrt(I);
    const pissa = init === "pissa";
    const name = (local: string) => `${place.module}.${local}`;
    const principal = new WeakMap<InitialContext, Promise<ReturnType<typeof principalFactors>>>();
    const factorsOf = (context: InitialContext) => {
      const make = async () =>
        principalFactors(
          await context.base(place.parameter!.name),
          [O, I],
          r,
          alpha / scale,
          context.seed,
          place.module,
        );
      const found = principal.get(context) ?? make();
      principal.set(context, found);
      return found;
    };
    const factor = (local: string, side: "A" | "B", frozen = false): DeltaParameter => ({
      local,
      name: name(local),
      shape: side === "A" ? [r, I] : [O, r],
      ...(frozen && { frozen }),
      async initialize(out, context) {
        if (pissa) {
          const { left, right } = await factorsOf(context);
          out.set(side === "A" ? right : left);
        } else if (side === "A") fillUniform(out, context.seed, name(local), -1 / Math.sqrt(I), 1 / Math.sqrt(I));
      },
    });
    const magnitude: DeltaParameter = {
      local: "lora_magnitude_vector",
      name: name("lora_magnitude_vector"),
      shape: [O],
      async initialize(out, { base }) {
        const weight = await base(place.parameter!.name);
        for (let o = 0; o < O; o++) {
          let sum = 0;
          for (let i = 0; i < I; i++) sum += weight[o * I + i]! ** 2;
          out[o] = alpha * Math.sqrt(sum);
        }
      },
    };
    return {
      place,
      parameters: [
        factor("lora_A", "A"),
        factor("lora_B", "B"),
        ...(pissa ? [factor("lora_A0", "A", true), factor("lora_B0", "B", true)] : []),
        ...(dora ? [magnitude] : []),
      ],
      edits: {
        output: ({ x, y, weight, alpha: own }, delta) => {
          const [a, b] = [delta("lora_A"), delta("lora_B")];
          let sum = add(y, branch(x, a, b, scale));
          if (pissa) sum = sub(sum, branch(x, delta("lora_A0"), delta("lora_B0"), scale));
          if (!dora) return sum;
          const norms = rowNorms({ weight, alpha: own }, a, b, scale);
          const constant = constantNorm ? stopGradient(norms) : norms;
          return mul(sum, reshape(div(delta("lora_magnitude_vector"), constant), [1, O]));
        },
      },
    };
  },
  check({ rank, dora, init }, places) {
    if (dora && init === "pissa") throw optionError("lora", "dora with init pissa", "one of the two");
    for (const { name, shape } of places) {
      if (rank > Math.min(...shape))
        throw optionError("lora", `rank ${rank} at ${name}`, `at most ${Math.min(...shape)}`);
    }
  },
  merge: (options) => merging(options, 1),
  unmerge: (options) => (options.dora ? undefined : merging(options, -1)),
  // s(BA − B₀A₀) = s [B, −B₀] [A; A₀]: one branch of twice the rank, whose s must come out the same.
  finished: ({ init, ...options }) =>
    init !== "pissa"
      ? undefined
      : {
          options: {
            ...options,
            init: "kaiming" as const,
            rank: 2 * options.rank,
            alpha: options.alpha * (options.rankStabilized ? Math.SQRT2 : 2),
          },
          values: ({ shape: [O] }, delta) => ({
            lora_A: below(delta("lora_A"), delta("lora_A0")),
            lora_B: besideNegated(delta("lora_B"), delta("lora_B0"), O!),
          }),
        },
  groups: ({ rateRatio }) => (rateRatio === 1 ? [] : [{ match: "*.lora_B", rateFactor: rateRatio }]),
});

/** W ± s·√I·(BA − B0A0); with a magnitude the rows are scaled to it. */
function merging({ rank: r, dora, init, ...options }: LoraOptions, sign: 1 | -1): Merge {
  const scale = loraScale({ rank: r, ...options });
  return (weight, [O, I], delta) => {
    const factor = sign * scale * Math.sqrt(I);
    addProduct(weight, delta("lora_B"), delta("lora_A"), [O, I, r], factor);
    if (init === "pissa") addProduct(weight, delta("lora_B0"), delta("lora_A0"), [O, I, r], -factor);
    if (!dora) return;
    const magnitude = delta("lora_magnitude_vector");
    for (let o = 0; o < O; o++) {
      const row = weight.subarray(o * I, (o + 1) * I);
      const norm = Math.sqrt(row.reduce((sum, w) => sum + w * w, 0) / I);
      const ratio = magnitude[o]! / norm;
      for (let i = 0; i < I; i++) row[i]! *= ratio;
    }
  };
}

/** [A; A₀] */
function below(a: Float32Array, a0: Float32Array): Float32Array {
  const out = new Float32Array(a.length + a0.length);
  out.set(a);
  out.set(a0, a.length);
  return out;
}

/** [B, −B₀]: `[O, 2r]` of two `[O, r]`. */
function besideNegated(b: Float32Array, b0: Float32Array, O: number): Float32Array {
  const r = b.length / O;
  return Float32Array.from({ length: 2 * b.length }, (_, i) => {
    const [o, k] = [Math.floor(i / (2 * r)), i % (2 * r)];
    return k < r ? b[o * r + k]! : -b0[o * r + k - r]!;
  });
}

/** out [O, I] += factor · B [O, r] · A [r, I], summed in float64. */
function addProduct(
  out: Float32Array,
  b: Float32Array,
  a: Float32Array,
  [O, I, r]: readonly [number, number, number],
  factor: number,
): void {
  const sums = new Float64Array(I);
  for (let o = 0; o < O; o++) {
    sums.fill(0);
    for (let k = 0; k < r; k++) {
      const scale = b[o * r + k]! * factor;
      if (scale === 0) continue;
      const row = a.subarray(k * I, (k + 1) * I);
      for (let i = 0; i < I; i++) sums[i]! += scale * row[i]!;
    }
    for (let i = 0; i < I; i++) out[o * I + i] = out[o * I + i]! + sums[i]!;
  }
}
