/** Several runs in common charts, over steps, tokens or time in training; and how their recipes differ. */
import { useMemo } from "preact/hooks";
import { Chart } from "./chart.tsx";
import { ChartControls } from "./chart-controls.tsx";
import type { ChartSeries } from "./chart-plot.ts";
import { smooth } from "./columns.ts";
import { formatCount, formatDuration, formatNumber } from "./format.ts";
import { LineSample } from "./line-sample.tsx";
import { distinctLines, lineStyle } from "./line-styles.ts";
import { route, setQuery } from "./route.ts";
import { statusText } from "./run-list.tsx";
import type { StepColumn } from "./run-store.ts";
import { language, scheme, t } from "./settings.ts";
import { differences, flatten } from "./settings-tree.ts";
import { createSharedStream } from "./shared-stream.ts";
import { useSignal } from "./signal.ts";
import { type FollowedRun, useRun } from "./use-run.ts";
import { viewOf, type XKind, xNames } from "./view.ts";

const kinds: readonly XKind[] = ["step", "tokens", "elapsed"];
const usualSmoothing = 0.95;

export function ComparePage() {
  const { query } = useSignal(route);
  const all = [...new Set((query.get("runs") ?? "").split(",").filter(Boolean))];
  const ids = all.slice(0, distinctLines);
  if (ids.length === 0) return <p class="empty">{t("noneChosen")}</p>;
  return <Comparison key={ids.join()} ids={ids} left={all.length - ids.length} />;
}

interface Compared {
  readonly run: FollowedRun;
  readonly id: string;
  readonly name: string;
  /** Its place among all, which gives its line. */
  readonly index: number;
}

function Comparison({ ids, left }: { readonly ids: readonly string[]; readonly left: number }) {
  const locale = useSignal(language);
  const mode = useSignal(scheme);
  const { query } = useSignal(route);
  // The number of runs is fixed for this component: it is made anew for others.
  const stream = useMemo(createSharedStream, []);
  const runs = ids.map((id) => useRun(id, stream));
  const parsed = viewOf(query, usualSmoothing);
  const view = { ...parsed, xKind: kinds.includes(parsed.xKind) ? parsed.xKind : "step" };
  const { xKind, smoothing, log, zoom } = view;
  const hidden = new Set((query.get("hide") ?? "").split(",").filter(Boolean));
  const compared = runs.map(
    (run, index): Compared => ({ run, id: ids[index]!, name: run.description?.name ?? ids[index]!, index }),
  );
  const shown = compared.filter(({ id }) => !hidden.has(id));
  const key = `${shown.map(({ run, name }) => `${name} ${run.store.version}`).join()} ${xKind} ${locale}`;
  const smoothedLoss = useMemo(
    () =>
      new Map(
        compared.map(({ id, run: { store } }) => [id, smooth(store.columns.loss.values, store.length, smoothing)]),
      ),
    [runs.map(({ store }) => store.version).join(), smoothing],
  );
  const series = useMemo(() => {
    const line = ({ name, index }: Compared) => ({ label: name, ...lineStyle(index), width: 1.75 });
    const ofColumn = (column: StepColumn, yOf: (each: Compared) => ArrayLike<number>): ChartSeries[] =>
      shown
        .filter(({ run: { store } }) => store.columns[column].values.subarray(0, store.length).some(Number.isFinite))
        .map((each) => {
          const { store } = each.run;
          return { ...line(each), x: store.columns[xKind].values, y: yOf(each), length: store.length };
        });
    const smoothed = (column: StepColumn) => (each: Compared) => {
      const { store } = each.run;
      return smooth(store.columns[column].values, store.length, smoothing);
    };
    return {
      loss: ofColumn("loss", ({ id }) => smoothedLoss.get(id)!),
      gradientNorm: ofColumn("gradientNorm", smoothed("gradientNorm")),
      learningRate: ofColumn("learningRate", ({ run }) => run.store.columns.learningRate.values),
      tokensPerSecond: ofColumn("tokensPerSecond", smoothed("tokensPerSecond")),
      validation: shown.flatMap((each): ChartSeries[] => {
        const { validations } = each.run.store;
        const known = validations.filter(({ bitsPerCharacter }) => bitsPerCharacter !== undefined);
        if (known.length === 0) return [];
        const x = known.map((point) => point[xKind]);
        const y = known.map(({ bitsPerCharacter }) => bitsPerCharacter!);
        return [{ ...line(each), x, y, length: known.length, points: true }];
      }),
    };
  }, [key, smoothing]);
  const ends = shown.flatMap(({ run: { store } }) =>
    store.length > 0 ? [store.columns[xKind].values[store.length - 1]!] : [],
  );
  const extent = [0, Math.max(0, ...ends)] as const;
  const common = { xKind, zoom, extent, language: locale, theme: mode } as const;
  return (
    <main class="run">
      <header class="run-header">
        <a href="#/" class="back">
          ← {t("back")}
        </a>
        <h1>{t("compare")}</h1>
      </header>
      <RunTable compared={compared} hidden={hidden} loss={smoothedLoss} />
      {left > 0 && <p class="meta">{t("tooMany").replace("{count}", String(distinctLines))}</p>}
      <ChartControls view={view} kinds={kinds} />
      <div class="charts">
        <div class="wide">
          <Chart {...common} title={t("loss")} unit={t("lossUnit")} series={series.loss} log={log} height={340} />
        </div>
        {series.validation.length > 0 && (
          <div class="wide">
            <Chart {...common} title={t("validationBits")} series={series.validation} height={300} />
          </div>
        )}
        {series.gradientNorm.length > 0 && (
          <Chart {...common} title={t("gradientNorm")} series={series.gradientNorm} log={log} />
        )}
        {series.learningRate.length > 0 && <Chart {...common} title={t("learningRate")} series={series.learningRate} />}
        {series.tokensPerSecond.length > 0 && (
          <Chart {...common} title={t("throughput")} axisUnit={t("tokensPerSecond")} series={series.tokensPerSecond} />
        )}
      </div>
      <RecipeDifferences compared={compared} />
    </main>
  );
}

/** The runs with their lines: the legend of all charts, and where each is now. */
function RunTable({
  compared,
  hidden,
  loss,
}: {
  readonly compared: readonly Compared[];
  readonly hidden: ReadonlySet<string>;
  readonly loss: ReadonlyMap<string, Float64Array>;
}) {
  const locale = useSignal(language);
  const toggle = (id: string) => {
    const next = new Set(hidden);
    if (!next.delete(id)) next.add(id);
    setQuery({ hide: next.size > 0 ? [...next].join(",") : undefined });
  };
  return (
    <section class="card scroll">
      <table class="compared">
        <thead>
          <tr>
            <th>{t("runs")}</th>
            <th class="number">{t("step")}</th>
            <th class="number">{t("tokens")}</th>
            <th class="number">{t(xNames.elapsed)}</th>
            <th class="number">{t("loss")}</th>
            <th class="number">{t("validationBits")}</th>
          </tr>
        </thead>
        <tbody>
          {compared.map(({ run: { store, state, description }, id, name, index }) => {
            const last = store.length - 1;
            const value = (column: StepColumn) => (last >= 0 ? store.columns[column].values[last]! : Number.NaN);
            return (
              <tr key={id}>
                <th scope="row">
                  <label title={t("shown")}>
                    <input
                      type="checkbox"
                      aria-label={`${t("shown")} ${name}`}
                      checked={!hidden.has(id)}
                      onChange={() => toggle(id)}
                    />
                    <LineSample style={lineStyle(index)} />
                  </label>
                  <a href={`#/run/${encodeURIComponent(id)}`}>{name}</a>
                  {state === "missing" ? (
                    <span class="status failed">{t("missing")}</span>
                  ) : (
                    description && <span class={`status ${description.status}`}>{statusText(description.status)}</span>
                  )}
                </th>
                <td class="number tabular">{formatCount(value("step"), locale)}</td>
                <td class="number tabular">{formatCount(value("tokens"), locale)}</td>
                <td class="number tabular">{formatDuration(value("elapsed"), locale)}</td>
                <td class="number tabular">{formatNumber(loss.get(id)?.[last] ?? Number.NaN)}</td>
                <td class="number tabular">{formatNumber(store.validations.at(-1)?.bitsPerCharacter ?? Number.NaN)}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </section>
  );
}

function RecipeDifferences({ compared }: { readonly compared: readonly Compared[] }) {
  const known = compared.filter(({ run }) => run.description !== undefined);
  const rows = useMemo(
    () =>
      differences(
        known.map(({ run: { description } }) => {
          const { recipe, model, data, machine } = description!;
          const sources = data.sources.map(({ label }) => label).join(", ");
          const { preset, config, parameters } = model;
          return new Map([
            ["parameters", parameters.toLocaleString("en-GB")],
            ...flatten({ preset, ...config }, "model"),
            ...flatten(recipe),
            ["data", sources],
            ["machine", machine.cpu],
          ]);
        }),
      ),
    [known.map(({ id }) => id).join()],
  );
  if (known.length < 2) return null;
  return (
    <section class="card">
      <h2>{t("recipeDifferences")}</h2>
      {rows.length === 0 ? (
        <p class="meta">{t("sameRecipes")}</p>
      ) : (
        <div class="scroll">
          <table class="differences">
            <thead>
              <tr>
                <th>{t("setting")}</th>
                {known.map(({ id, name, index }) => (
                  <th key={id}>
                    <LineSample style={lineStyle(index)} /> {name}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {rows.map(({ key, values }) => (
                <tr key={key}>
                  <th scope="row">
                    <code>{key}</code>
                  </th>
                  {values.map((value, i) => (
                    <td key={known[i]!.id}>{value ?? "–"}</td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}
