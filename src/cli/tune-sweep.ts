/**
 * A grid of tuning runs: every combination of the values that a recipe lists, each a run of its own in a folder, and a
 * report of all of them.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { z } from "zod";
import { writeFileAtomic } from "../util/atomic-file.ts";
import { ConfigError } from "../util/error.ts";
import { type CommandContext, note, print, say } from "./context.ts";
import { tuneMessages as messages } from "./messages/tune.ts";
import { round } from "./model-output.ts";
import { formatBytes, formatDuration, formatInteger } from "./quantity.ts";
import { applySet, type Tree } from "./recipe.ts";
import type { TuneRecipe } from "./tune-recipe.ts";
import { shownShare } from "./tune-tree.ts";
import { startTuning, type TuneOutcome } from "./tuning.ts";

const mostRuns = 1000;

export type Grid = Readonly<Record<string, readonly unknown[]>>;

/** Every combination, the last key changing fastest. */
export function combinations(grid: Grid): Readonly<Record<string, unknown>>[] {
  return Object.entries(grid).reduce<Record<string, unknown>[]>(
    (found, [key, values]) => found.flatMap((chosen) => values.map((value) => ({ ...chosen, [key]: value }))),
    [{}],
  );
}

/** Runs the grid below the recipe's run folder. */
export async function sweep(
  recipe: TuneRecipe,
  grid: Grid,
  schema: z.ZodType<TuneRecipe>,
  context: CommandContext,
): Promise<void> {
  if (recipe.run === undefined)
    throw new ConfigError("CPM_CLI_USAGE", say(context, messages.needRun), { where: "run" });
  const all = combinations(grid);
  if (all.length > mostRuns) {
    throw new ConfigError("CPM_CLI_USAGE", say(context, messages.needRun), {
      where: "sweep",
      got: formatInteger(all.length),
      expected: `≤ ${mostRuns}`,
    });
  }
  await mkdir(recipe.run, { recursive: true });
  const rows: { values: Readonly<Record<string, unknown>>; outcome: TuneOutcome }[] = [];
  for (const [i, values] of all.entries()) {
    const shown = Object.entries(values).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
    note(context, say(context, messages.sweepRun, { number: i + 1, count: all.length, values: shown.join(" ") }));
    const tree = structuredClone(recipe) as unknown as Tree;
    for (const [key, value] of Object.entries(values))
      applySet(tree, `${key}=${JSON.stringify(value)}`, context.locale);
    const own = schema.parse({ ...tree, run: join(recipe.run, String(i + 1).padStart(3, "0")) });
    rows.push({ values, outcome: await startTuning(own, undefined, context) });
    context.signal.throwIfAborted();
  }
  const report = { grid, runs: rows.map(({ values, outcome }, i) => ({ run: i + 1, values, ...summary(outcome) })) };
  await writeFileAtomic(join(recipe.run, "sweep.json"), `${JSON.stringify(report, undefined, 2)}\n`);
  const path = join(recipe.run, "sweep.md");
  await writeFileAtomic(path, markdown(rows, Object.keys(grid), context));
  note(context, say(context, messages.sweepSaved, { path }));
  if (context.json) print(context, JSON.stringify({ event: "sweep", ...report }));
}

function summary({ result, trained, share, ms, peakBytes }: TuneOutcome) {
  const { step, best, first, reason } = result;
  return {
    steps: step,
    reason,
    trained,
    share,
    before: first?.nats,
    best: best?.nats,
    bestStep: best?.step,
    ms,
    peakBytes,
  };
}

function markdown(
  rows: readonly { values: Readonly<Record<string, unknown>>; outcome: TuneOutcome }[],
  keys: readonly string[],
  context: CommandContext,
): string {
  const lowest = Math.min(...rows.map(({ outcome }) => outcome.result.best?.nats ?? Number.POSITIVE_INFINITY));
  const head = ["#", ...keys, "trained", "%", "steps", "before", "best", "at", "time", "peak"];
  const lines = rows.map(({ values, outcome }, i) => {
    const { result, trained, share, ms, peakBytes } = outcome;
    const best = result.best?.nats;
    const shownBest = best === undefined ? "–" : best === lowest ? `**${round(best)}**` : String(round(best));
    return [
      String(i + 1),
      ...keys.map((key) => JSON.stringify(values[key]).replaceAll("|", "\\|")),
      formatInteger(trained),
      shownShare(share),
      formatInteger(result.step),
      result.first ? String(round(result.first.nats)) : "–",
      shownBest,
      result.best ? formatInteger(result.best.step) : "–",
      formatDuration(ms),
      formatBytes(peakBytes),
    ];
  });
  const row = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [
    `# ${say(context, messages.sweepTitle)}`,
    "",
    row(head),
    row(head.map(() => "---")),
    ...lines.map(row),
    "",
    `**…**: ${say(context, messages.sweepBest)}`,
    "",
  ].join("\n");
}
