/** What goes on beside a run that is recorded: daily logs, alerts, measuring power. */
import type { PowerProblem, PowerSampler } from "../live/power-sampler.ts";
import type { RunWriter } from "../live/run-folder.ts";
import { type CommandContext, note, say } from "./context.ts";
import { pretrainMessages as messages } from "./messages/pretrain.ts";
import type { Recipe } from "./run-recipe.ts";

/** The record's writer with daily logs beside it. */
export async function withLogs(
  record: RunWriter,
  { log, steps }: Pick<Recipe, "log" | "steps">,
  context: CommandContext,
): Promise<RunWriter> {
  const [{ createDailyLog, withDailyLogs }, { parseDayRule }, { readEvents }] = await Promise.all([
    import("../live/daily-log.ts"),
    import("../live/day.ts"),
    import("../live/run-folder.ts"),
  ]);
  const rule = parseDayRule(log.dayEnds);
  const daily = createDailyLog({ rule, targetSteps: steps });
  for await (const { event } of readEvents(record.folder)) daily.add(event);
  const heading = { name: record.description.name, recorder: log.recorder, rule };
  return withDailyLogs(record, daily, heading, {
    now: context.now,
    onFailure: (error) =>
      note(
        context,
        say(context, messages.logFailed, { reason: error instanceof Error ? error.message : String(error) }),
      ),
  });
}

/** The record's writer with alerts beside it. */
export async function withRecipeAlerts(
  record: RunWriter,
  alerts: Recipe["alerts"],
  context: CommandContext,
): Promise<RunWriter> {
  const { createAlerter, resolveHeaders, withAlerts } = await import("../live/alerts.ts");
  const { id, name } = record.description;
  const alerter = createAlerter({
    run: { id, name },
    alerts: resolveHeaders(alerts, context.env),
    now: context.now,
    onFailure: (reason) => note(context, say(context, messages.alertFailed, { reason })),
  });
  return withAlerts(record, alerter, context.now);
}

/** Whether power is to be measured: not where somebody states it. */
export function measuresPower({ power, ledger }: Pick<Recipe, "power" | "ledger">): boolean {
  return power === "auto" && ledger?.watts === undefined;
}

/** Writes what the machine says of its power into the record, if it says anything. */
export async function measurePower(
  writer: RunWriter,
  recipe: Pick<Recipe, "power" | "ledger">,
  processor: string,
  context: CommandContext,
): Promise<Pick<PowerSampler, "stop">> {
  if (!measuresPower(recipe)) return { stop() {} };
  const { startPowerSampler } = await import("../live/power-sampler.ts");
  const root = context.env.CPM_POWERCAP;
  const nvidiaSmi = context.env.CPM_NVIDIA_SMI;
  return startPowerSampler({
    processor,
    now: context.now,
    append: (event) => writer.append(event),
    onProblem: ({ source, kind, detail }: PowerProblem) =>
      note(
        context,
        say(context, kind === "permission" ? messages.powerRefused : messages.powerFailed, { source, detail }),
      ),
    ...(root !== undefined && { root }),
    ...(nvidiaSmi !== undefined && { nvidiaSmi }),
  });
}
