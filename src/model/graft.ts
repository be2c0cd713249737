/**
 * Grafts: changes to what a model's programs compute, made after tracing. The model's functions know nothing of them.
 *
 * A program that is traced from the model is rewritten by its graft before it is differentiated, optimised and compiled,
 * so training, decoding and every other program of a grafted model come from the same two definitions: the model's and the
 * graft's. A graft brings tensors of its own, inputs of the program under `delta.PORT`.
 */
import { dim, isTensor, mapTree, named, spec, type Tensor, type TensorSpec, type Tree } from "../graph/index.ts";
import type { ModelConfig } from "./config.ts";

export interface GraftPort {
  /** The program's input is `delta.PORT`. */
  readonly port: string;
  /** The name of the tensor that is bound to it. Several programs may share one. */
  readonly tensor: string;
  readonly spec: TensorSpec;
}

export interface Graft {
  /** Programs whose grafts have equal keys are equal, whatever the names of their tensors. */
  readonly key: string;
  readonly ports: readonly GraftPort[];
  /** Whether it has an input `delta.mix` `[B, K]`: for each row of a batch the weight of each of K deltas. */
  readonly mixes?: number | undefined;
  /** Dtypes and shapes of parameters (by path, `params.prompt`) that are not what the grafted config says. */
  readonly specs?: Readonly<Record<string, TensorSpec>>;
  /** What the program's outputs become; `inputs` are all its inputs by path, `delta.PORT` among them. */
  apply(outputs: readonly Tensor[], inputs: ReadonlyMap<string, Tensor>): readonly Tensor[];
}

/** Grafts of a whole model, by program. */
export interface Grafts {
  /** What programs and batches are made for: a soft prompt makes the prompt longer. */
  readonly config: ModelConfig;
  /** Keys and values that stand before each row's in every attention. */
  readonly prefixSlots: number;
  readonly embed?: Graft | undefined;
  readonly head?: Graft | undefined;
  /** K: deltas that each row of a batch has weights for; 0 or absent where all rows have the same. */
  readonly mixes?: number | undefined;
  /** By layer. */
  readonly blocks: readonly (Graft | undefined)[];
}

/** A program's argument specs with those of its graft. */
export function graftedSpecs<Specs extends object>(specs: Specs, graft: Graft | undefined): Specs {
  if (graft === undefined) return specs;
  const own = mapTree(specs as Tree<TensorSpec>, isLeafSpec, (each, path) => graft.specs?.[path] ?? each) as Specs;
  const ports = Object.fromEntries(graft.ports.map(({ port, spec: each }) => [port, each]));
  const delta = { ...ports, ...(graft.mixes && { mix: spec("float32", [dim("B"), graft.mixes]) }) };
  return Object.keys(delta).length === 0 ? own : { ...own, delta };
}

function isLeafSpec(value: unknown): value is TensorSpec {
  return typeof value === "object" && value !== null && "dtype" in value;
}

/** A function of a program as its graft changes it. */
export function grafted<Args extends object, Results extends object>(
  run: (args: Args) => Results,
  graft: Graft | undefined,
): (args: Args) => Results {
  if (graft === undefined) return run;
  return (args) => {
    const results = run(args) as Tree<Tensor>;
    const before = named(results).map(([, tensor]) => tensor);
    const after = graft.apply(before, new Map(named(args as Tree<Tensor>)));
    let at = 0;
    return mapTree(results, isTensor, () => after[at++]!) as Results;
  };
}

/** What is bound to a graft's inputs: `delta.PORT` by tensor. */
export function graftBindings<T>(graft: Graft | undefined, tensor: (name: string) => T): Record<string, T> {
  return Object.fromEntries(graft?.ports.map(({ port, tensor: name }) => [`delta.${port}`, tensor(name)]) ?? []);
}
