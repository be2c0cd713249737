/** What records come to: every metric with its interval beside the baselines, for the whole and for its parts. Plain data. */
import { type Baselines, baselinesOf } from "./baselines.ts";
import type { CorpusMetric } from "./corpus-metric.ts";
import type { EvaluationName, Normalization } from "./options.ts";
import type { EvaluationRecord, RecordFile } from "./records.ts";
import { bootstrapInterval, type Interval, type ResamplingOptions } from "./significance.ts";
import { type MetricOptions, metricsOf } from "./task-metrics.ts";

export interface MetricReport extends Interval {
  readonly name: string;
  readonly value: number;
  readonly higherIsBetter: boolean;
  readonly random?: number | undefined;
  readonly majority?: number | undefined;
  readonly lead?: number | undefined;
}

export interface GroupReport extends Interval {
  readonly group: string;
  readonly count: number;
  /** Of the first metric. */
  readonly value: number;
}

export interface EvaluationReport {
  readonly name: string;
  readonly task: EvaluationName;
  readonly method?: string | undefined;
  readonly normalize?: Normalization | undefined;
  readonly count: number;
  /** Samples of the training split on which the majority baseline was counted; without it, those that were evaluated. */
  readonly majorityOf?: number | undefined;
  /** The first stands for the whole. */
  readonly metrics: readonly MetricReport[];
  /** Parts of the data, where there are several. */
  readonly groups: readonly GroupReport[];
}

export function reportOf(
  { header, records }: RecordFile,
  { normalize, ...resampling }: ResamplingOptions & { readonly normalize: Normalization },
): EvaluationReport {
  const { name, task, method, vocabSize, majority } = header;
  const options: MetricOptions = { task, method, normalize };
  const baselines = baselinesOf(records, { ...options, vocabSize, majority });
  return {
    name,
    task,
    ...(method !== undefined && { method }),
    ...(method === "likelihood" && { normalize }),
    count: records.length,
    ...(majority !== undefined && { majorityOf: majority.samples }),
    metrics: metricsOf(records, options).map((metric) => metricReport(metric, baselines, resampling)),
    groups: groupReports(records, options, resampling),
  };
}

function metricReport(metric: CorpusMetric, baselines: Baselines, resampling: ResamplingOptions): MetricReport {
  const { name, higherIsBetter } = metric;
  return {
    name,
    value: metric.value(),
    ...bootstrapInterval(metric, resampling),
    higherIsBetter,
    random: baselines.random[name],
    majority: baselines.majority[name],
    lead: baselines.lead?.[name],
  };
}

function groupReports(
  records: readonly EvaluationRecord[],
  options: MetricOptions,
  resampling: ResamplingOptions,
): GroupReport[] {
  const groups = new Map<string, EvaluationRecord[]>();
  for (const record of records) {
    if (record.group === undefined) continue;
    const own = groups.get(record.group) ?? [];
    own.push(record);
    groups.set(record.group, own);
  }
  if (groups.size < 2) return [];
  return [...groups]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([group, own]) => {
      const [metric] = metricsOf(own, options);
      return { group, count: own.length, value: metric!.value(), ...bootstrapInterval(metric!, resampling) };
    });
}
