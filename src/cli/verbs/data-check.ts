/** `cpm data check`: whether data sets are whole, and how full rows of a training run get. */
import { z } from "zod";
import { defineCommand } from "../command.ts";
import { type CommandContext, print, printJson, say } from "../context.ts";
import { exitCodes } from "../exit-codes.ts";
import { dataCheckMessages as messages } from "../messages/data-check.ts";
import { startProgress } from "../progress.ts";
import { formatInteger, formatNumber, formatPercent } from "../quantity.ts";
import { renderTable } from "../table.ts";
import { visibleText } from "../visible-text.ts";

export default defineCommand({
  name: "data check",
  summary: messages.summary,
  description: messages.description,
  json: true,
  examples: [{ line: "data check data/zh --length 512", ...messages.example }],
  schema: z.object({
    folders: z
      .array(z.string().min(1))
      .min(1)
      .describe(messages.folders.en)
      .meta({ zh: messages.folders.zh, positional: true, placeholder: "FOLDER" }),
    rows: z.int().min(1).max(4096).default(8).describe(messages.rows.en).meta({ zh: messages.rows.zh }),
    length: z.int().min(8).max(65536).default(512).describe(messages.length.en).meta({ zh: messages.length.zh }),
    promptLength: z
      .int()
      .min(1)
      .max(4096)
      .default(8)
      .describe(messages.promptLength.en)
      .meta({ zh: messages.promptLength.zh }),
  }),
  async run({ folders, rows, length, promptLength }, context) {
    const { checkDataset } = await import("../../data/check-dataset.ts");
    const reports: Report[] = [];
    const progress = startProgress(context);
    for (const folder of folders) {
      const onShard = (done: number, all: number) => progress.update({ done: done / all });
      const { signal } = context;
      reports.push(await checkDataset(folder, { rows, columns: length, promptLength, signal, onShard }));
    }
    progress.finish();
    if (context.json) printJson(context, reports);
    else for (const report of reports) show(report, context);
    return reports.every(({ problems }) => problems.length === 0) ? exitCodes.ok.code : exitCodes.input.code;
  },
});

type Report = Awaited<ReturnType<typeof import("../../data/check-dataset.ts").checkDataset>>;

function show({ folder, problems, packing, ...counts }: Report, context: CommandContext): void {
  const numbers = Object.fromEntries(Object.entries(counts).map(([name, count]) => [name, formatInteger(count)]));
  print(context, say(context, messages.counts, { folder, ...(numbers as Record<keyof typeof counts, string>) }));
  if (problems.length === 0) print(context, say(context, messages.sound));
  for (const { where, what } of problems) {
    const [where1, what1] = [where, what].map(visibleText) as [string, string];
    print(context, say(context, messages.problem, { where: where1, what: what1 }));
  }
  if (packing.length === 0) return;
  const columns = [
    { title: say(context, messages.packing) },
    ...(["fill", "targets", "samples"] as const).map((name) => ({
      title: say(context, messages[name]),
      align: "end" as const,
    })),
  ];
  const lines = packing.map(({ kind, join, fill, targets, samplesPerRow }) => [
    `${kind}${join ? say(context, messages.joined) : ""}`,
    formatPercent(fill),
    formatPercent(targets),
    formatNumber(Number(samplesPerRow.toFixed(2))),
  ]);
  print(context, renderTable(columns, lines));
}
