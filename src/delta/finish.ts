/** A delta without what only training needs: what is saved, served and merged. */
import { attachDelta, type Delta } from "./attach.ts";
import type { DeltaSpec } from "./methods/index.ts";

/** A delta with the numbers of its parameters. */
export interface DeltaWithValues {
  readonly delta: Delta;
  /** By parameter name. */
  readonly values: ReadonlyMap<string, Float32Array>;
}

/** The same effect in the simplest form of each method; the delta itself where all of its methods are so already. */
export function finishDelta({ delta, values }: DeltaWithValues): DeltaWithValues {
  const finished = delta.parts.map(({ method, options }) => method.finished?.(options));
  if (finished.every((each) => each === undefined)) return { delta, values };
  const specs = delta.parts.map(({ spec, places }, i): DeltaSpec => {
    const simpler = finished[i]?.options;
    if (simpler === undefined) return spec;
    return {
      method: spec.method,
      places: spec.places ?? places.map(({ place }) => place.name),
      exclude: spec.exclude,
      ...simpler,
    };
  });
  const result = attachDelta(delta.base, specs);
  const found = new Map<string, Float32Array>();
  result.parts.forEach(({ places }, i) => {
    places.forEach(({ place, parameters }, at) => {
      const before = delta.parts[i]!.places[at]!;
      const numbersOf = (local: string) => values.get(before.parameters.find((each) => each.local === local)!.name)!;
      const made = finished[i]?.values(place, numbersOf);
      for (const { local, name } of parameters) found.set(name, made?.[local] ?? numbersOf(local));
    });
  });
  return { delta: result, values: found };
}
