/** The charts of a run: loss with validation, and what else changes from step to step. */
import { useMemo } from "preact/hooks";
import { Chart } from "./chart.tsx";
import type { ChartMarker, ChartSeries } from "./chart-plot.ts";
import { smooth, upperBound } from "./columns.ts";
import { formatBytes, formatCount, formatNumber, formatPercent, type Language } from "./format.ts";
import { lineStyle } from "./line-styles.ts";
import type { RunStore, StepColumn } from "./run-store.ts";
import { t } from "./settings.ts";
import type { View } from "./view.ts";

export interface RunChartsProps {
  readonly store: RunStore;
  /** Steps to show: fewer than there are while the reader goes back in time. */
  readonly length: number;
  readonly view: View;
  readonly language: Language;
  readonly theme: string;
}

export function RunCharts({ store, length, view, language, theme }: RunChartsProps) {
  const { xKind, smoothing, log, zoom } = view;
  const x = store.columns[xKind].values;
  const key = `${store.version} ${length} ${xKind} ${smoothing} ${language}`;
  const limit = length > 0 ? store.columns.time.values[length - 1]! : 0;
  const column = (name: StepColumn) => store.columns[name].values;
  const last = (name: StepColumn) => (length > 0 ? column(name)[length - 1]! : Number.NaN);
  const has = (name: StepColumn) =>
    Number.isFinite(last(name)) || (length > 1 && Number.isFinite(column(name)[length - 2]!));

  const validations = useMemo(() => {
    const shown = store.validations.filter(({ time }) => time <= limit + 600);
    return {
      x: shown.map((each) => each[xKind]),
      nats: shown.map(({ nats }) => nats),
      bits: shown.map(({ bitsPerCharacter }) => bitsPerCharacter ?? Number.NaN),
      sources: [...new Set(shown.flatMap(({ sources }) => Object.keys(sources)))].map((name) => ({
        name: name.split("/").at(-1)!,
        bits: shown.map(({ sources }) => sources[name]?.bitsPerCharacter ?? Number.NaN),
      })),
    };
  }, [key]);

  // Of all there is: what is shown while the reader goes back in time is the beginning of it.
  const smoothed = useMemo(() => smooth(column("loss"), store.length, smoothing), [store.version, smoothing]);
  const lossSeries = useMemo((): ChartSeries[] => {
    const series: ChartSeries[] = [
      { label: t("trainLoss"), color: "--accent", x, y: column("loss"), length, faint: smoothing > 0, width: 1 },
    ];
    if (smoothing > 0) series.push({ label: t("smoothed"), color: "--accent", x, y: smoothed, length, width: 2 });
    if (validations.x.length > 0) {
      series.push({
        label: t("validation"),
        color: "--s2",
        x: validations.x,
        y: validations.nats,
        length: validations.x.length,
        points: true,
        width: 2,
      });
    }
    return series;
  }, [key]);
  const bitSeries = useMemo(
    (): ChartSeries[] => [
      ...(validations.sources.length > 1
        ? validations.sources.map(
            ({ name, bits }, i): ChartSeries => ({
              label: name,
              ...lineStyle(i),
              x: validations.x,
              y: bits,
              length: validations.x.length,
              width: 1.25,
            }),
          )
        : []),
      {
        label: t("validation"),
        color: "--fg",
        x: validations.x,
        y: validations.bits,
        length: validations.x.length,
        points: true,
        width: 2.5,
      },
    ],
    [key],
  );
  const scaled = useMemo(() => {
    const times = (name: StepColumn, factor: number) =>
      column(name)
        .subarray(0, store.length)
        .map((value) => value * factor);
    return { mfu: times("mfu", 100), memoryBytes: times("memoryBytes", 2 ** -20) };
  }, [store.version]);
  const single = (name: StepColumn, color: string, y: Float64Array = column(name)): ChartSeries[] => [
    { label: "", color, x, y, length, width: 1.25 },
  ];
  const others = useMemo(
    () => ({
      gradientNorm: single("gradientNorm", "--s3"),
      learningRate: single("learningRate", "--s4"),
      tokensPerSecond: single("tokensPerSecond", "--s5"),
      mfu: single("mfu", "--s6", scaled.mfu),
      memoryBytes: single("memoryBytes", "--s7", scaled.memoryBytes),
    }),
    [key],
  );
  const markers = useMemo(
    (): ChartMarker[] =>
      store.timeline
        .filter(
          ({ type, time, data }) =>
            time <= limit &&
            (type === "intervention" ||
              type === "stage" ||
              type === "note" ||
              (type === "start" && Number(data.step) > 0)),
        )
        .map(({ type, step, time }) => {
          const at =
            step === undefined
              ? upperBound(column("time"), length, time) - 1
              : Math.min(length - 1, upperBound(column("step"), length, step) - 1);
          return { x: x[Math.max(0, at)] ?? 0, color: type === "intervention" ? "--bad" : "--muted", label: type };
        }),
    [key],
  );
  const extent = length > 0 ? ([x[0]!, x[length - 1]!] as const) : undefined;
  const shared = { markers, xKind, zoom, extent, language, theme };
  const lastBits = validations.bits.at(-1);
  return (
    <div class="charts">
      <div class="wide">
        <Chart
          {...shared}
          title={t("loss")}
          value={formatNumber(smoothed[length - 1] ?? Number.NaN)}
          unit={t("lossUnit")}
          series={lossSeries}
          log={log}
          height={320}
        />
      </div>
      {validations.bits.some(Number.isFinite) && (
        <Chart
          {...shared}
          title={t("validationBits")}
          value={lastBits === undefined ? "" : formatNumber(lastBits)}
          series={bitSeries}
          height={260}
        />
      )}
      {has("gradientNorm") && (
        <Chart
          {...shared}
          title={t("gradientNorm")}
          value={formatNumber(last("gradientNorm"))}
          series={others.gradientNorm}
          log={log}
        />
      )}
      {has("learningRate") && (
        <Chart
          {...shared}
          title={t("learningRate")}
          value={formatNumber(last("learningRate"))}
          series={others.learningRate}
        />
      )}
      {has("tokensPerSecond") && (
        <Chart
          {...shared}
          title={t("throughput")}
          value={formatCount(last("tokensPerSecond"), language)}
          unit={t("tokensPerSecond")}
          series={others.tokensPerSecond}
        />
      )}
      {has("mfu") && (
        <Chart {...shared} title={t("mfu")} axisUnit="%" value={formatPercent(last("mfu"))} series={others.mfu} />
      )}
      {has("memoryBytes") && (
        <Chart
          {...shared}
          title={t("memory")}
          axisUnit="MiB"
          value={formatBytes(last("memoryBytes"))}
          series={others.memoryBytes}
        />
      )}
    </div>
  );
}
