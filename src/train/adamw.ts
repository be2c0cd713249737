/**
 * AdamW with global gradient clipping, in place, over flat pieces of the parameter arena.
 *
 *     m ← β₁m + (1−β₁)cg,   v ← β₂v + (1−β₂)(cg)²,   m̂ = m/(1−β₁ᵗ),   v̂ = v/(1−β₂ᵗ)
 *     p ← p − lr·m̂/(√v̂ + ε) − lr·λp
 *
 * with c = min(1, limit/‖g‖) over all gradients together. Decay is decoupled and applies to every parameter, norms and
 * tables included, as the original trained (Loshchilov and Hutter, arXiv 1711.05101), unless a group has its own; lr and λ
 * are a group's. An average of the weights, e ← d·e + (1−d)·p, is kept in the same pass where it is asked for.
 *
 * The arena is worked through piece by piece: a piece and its intermediate values stay in the cache, so the memory bus
 * carries each number once in and once out. Threads take pieces, not shares of one operator: there is nothing to wait
 * for between the thirteen operators of a piece.
 */
import {
  add,
  dim,
  div,
  dropUnusedInputs,
  type Graph,
  mul,
  optimize,
  reduceSumSquare,
  spec,
  sqrt,
  sub,
  type Tensor,
  trace,
} from "../graph/index.ts";
import type { Binding, DeviceTensor, Program, Runtime } from "../runtime/runtime.ts";
import { type Owner, ownedBy } from "../util/owner.ts";
import type { Arena } from "./arena.ts";
import { type EmaOptions, emaDecayAt, type ParameterGroup } from "./optimizer-options.ts";
import { runSideBySide } from "./side-by-side.ts";

export interface AdamWOptions {
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  /** λ: the share of the learning rate by which parameters shrink. */
  readonly weightDecay: number;
  /** Largest allowed ‖g‖ of all gradients together; 0 leaves them as they are. */
  readonly clipNorm: number;
  /** Of the layout's groups by index; a group beyond them has the settings above. */
  readonly groups?: readonly ParameterGroup[] | undefined;
  /** Needs `ema` among the moments. */
  readonly ema?: EmaOptions | undefined;
}

export const adamWDefaults: AdamWOptions = { beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0.01, clipNorm: 1 };

export interface AdamW {
  /** Updates done so far: t of the formula. */
  readonly steps: number;
  /** Moments in the parameters' layout, and the counter: all that resuming needs. */
  readonly moments: Moments;
  restore(steps: number): void;
  /** ‖g‖ over all gradients, before clipping; of gradients that were multiplied by `gradientScale`, without it. */
  gradientNorm(gradientScale?: number): Promise<number>;
  /** One update at a learning rate; `norm` and the scale are what `gradientNorm` gave and was given. */
  update(learningRate: number, norm: number, gradientScale?: number): Promise<void>;
  dispose(): void;
}

/** First and second moments, and the averaged weights, which begin as the weights. */
export interface Moments {
  readonly first: Arena;
  readonly second: Arena;
  readonly ema?: Arena | undefined;
}

/** Pieces that one run works through, one after the other: the cost of a run is spread over them. */
const piecesPerRun = 8;

/** The last two are of the average alone. */
const coefficientNames = ["beta1", "newM", "beta2", "newV", "eps", "rate", "keep", "oldE", "newE"] as const;

/**
 * The update of several pieces [N]. Coefficients are [1] tensors, written before each step. N is a number, not a name:
 * the runtime then plans the memory of intermediate values once, instead of asking for it at each operator.
 */
function updateGraph(N: number, averages: boolean): Graph {
  const vector = spec("float32", [N]);
  const one = spec("float32", [1]);
  const update = ({ p, g, m, v, e }: Piece, c: Coefficients) => {
    const first = add(mul(m, c.beta1), mul(g, c.newM));
    const second = add(mul(v, c.beta2), mul(mul(g, g), c.newV));
    const step = mul(div(first, add(sqrt(second), c.eps)), c.rate);
    const next = sub(mul(p, c.keep), step);
    return { p: next, m: first, v: second, ...(e && { e: add(mul(e, c.oldE), mul(next, c.newE)) }) };
  };
  const piece = { p: vector, g: vector, m: vector, v: vector, ...(averages && { e: vector }) };
  const graph = trace(
    "adamw",
    ({ pieces, coefficients }) => ({ next: pieces.map((each) => update(each, coefficients)) }),
    {
      pieces: Array.from({ length: piecesPerRun }, (): Piece<typeof vector> => piece),
      coefficients: Object.fromEntries(coefficientNames.map((name) => [name, one])) as Coefficients<typeof one>,
    },
  );
  return optimize(dropUnusedInputs(graph));
}

type Coefficients<T = Tensor> = Record<(typeof coefficientNames)[number], T>;
type Piece<T = Tensor> = Record<"p" | "g" | "m" | "v", T> & { readonly e?: T };

/** Σ g² of a run's worth of gradients. */
function normGraph(): Graph {
  return trace("gradient-norm", ({ g }) => ({ square: reduceSumSquare(g, [0], true) }), {
    g: spec("float32", [dim("N")]),
  });
}

export async function createAdamW(
  runtime: Runtime,
  parameters: Arena,
  gradients: Arena,
  moments: Moments,
  options: AdamWOptions = adamWDefaults,
): Promise<AdamW> {
  return ownedBy((owner) => makeAdamW(owner, runtime, parameters, gradients, moments, options));
}

async function makeAdamW(
  owner: Owner,
  runtime: Runtime,
  parameters: Arena,
  gradients: Arena,
  moments: Moments,
  options: AdamWOptions,
): Promise<AdamW> {
  const { own } = owner;
  const { beta1, beta2, eps, weightDecay, clipNorm, groups = [], ema } = options;
  if ((ema === undefined) !== (moments.ema === undefined)) throw new Error("internal: an average without its settings");
  // Every node runs in its caller's thread; the runs go side by side.
  const compile = async (graph: Graph): Promise<Program> => own(await runtime.compile(graph, { threads: "caller" }));
  const programs = new Map<number, Program>();
  const updateOf = async (runElements: number): Promise<Program> => {
    const program = programs.get(runElements) ?? (await compile(updateGraph(runElements / piecesPerRun, !!ema)));
    programs.set(runElements, program);
    return program;
  };
  const normProgram = await compile(normGraph());
  const used = coefficientNames.slice(0, ema ? undefined : -2);
  const allocated = () =>
    Object.fromEntries(used.map((name) => [`coefficients.${name}`, own(runtime.allocate("float32", [1]))]));
  const updates: Binding[] = [];
  const norms: Binding[] = [];
  const runs = parameters.layout.groups.reduce((sum, each) => sum + each.elements / each.runElements, 0);
  const squares = own(runtime.allocate("float32", [runs]));
  const arenas = {
    p: parameters,
    g: gradients,
    m: moments.first,
    v: moments.second,
    ...(moments.ema && { e: moments.ema }),
  };
  const ofGroup: { decay: number; factor: number; coefficients: Record<string, DeviceTensor> }[] = [];
  for (const { index, start: first, elements, runElements } of parameters.layout.groups) {
    const coefficients = allocated();
    const { weightDecay: decay = weightDecay, rateFactor: factor = 1 } = groups[index] ?? {};
    ofGroup.push({ decay, factor, coefficients });
    const program = await updateOf(runElements);
    const pieceElements = runElements / piecesPerRun;
    for (let start = first; start < first + elements; start += runElements) {
      const inputs: Record<string, DeviceTensor> = { ...coefficients };
      const outputs: Record<string, DeviceTensor> = {};
      for (let piece = 0; piece < piecesPerRun; piece++) {
        for (const [key, arena] of Object.entries(arenas)) {
          const part = own(arena.flat.alias([pieceElements], (start + piece * pieceElements) * 4));
          inputs[`pieces.${piece}.${key}`] = part;
          if (key !== "g") outputs[`next.${piece}.${key}`] = part;
        }
      }
      updates.push(own(program.bind(inputs, outputs)));
      const g = own(gradients.flat.alias([runElements], start * 4));
      norms.push(own(normProgram.bind({ g }, { square: own(squares.alias([1], norms.length * 4)) })));
    }
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
    async gradientNorm(gradientScale = 1) {
      await runSideBySide(norms, runtime.info.threads);
      const values = (await runtime.download(squares)) as Float32Array;
      return Math.sqrt(values.reduce((sum, square) => sum + square, 0)) / gradientScale;
    },
    async update(learningRate, norm, gradientScale = 1) {
      steps++;
      const clip = (clipNorm > 0 && norm > clipNorm ? clipNorm / norm : 1) / gradientScale;
      const oldE = ema ? emaDecayAt(ema, steps) : 0;
      // √v̂ + ε = (√v + ε√(1−β₂ᵗ)) / √(1−β₂ᵗ): both corrections become factors of the rate and of ε.
      const correction = Math.sqrt(1 - beta2 ** steps);
      for (const { decay, factor, coefficients } of ofGroup) {
        const rate = learningRate * factor;
        const values: Coefficients<number> = {
          beta1,
          newM: (1 - beta1) * clip,
          beta2,
          newV: (1 - beta2) * clip * clip,
          eps: eps * correction,
          rate: (rate * correction) / (1 - beta1 ** steps),
          keep: 1 - rate * decay,
          oldE,
          newE: 1 - oldE,
        };
        for (const name of used) runtime.write(coefficients[`coefficients.${name}`]!, Float32Array.of(values[name]));
      }
      await runSideBySide(updates, runtime.info.threads);
    },
    dispose() {
      owner.dispose();
    },
  };
}
