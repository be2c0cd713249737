/** `cpm runs`: runs in a list, or beside each other. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import type { RunComparison } from "../../live/run-comparison.ts";
import type { RunReport } from "../../live/run-report.ts";
import { defineCommand } from "../command.ts";
import { type CommandContext, print, printJson, say } from "../context.ts";
import { runsMessages as messages } from "../messages/runs.ts";
import { formatInteger, formatNumber, formatPercent } from "../quantity.ts";
import { renderTable } from "../table.ts";

export default defineCommand({
  name: "runs",
  summary: messages.summary,
  description: messages.description,
  json: true,
  examples: [
    { line: "runs", ...messages.example },
    { line: "runs runs/a runs/b", ...messages.exampleCompare },
  ],
  schema: z.object({
    runs: z
      .array(z.string())
      .default([])
      .describe(messages.runs.en)
      .meta({ zh: messages.runs.zh, positional: true, placeholder: "RUN" }),
    points: z.int().min(1).max(1000).default(8).describe(messages.points.en).meta({ zh: messages.points.zh }),
  }),
  async run({ runs: given, points }, context) {
    const [{ findRuns, runFile }, { readReport }, { compareRuns }] = await Promise.all([
      import("../../live/run-folder.ts"),
      import("../../live/run-report.ts"),
      import("../../live/run-comparison.ts"),
    ]);
    const isComparison = given.length > 1 && given.every((path) => existsSync(join(path, runFile)));
    const folders = isComparison ? given : await findRuns(given.length > 0 ? given : ["runs"]);
    const reports: RunReport[] = [];
    for (const folder of folders) reports.push(await readReport(folder));
    const comparison = isComparison ? compareRuns(reports, points) : undefined;
    if (context.json) printJson(context, { runs: reports.map(plain), ...comparison });
    else if (comparison !== undefined) showComparison(reports, comparison, context);
    else if (reports.length === 0) print(context, say(context, messages.none));
    else showList(reports, context);
  },
});

/** A report as JSON. */
function plain({ description, lossAt: _, validationAt: __, validations: ___, ...figures }: RunReport) {
  const { id, name, createdAt, model, target } = description;
  return { id, name, createdAt, parameters: model.parameters, target, ...figures };
}

function figure(value: number | undefined): string {
  if (value === undefined) return "–";
  return Math.abs(value) >= 1000 ? formatInteger(Math.round(value)) : formatNumber(value);
}

const loss = (value: number | undefined) => (value === undefined ? "–" : value.toFixed(3));

function stepsOf({ step, description: { target } }: RunReport): string {
  return target.steps === undefined ? formatInteger(step) : `${formatInteger(step)}/${formatInteger(target.steps)}`;
}

function money({ cost, currency }: RunReport): string {
  return cost === undefined ? "–" : `${figure(cost)} ${currency}`;
}

function bestOf({ best }: RunReport, context: CommandContext): string {
  return best === undefined
    ? "–"
    : say(context, messages.atStep, { nats: loss(best.nats), step: formatInteger(best.step) });
}

function showList(reports: readonly RunReport[], context: CommandContext): void {
  const end = "end" as const;
  const titles = [
    messages.steps,
    messages.tokens,
    messages.loss,
    messages.best,
    messages.bits,
    messages.rate,
    messages.hours,
    messages.energy,
    messages.cost,
  ];
  print(
    context,
    renderTable(
      [
        { title: say(context, messages.name) },
        { title: say(context, messages.status) },
        ...titles.map((title) => ({ title: say(context, title), align: end })),
      ],
      reports.map((report) => [
        report.description.name,
        say(context, messages[report.status]),
        stepsOf(report),
        formatInteger(report.tokens),
        loss(report.loss),
        bestOf(report, context),
        loss(report.best?.bitsPerCharacter),
        figure(report.tokensPerSecond),
        figure(report.hours),
        figure(report.energyKwh),
        money(report),
      ]),
    ),
  );
}

function showComparison(
  reports: readonly RunReport[],
  { differences, atTokens }: RunComparison,
  context: CommandContext,
): void {
  const columns = (first: string) => [
    { title: first },
    ...reports.map(({ description }) => ({ title: description.name, align: "end" as const })),
  ];
  const section = (title: string, text: string) => print(context, `${title}\n${text}\n`);
  const value = (given: unknown) =>
    given === undefined ? "–" : typeof given === "string" ? given : JSON.stringify(given);
  if (differences.length === 0) print(context, `${say(context, messages.same)}\n`);
  else {
    const rows = differences.map(({ setting, values }) => [setting, ...values.map(value)]);
    section(say(context, messages.differTitle), renderTable(columns(say(context, messages.setting)), rows));
  }
  if (atTokens.length === 0) print(context, `${say(context, messages.noCommon)}\n`);
  else {
    const rows = atTokens.map(({ tokens, losses, nats, bitsPerCharacter }) => [
      formatInteger(tokens),
      ...losses.map((each, i) => {
        const judged = nats[i] === undefined ? "" : ` (${loss(nats[i])}, ${loss(bitsPerCharacter[i])})`;
        return `${loss(each)}${judged}`;
      }),
    ]);
    section(say(context, messages.lossTitle), renderTable(columns(say(context, messages.tokens)), rows));
  }
  const row = (name: string, of: (report: RunReport) => string) => [name, ...reports.map(of)];
  const rows = [
    row(say(context, messages.status), ({ status }) => say(context, messages[status])),
    row(say(context, messages.parameters), ({ description }) => formatInteger(description.model.parameters)),
    row(say(context, messages.steps), stepsOf),
    row(say(context, messages.tokens), ({ tokens }) => formatInteger(tokens)),
    row(say(context, messages.best), (report) => bestOf(report, context)),
    row(say(context, messages.bits), ({ best }) => loss(best?.bitsPerCharacter)),
    row(say(context, messages.rate), ({ tokensPerSecond }) => figure(tokensPerSecond)),
    row(say(context, messages.mfu), ({ mfu }) => (mfu === undefined ? "–" : formatPercent(mfu))),
    row(say(context, messages.attempts), ({ attempts }) => formatInteger(attempts)),
    row(say(context, messages.interventions), ({ interventions }) => formatInteger(interventions)),
    row(say(context, messages.hours), ({ hours }) => figure(hours)),
    row(say(context, messages.energy), ({ energyKwh }) => figure(energyKwh)),
    row(say(context, messages.carbon), ({ kgCo2e }) => figure(kgCo2e)),
    row(say(context, messages.cost), money),
  ];
  print(context, `${say(context, messages.figuresTitle)}\n${renderTable(columns(""), rows)}`);
}
