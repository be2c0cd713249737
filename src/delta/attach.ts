/**
 * Deltas on a model: from what a recipe says to the parameters that are trained and the grafts of the model's programs.
 *
 * Nothing of the model is touched: a delta is parameters of its own and grafts that read them. Detaching is not using
 * the grafts.
 */
import type { z } from "zod";
import type { ModelConfig } from "../model/config.ts";
import type { Graft, Grafts } from "../model/graft.ts";
import { ConfigError } from "../util/error.ts";
import { type GraftedPlace, graftOf } from "./graft-block.ts";
import type { DeltaMethod, DeltaParameter } from "./method.ts";
import { type DeltaSpec, methodOf } from "./methods/index.ts";
import { type Place, placesOf } from "./places.ts";
import { selectPlaces } from "./select-places.ts";

/** One method on its places. */
export interface DeltaPart {
  readonly spec: DeltaSpec;
  readonly method: DeltaMethod;
  readonly options: Readonly<Record<string, unknown>>;
  readonly places: readonly GraftedPlace[];
}

export interface Delta {
  readonly base: ModelConfig;
  readonly parts: readonly DeltaPart[];
  /** Each once, in the order of the places. */
  readonly parameters: readonly DeltaParameter[];
  readonly grafts: Grafts;
  /** Names of base parameters that the delta has versions of its own of. */
  readonly replaced: ReadonlySet<string>;
}

/**
 * Attaches methods to a model's places.
 *
 * @throws ConfigError CPM_DELTA_METHOD, CPM_DELTA_OPTIONS, CPM_DELTA_PLACES; CPM_DELTA_TWICE where two methods would share
 * a parameter's name
 */
export function attachDelta(base: ModelConfig, specs: readonly DeltaSpec[]): Delta {
  const all = placesOf(base);
  const parts = specs.map((spec): DeltaPart => {
    const method = methodOf(spec.method);
    const options = parseOptions(method, spec);
    const selection = { places: spec.places ?? method.defaultPlaces, exclude: spec.exclude };
    const places = selectPlaces(all, selection, method.kinds);
    method.check?.(options, places, base);
    const signature = `${method.name} ${JSON.stringify(options)}`;
    return {
      spec,
      method,
      options,
      places: places.map((place) => ({ ...method.attach(place, options, base), signature })),
    };
  });
  const parameters = new Map<string, DeltaParameter>();
  const replaced = new Set<string>();
  for (const { places, method } of parts) {
    const own = new Map<string, DeltaParameter>();
    for (const { parameters: found, replaces, place } of places) {
      if (replaces !== undefined) replaced.add(replaces);
      for (const parameter of found) {
        const other = parameters.get(parameter.name);
        if (other !== undefined) {
          throw new ConfigError("CPM_DELTA_TWICE", "two methods would train parameters of the same name", {
            where: place.name,
            got: `${parameter.name}, twice (${method.name})`,
            expected: "each method once at a place",
            hint: "Give the two disjoint places, or take one of them out.",
          });
        }
        own.set(parameter.name, parameter);
      }
    }
    for (const [name, parameter] of own) parameters.set(name, parameter);
  }
  return { base, parts, parameters: [...parameters.values()], grafts: graftsOf(base, parts), replaced };
}

/** The options of a method with its defaults. Throws ConfigError CPM_DELTA_OPTIONS. */
function parseOptions(method: DeltaMethod, spec: DeltaSpec): Record<string, unknown> {
  const { method: _method, places: _places, exclude: _exclude, ...given } = spec;
  const parsed = (method.options as z.ZodObject).strict().safeParse(given);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new ConfigError("CPM_DELTA_OPTIONS", `${method.name} cannot have these options`, {
    where: [method.name, ...(issue?.path ?? [])].join("."),
    got: issue?.message,
    expected: `options ${Object.keys(method.options.shape).join(", ")}`,
    hint: "cpm tune --help lists the options of each method.",
  });
}

function graftsOf(base: ModelConfig, parts: readonly DeltaPart[]): Grafts {
  const placed = parts.flatMap(({ places }) => places);
  const of = (chosen: (place: Place) => boolean): Graft | undefined =>
    graftOf(
      placed.filter(({ place }) => chosen(place)),
      base,
    );
  const sum = (count: (part: DeltaPart) => number | undefined) =>
    parts.reduce((total, part) => total + (count(part) ?? 0), 0);
  return {
    config: {
      ...base,
      promptLength: base.promptLength + sum(({ method, options }) => method.promptRows?.(options)),
    },
    prefixSlots: sum(({ method, options }) => method.prefixSlots?.(options)),
    embed: of(({ path }) => path === "prompt"),
    head: of(({ path, layer }) => layer === undefined && path === "norm"),
    blocks: Array.from({ length: base.layers }, (_, layer) => of((place) => place.layer === layer)),
  };
}
