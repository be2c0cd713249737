/**
 * A program's weights: which of a model's tensors are bound to which of its inputs, packed where they are packed.
 *
 * Packed parameters are known by their tensors: `NAME.packed`, `NAME.scales` and perhaps `NAME.zeros` stand in the place of
 * `NAME`, and their shapes tell bits and groups.
 */
import { type Graph, type PackedInput, quantizeWeights } from "../graph/index.ts";
import type { DeviceTensor } from "../runtime/runtime.ts";

/** Tensors of a model by CPM-Live's names; of packed ones, their parts. */
export type ModelTensors = ReadonlyMap<string, DeviceTensor>;

export interface ProgramWithWeights {
  /** The program with packed inputs where weights are packed. */
  readonly graph: Graph;
  /** What to bind to its weights, by input. */
  readonly given: Readonly<Record<string, DeviceTensor>>;
  /** Equal for weights in equal formats: whose programs are the same then. */
  readonly formats: string;
}

/** Whether a parameter is there in packed form. */
export function isPacked(tensors: ModelTensors, name: string): boolean {
  return tensors.has(`${name}.packed`);
}

/** Whether any parameter is packed. */
export function hasPacked(tensors: ModelTensors): boolean {
  return [...tensors.keys()].some((name) => name.endsWith(".packed"));
}

/** The format of a packed parameter with this many inputs (K). */
export function packedFormat(tensors: ModelTensors, name: string, inputs: number): PackedInput {
  const [, groups, groupBytes] = tensors.get(`${name}.packed`)!.shape as [number, number, number];
  const groupSize = inputs / groups;
  return { bits: ((8 * groupBytes) / groupSize) as 4 | 8, groupSize, hasZeros: tensors.has(`${name}.zeros`) };
}

/** Whether a packed parameter's products can be of whole numbers: 8 bits about a fixed zero, one scale a row. */
export function hasWholeRows({ bits, groupSize, hasZeros }: PackedInput, inputs: number): boolean {
  return bits === 8 && !hasZeros && groupSize === inputs;
}

/**
 * Binds a program's weights; `ports` are pairs of an input's name and a parameter's. With `wholeNumbers` products with weights
 * that allow it are taken in whole numbers (see `byte-products.ts`).
 */
export function withWeights(
  graph: Graph,
  ports: readonly (readonly [port: string, name: string])[],
  tensors: ModelTensors,
  wholeNumbers = false,
): ProgramWithWeights {
  const formats = new Map<string, PackedInput>();
  const given: Record<string, DeviceTensor> = {};
  for (const [port, name] of ports) {
    if (!isPacked(tensors, name)) {
      given[port] = tensors.get(name)!;
      continue;
    }
    const spec = graph.inputs.find((input) => input.name === port)!;
    const K = spec.shape[1] as number;
    const plain = packedFormat(tensors, name, K);
    const folds = wholeNumbers && hasWholeRows(plain, K);
    const format: PackedInput = folds ? { ...plain, wholeNumbers: "folded" } : plain;
    formats.set(port, format);
    for (const part of format.hasZeros ? ["packed", "scales", "zeros"] : ["packed", "scales"]) {
      given[`${port}.${part}`] = tensors.get(`${name}.${part}`)!;
    }
  }
  return { graph: quantizeWeights(graph, formats), given, formats: JSON.stringify([...formats]) };
}
