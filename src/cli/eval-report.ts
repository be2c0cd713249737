/** Results of evaluations in the reader's language: tables of metrics beside baselines, comparisons, first samples. */
import type { EvaluationComparison, EvaluationRecord, EvaluationReport, ResamplingOptions } from "../evaluate/index.ts";
import { chosenOption } from "../evaluate/task-metrics.ts";
import type { CommandContext } from "./context.ts";
import { say } from "./context.ts";
import { evalMessages as messages, metricMessages } from "./messages/eval.ts";
import { formatInteger, formatPercent } from "./quantity.ts";
import type { ReportDocument, ReportSection, ReportTable } from "./report-document.ts";

/** Samples on the page. */
const shownSamples = 20;
/** Figures that are no shares. */
const plainMetrics = new Set(["answerLoss", "bitsPerCharacter", "natsPerToken", "perplexity"]);

export interface EvaluatedTask {
  readonly report: EvaluationReport;
  readonly records: readonly EvaluationRecord[];
}

export function evaluationDocument(
  model: string | undefined,
  evaluations: readonly EvaluatedTask[],
  resampling: ResamplingOptions,
  context: CommandContext,
): ReportDocument {
  return {
    language: context.locale === "zh" ? "zh-CN" : "en",
    title: say(context, messages.title),
    lines: [
      ...(model === undefined ? [] : [say(context, messages.modelLine, { model })]),
      resamplingLine(resampling, context),
      say(context, messages.baselineLine),
    ],
    sections: evaluations.map((each) => evaluationSection(each, context)),
  };
}

function resamplingLine({ level, draws, seed }: ResamplingOptions, context: CommandContext): string {
  return say(context, messages.resamplingLine, { level: formatPercent(level), draws: formatInteger(draws), seed });
}

function evaluationSection({ report, records }: EvaluatedTask, context: CommandContext): ReportSection {
  const { name, task, method, normalize, count, majorityOf, metrics, groups } = report;
  const about = [
    say(context, messages.evaluationLine, { count: formatInteger(count) }),
    ...(method === undefined ? [] : [say(context, messages.methodLine, { method })]),
    ...(normalize === undefined ? [] : [say(context, messages.normalizeLine, { normalize })]),
    ...(majorityOf === undefined ? [] : [say(context, messages.majorityLine, { count: formatInteger(majorityOf) })]),
  ];
  const hasLead = metrics.some(({ lead }) => lead !== undefined);
  const tables: ReportTable[] = [
    {
      columns: [
        ...[messages.metric, messages.value, messages.interval, messages.random, messages.majority],
        ...(hasLead ? [messages.lead] : []),
      ].map((message) => say(context, message)),
      rows: metrics.map((metric) => [
        metricTitle(metric.name, context),
        figure(metric.name, metric.value),
        bracket(metric.name, metric),
        figure(metric.name, metric.random),
        figure(metric.name, metric.majority),
        ...(hasLead ? [figure(metric.name, metric.lead)] : []),
      ]),
      numbersFrom: 1,
    },
  ];
  if (groups.length > 0) {
    const first = metrics[0]!.name;
    tables.push({
      columns: [
        say(context, messages.group),
        say(context, messages.count),
        metricTitle(first, context),
        say(context, messages.interval),
      ],
      rows: groups.map((each) => [
        each.group,
        formatInteger(each.count),
        figure(first, each.value),
        bracket(first, each),
      ]),
      numbersFrom: 1,
    });
  }
  return {
    title: name === task ? name : `${name} (${task})`,
    lines: [about.join(context.locale === "zh" ? "，" : ", ")],
    tables,
    details: firstSamples(report, records, context),
  };
}

function firstSamples(
  { task, method, normalize = "tokens" }: EvaluationReport,
  records: readonly EvaluationRecord[],
  context: CommandContext,
): ReportSection["details"] {
  const shown = records.slice(0, shownSamples);
  const rows = shown.flatMap((record) => {
    if (record.kind === "generation") return [[record.id, record.references.join(" / "), record.text]];
    if (record.kind !== "choice") return [];
    const chosen = chosenOption(record.options, { task, method, normalize });
    return [[record.id, record.options[record.answer]!.text, record.options[chosen]!.text]];
  });
  if (rows.length === 0) return undefined;
  const columns = [messages.sampleId, messages.reference, messages.answered].map((message) => say(context, message));
  return {
    title: say(context, messages.examples, { count: rows.length }),
    table: { columns, rows, numbersFrom: columns.length },
  };
}

export function comparisonDocument(
  names: { readonly first: string; readonly second: string },
  comparisons: readonly EvaluationComparison[],
  resampling: ResamplingOptions,
  context: CommandContext,
): ReportDocument {
  const columns = [
    messages.metric,
    messages.first,
    messages.second,
    messages.difference,
    messages.interval,
    messages.p,
  ].map((message) => say(context, message));
  return {
    language: context.locale === "zh" ? "zh-CN" : "en",
    title: say(context, messages.comparisonTitle),
    lines: [
      say(context, messages.comparisonLine, names),
      resamplingLine(resampling, context),
      say(context, messages.testLine),
    ],
    sections: comparisons.map(({ name, task, count, onlyFirst, onlySecond, metrics }) => ({
      title: name === task ? name : `${name} (${task})`,
      lines: [say(context, messages.onlyLine, { count, first: onlyFirst, second: onlySecond })],
      tables: [
        {
          columns,
          rows: metrics.map((metric) => [
            metricTitle(metric.name, context),
            figure(metric.name, metric.first),
            figure(metric.name, metric.second),
            signed(metric.name, metric.difference),
            `[${signed(metric.name, metric.low)}, ${signed(metric.name, metric.high)}]`,
            metric.p < 0.001 ? "<0.001" : metric.p.toFixed(3),
          ]),
          numbersFrom: 1,
        },
      ],
    })),
  };
}

function metricTitle(name: string, context: CommandContext): string {
  const [stem, unit] = name.split(".") as [keyof typeof metricMessages, keyof typeof metricMessages | undefined];
  return say(context, metricMessages[stem]) + (unit === undefined ? "" : say(context, metricMessages[unit]));
}

/** Shares in hundredths with two digits, other figures with three. */
function figure(name: string, value: number | undefined): string {
  if (value === undefined) return "–";
  return plainMetrics.has(name) ? value.toFixed(3) : (value * 100).toFixed(2);
}

function signed(name: string, value: number): string {
  return `${value < 0 ? "−" : "+"}${figure(name, Math.abs(value))}`;
}

function bracket(name: string, { low, high }: { readonly low: number; readonly high: number }): string {
  return `[${figure(name, low)}, ${figure(name, high)}]`;
}
