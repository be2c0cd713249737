/** `cpm cost`: money, energy and carbon of a run, with every assumption. */
import { z } from "zod";
import { inBoth, type Text } from "../../live/bilingual.ts";
import type { LedgerSummary } from "../../live/ledger.ts";
import { ConfigError } from "../../util/error.ts";
import { defineCommand } from "../command.ts";
import { type CommandContext, note, print, printJson, say } from "../context.ts";
import { ledgerFields } from "../ledger-fields.ts";
import { costMessages as messages } from "../messages/cost.ts";
import { formatInteger, formatNumber, formatPercent } from "../quantity.ts";
import { renderTable } from "../table.ts";

export default defineCommand({
  name: "cost",
  summary: messages.summary,
  description: messages.description,
  json: true,
  examples: [
    { line: "cost --preset cpm-ant-10b", ...messages.example },
    { line: "cost runs/zh --grid cn-2022", ...messages.exampleRun },
  ],
  schema: z.object({
    run: z
      .string()
      .optional()
      .describe(messages.run.en)
      .meta({ zh: messages.run.zh, positional: true, placeholder: "RUN" }),
    preset: z.enum(["cpm-ant-10b"]).optional().describe(messages.preset.en).meta({ zh: messages.preset.zh }),
    by: z.enum(["stage", "day", "attempt"]).default("stage").describe(messages.by.en).meta({ zh: messages.by.zh }),
    ...ledgerFields,
  }),
  async run({ run, preset, by, ...chosen }, context) {
    if ((run === undefined) === (preset === undefined))
      throw new ConfigError("CPM_CLI_USAGE", say(context, messages.which), { where: "run" });
    const { applyChoices } = await import("../../live/ledger-assumptions.ts");
    if (preset !== undefined) {
      const { cpmAntAssumptions, cpmAntLedger } = await import("../../live/cpm-ant-timeline.ts");
      const original = cpmAntLedger();
      const assumptions = applyChoices(cpmAntAssumptions(), chosen);
      const strict = original.with(applyChoices(cpmAntAssumptions(), { watts: 400, pue: 1.1 }));
      const summary = original.with(assumptions);
      if (context.json) {
        const alternatives = [{ watts: 400, pue: 1.1, energyKwh: strict.energyKwh, kgCo2e: strict.kgCo2e }];
        printJson(context, {
          preset,
          costCny: summary.currency === "CNY" ? summary.cost : undefined,
          ...summary,
          alternatives,
        });
        return;
      }
      show(summary, context);
      print(
        context,
        say(context, messages.alternative, {
          kwh: formatInteger(Math.round(strict.energyKwh)),
          kg: formatInteger(Math.round(strict.kgCo2e ?? 0)),
        }),
      );
      return;
    }
    const [{ readEvents, readRun }, { createLedger }, { assumptionsOf }] = await Promise.all([
      import("../../live/run-folder.ts"),
      import("../../live/ledger.ts"),
      import("../../live/run-ledger.ts"),
    ]);
    const description = readRun(run!);
    if (description.ledger === undefined) note(context, say(context, messages.noLedger));
    const ledger = createLedger(applyChoices(assumptionsOf(description), chosen), { parts: by });
    for await (const { event } of readEvents(run!)) ledger.add(event);
    const summary = ledger.summary();
    if (context.json)
      printJson(context, { run, costCny: summary.currency === "CNY" ? summary.cost : undefined, ...summary });
    else show(summary, context);
  },
});

function show(summary: LedgerSummary, context: CommandContext): void {
  const { assumptions, currency } = summary;
  const end = "end" as const;
  const amount = (value: number | undefined) =>
    value === undefined ? "–" : value >= 1000 ? formatInteger(Math.round(value)) : formatNumber(value);
  const row = (
    name: string,
    from: string,
    devices: string,
    each: Pick<LedgerSummary, "hours" | "deviceHours" | "energyKwh" | "kgCo2e" | "cost">,
  ) => [
    name,
    from,
    amount(each.hours),
    devices,
    amount(each.deviceHours),
    amount(each.energyKwh),
    amount(each.kgCo2e),
    each.cost === undefined ? "–" : `${amount(each.cost)} ${currency}`,
  ];
  print(
    context,
    renderTable(
      [
        { title: say(context, messages.part) },
        { title: say(context, messages.from) },
        ...[
          messages.hours,
          messages.devices,
          messages.deviceHours,
          messages.energy,
          messages.carbon,
          messages.cost,
        ].map((each) => ({ title: say(context, each), align: end })),
      ],
      [
        ...summary.parts.map((part) => row(part.name, part.from.slice(0, 10), formatNumber(part.devices), part)),
        row(say(context, messages.total), summary.from?.slice(0, 10) ?? "", "", summary),
      ],
    ),
  );
  if (summary.gapHours > 0.01) print(context, say(context, messages.gaps, { hours: formatNumber(summary.gapHours) }));
  if (summary.measuredKwh > 0)
    print(context, say(context, messages.measured, { share: formatPercent(summary.measuredKwh / summary.energyKwh) }));
  print(context, say(context, messages.assumptions));
  const source = (given: Text | undefined) => {
    const text = given === undefined ? "?" : inBoth(given)[context.locale];
    return context.locale === "zh" ? `（${text}）` : ` (${text})`;
  };
  for (const device of assumptions.devices) {
    print(context, `- ${device.name}: ${device.watts ?? "?"} W${source(device.wattsSource ?? device.powerSource)}`);
    if (device.pricePerHour !== undefined)
      print(context, `- ${formatNumber(device.pricePerHour)} ${currency}/h${source(assumptions.priceSource)}`);
  }
  print(context, `- PUE ${assumptions.pue}${source(assumptions.pueSource)}`);
  if (assumptions.gridKgCo2ePerKwh !== undefined)
    print(context, `- ${assumptions.gridKgCo2ePerKwh} kg CO2e/kWh${source(assumptions.gridSource)}`);
}
