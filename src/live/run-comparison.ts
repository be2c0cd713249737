/** Runs beside each other: in what their recipes differ, and what each had come to after as many tokens. */
import type { RunReport } from "./run-report.ts";

export interface RunComparison {
  /** Settings that are not the same in all runs, by their name in a recipe; undefined where a run has none. */
  readonly differences: readonly { readonly setting: string; readonly values: readonly unknown[] }[];
  /** At equal numbers of tokens, up to the most that every run has read. */
  readonly atTokens: readonly {
    readonly tokens: number;
    /** Training loss of each run. */
    readonly losses: readonly (number | undefined)[];
    /** Held-out nats and bits of each run. */
    readonly nats: readonly (number | undefined)[];
    readonly bitsPerCharacter: readonly (number | undefined)[];
  }[];
}

/** Settings that say where a run is and not what it does. */
const places = new Set(["name", "run", "output", "resume", "from"]);

/** Of runs in the given order; `points` places along the tokens that all have read. */
export function compareRuns(reports: readonly RunReport[], points = 8): RunComparison {
  const settings = reports.map(({ description }) => ({
    ...flattened(description.recipe),
    ...flattened({ model: description.model.config }),
  }));
  const names = [...new Set(settings.flatMap((each) => Object.keys(each)))].sort();
  const differences = names.flatMap((setting) => {
    if (places.has(setting)) return [];
    const values = settings.map((each) => each[setting]);
    const isSame = values.every((value) => JSON.stringify(value) === JSON.stringify(values[0]));
    return isSame ? [] : [{ setting, values }];
  });
  const common = Math.min(...reports.map(({ tokens }) => tokens));
  const atTokens = Array.from({ length: common > 0 ? points : 0 }, (_, i) => {
    const tokens = Math.floor((common * (i + 1)) / points);
    const judged = reports.map((report) => report.validationAt(tokens));
    return {
      tokens,
      losses: reports.map((report) => report.lossAt(tokens)),
      nats: judged.map((each) => each?.nats),
      bitsPerCharacter: judged.map((each) => each?.bitsPerCharacter),
    };
  });
  return { differences, atTokens };
}

/** A tree's leaves under dotted names; a list is a leaf. */
function flattened(tree: Readonly<Record<string, unknown>>, prefix = ""): Record<string, unknown> {
  const leaves: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(tree)) {
    const name = `${prefix}${key}`;
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      Object.assign(leaves, flattened(value as Record<string, unknown>, `${name}.`));
    } else leaves[name] = value;
  }
  return leaves;
}
