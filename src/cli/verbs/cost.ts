/** `cpm cost`: what a run has cost in money, energy and carbon. */
import { z } from "zod";
import { ConfigError } from "../../util/error.ts";
import { defineCommand } from "../command.ts";
import { print, printJson, say } from "../context.ts";
import { costMessages as messages } from "../messages/cost.ts";

export default defineCommand({
  name: "cost",
  summary: messages.summary,
  description: messages.description,
  json: true,
  examples: [
    { line: "cost runs/zh", ...messages.exampleRun },
    { line: "cost --preset cpm-ant-10b --json", ...messages.exampleAnt },
  ],
  schema: z.object({
    run: z
      .string()
      .optional()
      .describe(messages.run.en)
      .meta({ zh: messages.run.zh, positional: true, placeholder: "RUN" }),
    preset: z.enum(["cpm-ant-10b"]).optional().describe(messages.preset.en).meta({ zh: messages.preset.zh }),
  }),
  async run({ run, preset }, context) {
    if ((run === undefined) === (preset === undefined))
      throw new ConfigError("CPM_CLI_USAGE", say(context, messages.which), { where: "run, preset" });
    const { readLedger, pageLedger } = await import("../../live/run-ledger.ts");
    const { cpmAntLedger } = await import("../../live/cpm-ant-timeline.ts");
    const summary = run === undefined ? cpmAntLedger().summary : await readLedger(run);
    const { cost, currency, kgCo2e, energyKwh, measuredKwh, hours, deviceHours } = summary;
    if (context.json) {
      printJson(context, {
        ...(cost !== undefined && currency === "CNY" && { costCny: cost }),
        ...summary,
      });
      return;
    }
    print(context, say(context, messages.hours, { hours: hours.toFixed(2), deviceHours: deviceHours.toFixed(2) }));
    print(context, say(context, messages.energy, { kwh: energyKwh.toFixed(3), measured: measuredKwh.toFixed(3) }));
    if (kgCo2e !== undefined) print(context, say(context, messages.carbon, { kg: kgCo2e.toFixed(3) }));
    if (cost === undefined) print(context, say(context, messages.noCost));
    else print(context, say(context, messages.cost, { amount: cost.toFixed(2), currency }));
    for (const line of pageLedger(summary).assumptions ?? []) print(context, `- ${line[context.locale]}`);
  },
});
