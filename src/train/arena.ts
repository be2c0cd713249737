/**
 * All parameters of a model in one block of memory, each a tensor over its part of it.
 *
 * Gradients and moments use the same layout, so what works on every number alike (the optimizer, the norm, clipping)
 * runs over flat pieces of a convenient size and never asks which parameter it is in. What treats parameters differently
 * does so by group: a group's parameters lie together.
 */

import { type Parameter, parameterElements } from "../model/parameters.ts";
import type { DeviceTensor, Runtime } from "../runtime/runtime.ts";

/** Parameters start on 64-byte lines. */
const alignmentElements = 16;
/**
 * What works on the arena as a whole goes through it in runs of this many elements; eight pieces of such a run fit the
 * second-level cache one by one. A smaller arena is one run.
 */
export const largestRunElements = 8 * 64 * 1024;
const smallRunMultiple = 8 * alignmentElements;

/** What an arena must know of a parameter: a model's are such, and a delta's. */
export type ArenaParameter = Pick<Parameter, "name" | "shape">;

export interface ArenaLayout {
  readonly parameters: readonly ArenaParameter[];
  /** First element of each parameter by name. */
  readonly offsets: ReadonlyMap<string, number>;
  /** Elements of the whole, padding included; padding stays zero. */
  readonly elements: number;
  /** Where each group lies. */
  readonly groups: readonly ArenaGroup[];
}

export interface ArenaGroup {
  /** What `groupOf` gave. */
  readonly index: number;
  readonly start: number;
  /** A whole number of runs. */
  readonly elements: number;
  /** Of a run: what is worked through at once. */
  readonly runElements: number;
}

export interface Arena {
  readonly layout: ArenaLayout;
  /** float32 [elements] */
  readonly flat: DeviceTensor;
  /** Each parameter under its name, with its shape. */
  readonly tensors: ReadonlyMap<string, DeviceTensor>;
  dispose(): void;
}

/** Where everything lies: by group in ascending order, within a group in the given order; without groups all is one. */
export function arenaLayout(
  parameters: readonly ArenaParameter[],
  groupOf: (parameter: ArenaParameter) => number = () => 0,
): ArenaLayout {
  const members = Map.groupBy(parameters, groupOf);
  const offsets = new Map<string, number>();
  const groups: ArenaGroup[] = [];
  let start = 0;
  for (const index of [...members.keys()].sort((a, b) => a - b)) {
    let elements = 0;
    for (const parameter of members.get(index)!) {
      offsets.set(parameter.name, start + elements);
      elements += Math.ceil(parameterElements(parameter) / alignmentElements) * alignmentElements;
    }
    const multiple = elements < largestRunElements ? smallRunMultiple : largestRunElements;
    elements = Math.ceil(elements / multiple) * multiple;
    groups.push({ index, start, elements, runElements: Math.min(elements, largestRunElements) });
    start += elements;
  }
  return { parameters, offsets, elements: start, groups };
}

/** Zeroed memory for a layout. */
export function createArena(runtime: Runtime, layout: ArenaLayout): Arena {
  const flat = runtime.allocate("float32", [layout.elements]);
  const tensors = new Map(
    layout.parameters.map(({ name, shape }) => [name, flat.alias(shape, layout.offsets.get(name)! * 4)]),
  );
  return {
    layout,
    flat,
    tensors,
    dispose() {
      for (const tensor of tensors.values()) tensor.dispose();
      flat.dispose();
    },
  };
}
