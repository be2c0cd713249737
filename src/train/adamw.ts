/**
 * AdamW with global gradient clipping, in place, over flat pieces of the parameter arena.
 *
 *     m ← β₁m + (1−β₁)cg,   v ← β₂v + (1−β₂)(cg)²,   m̂ = m/(1−β₁ᵗ),   v̂ = v/(1−β₂ᵗ)
 *     p ← p − lr·m̂/(√v̂ + ε) − lr·λp
 *
 * with c = min(1, limit/‖g‖) over all gradients together. Decay is decoupled and applies to every parameter, norms and
 * tables included, as the original trained (Loshchilov and Hutter, arXiv 1711.05101).
 *
 * One program works through the arena piece by piece: a piece and its intermediate values stay in the cache, so the
 * memory bus carries each number once in and once out.
 */
import { add, dim, div, type Graph, mul, optimize, reduceSumSquare, spec, sqrt, sub, trace } from "../graph/index.ts";
import type { Binding, DeviceTensor, Program, Runtime } from "../runtime/runtime.ts";
import type { Arena } from "./arena.ts";

export interface AdamWOptions {
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  /** λ: the share of the learning rate by which parameters shrink. */
  readonly weightDecay: number;
  /** Largest allowed ‖g‖ of all gradients together; 0 leaves them as they are. */
  readonly clipNorm: number;
}

export const adamWDefaults: AdamWOptions = { beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0.01, clipNorm: 1 };

export interface AdamW {
  /** Updates done so far: t of the formula. */
  readonly steps: number;
  /** First and second moments in the parameters' layout, and the counter: all that resuming needs. */
  readonly moments: { readonly first: Arena; readonly second: Arena };
  restore(steps: number): void;
  /** ‖g‖ over all gradients, before clipping. */
  gradientNorm(): Promise<number>;
  /** One update at a learning rate; `norm` is what `gradientNorm` gave. */
  update(learningRate: number, norm: number): Promise<void>;
  dispose(): void;
}

/** Elements of a piece: five arrays of it fit a core's second-level cache. */
const pieceElements = 32 * 1024;

/** The update of a piece: coefficients are `[1]` tensors, written before each step. */
function updateGraph(): Graph {
  const N = dim("N");
  const vector = spec("float32", [N]);
  const one = spec("float32", [1]);
  return optimize(
    trace(
      "adamw",
      ({ p, g, m, v, beta1, newM, beta2, newV, eps, rate, keep }) => {
        const first = add(mul(m, beta1), mul(g, newM));
        const second = add(mul(v, beta2), mul(mul(g, g), newV));
        const step = mul(div(first, add(sqrt(second), eps)), rate);
        return { "new.p": sub(mul(p, keep), step), "new.m": first, "new.v": second };
      },
      {
        p: vector,
        g: vector,
        m: vector,
        v: vector,
        beta1: one,
        newM: one,
        beta2: one,
        newV: one,
        eps: one,
        rate: one,
        keep: one,
      },
    ),
  );
}

function normGraph(): Graph {
  return trace("gradient-norm", ({ g }) => ({ square: reduceSumSquare(g, [0], true) }), {
    g: spec("float32", [dim("N")]),
  });
}

export async function createAdamW(
  runtime: Runtime,
  parameters: Arena,
  gradients: Arena,
  moments: { readonly first: Arena; readonly second: Arena },
  options: AdamWOptions = adamWDefaults,
): Promise<AdamW> {
  const { beta1, beta2, eps, weightDecay, clipNorm } = options;
  const { elements } = parameters.layout;
  const owned: { dispose(): void }[] = [];
  const own = <T extends { dispose(): void }>(thing: T): T => {
    owned.push(thing);
    return thing;
  };
  const updateProgram: Program = own(await runtime.compile(updateGraph()));
  const normProgram: Program = own(await runtime.compile(normGraph()));
  const names = ["beta1", "newM", "beta2", "newV", "eps", "rate", "keep"] as const;
  const coefficients = Object.fromEntries(names.map((name) => [name, own(runtime.allocate("float32", [1]))]));
  const updates: Binding[] = [];
  const norms: Binding[] = [];
  const pieces = Math.ceil(elements / pieceElements);
  const squares = own(runtime.allocate("float32", [pieces]));
  for (let piece = 0; piece < pieces; piece++) {
    const start = piece * pieceElements;
    const length = Math.min(pieceElements, elements - start);
    const part = (arena: Arena): DeviceTensor => own(arena.flat.alias([length], start * 4));
    const [p, g, m, v] = [parameters, gradients, moments.first, moments.second].map(part) as [
      DeviceTensor,
      DeviceTensor,
      DeviceTensor,
      DeviceTensor,
    ];
    updates.push(own(updateProgram.bind({ p, g, m, v, ...coefficients }, { "new.p": p, "new.m": m, "new.v": v })));
    norms.push(own(normProgram.bind({ g }, { square: own(squares.alias([1], piece * 4)) })));
  }

  let steps = 0;
  return {
    get steps() {
      return steps;
    },
    moments,
    restore(at) {
      steps = at;
    },
    async gradientNorm() {
      for (const binding of norms) binding.runSync();
      const values = (await runtime.download(squares)) as Float32Array;
      return Math.sqrt(values.reduce((sum, square) => sum + square, 0));
    },
    async update(learningRate, norm) {
      steps++;
      const clip = clipNorm > 0 && norm > clipNorm ? clipNorm / norm : 1;
      // √v̂ + ε = (√v + ε√(1−β₂ᵗ)) / √(1−β₂ᵗ): both corrections become factors of the rate and of ε.
      const correction = Math.sqrt(1 - beta2 ** steps);
      const values: Record<(typeof names)[number], number> = {
        beta1,
        newM: (1 - beta1) * clip,
        beta2,
        newV: (1 - beta2) * clip * clip,
        eps: eps * correction,
        rate: (learningRate * correction) / (1 - beta1 ** steps),
        keep: 1 - learningRate * weightDecay,
      };
      for (const name of names) runtime.write(coefficients[name]!, Float32Array.of(values[name]));
      for (const binding of updates) binding.runSync();
    },
    dispose() {
      for (const thing of owned.toReversed()) thing.dispose();
      owned.length = 0;
    },
  };
}
