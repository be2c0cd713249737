/** Several runs in one chart: smoothed loss and validation over steps, tokens or time since each began. */
import { useMemo } from "preact/hooks";
import { Chart, type ChartSeries } from "./chart.tsx";
import { smooth } from "./columns.ts";
import { formatNumber } from "./format.ts";
import { route, setQuery } from "./route.ts";
import { language, t, theme } from "./settings.ts";
import { useSignal } from "./signal.ts";
import { type FollowedRun, useRun } from "./use-run.ts";

const colours = ["--s1", "--s2", "--s3", "--s4", "--s5", "--s6"];
const maxRuns = colours.length;

export function ComparePage() {
  const { query } = useSignal(route);
  const ids = (query.get("runs") ?? "").split(",").filter(Boolean).map(decodeURIComponent).slice(0, maxRuns);
  return <Comparison key={ids.join()} ids={ids} />;
}

function Comparison({ ids }: { readonly ids: readonly string[] }) {
  const locale = useSignal(language);
  const mode = useSignal(theme);
  const { query } = useSignal(route);
  // The number of runs is fixed for this component: it is made anew for others.
  const runs = ids.map((id) => useRun(id));
  const xKind = (["step", "tokens"] as const).find((kind) => kind === query.get("x")) ?? "step";
  const smoothing = Number(query.get("smooth") ?? 0.95);
  const key = runs.map(({ store }) => store.version).join();
  const nameOf = ({ description }: FollowedRun, i: number) => description?.name ?? ids[i]!;
  const loss = useMemo(
    (): ChartSeries[] =>
      runs.map((run, i) => {
        const { store } = run;
        return {
          label: nameOf(run, i),
          color: colours[i]!,
          x: store.columns[xKind].values,
          y: smooth(store.columns.loss.values, store.length, smoothing),
          length: store.length,
          width: 1.75,
        };
      }),
    [key, xKind, smoothing, locale],
  );
  const validation = useMemo(
    (): ChartSeries[] =>
      runs.flatMap((run, i) => {
        const { validations } = run.store;
        if (validations.length === 0) return [];
        const series: ChartSeries = {
          label: nameOf(run, i),
          color: colours[i]!,
          x: validations.map((each) => each[xKind]),
          y: validations.map(({ bitsPerCharacter, nats }) => bitsPerCharacter ?? nats),
          length: validations.length,
          points: true,
        };
        return [series];
      }),
    [key, xKind, locale],
  );
  return (
    <main class="run">
      <header class="run-header">
        <a href="#/" class="back">
          ← {t("back")}
        </a>
        <h1>{t("compare")}</h1>
      </header>
      <div class="controls chart-controls">
        <label>
          {t("xAxis")}
          <select value={xKind} onChange={(event) => setQuery({ x: event.currentTarget.value })}>
            <option value="step">{t("step")}</option>
            <option value="tokens">{t("tokens")}</option>
          </select>
        </label>
        <label>
          {t("smoothing")}
          <input
            type="range"
            min={0}
            max={0.99}
            step={0.01}
            value={smoothing}
            onInput={(event) => setQuery({ smooth: event.currentTarget.value })}
          />
        </label>
      </div>
      <div class="charts">
        <div class="wide">
          <Chart
            title={t("loss")}
            unit={t("lossUnit")}
            series={loss}
            xKind={xKind}
            language={locale}
            theme={mode}
            height={340}
          />
        </div>
        {validation.length > 0 && (
          <div class="wide">
            <Chart
              title={t("validationBits")}
              series={validation}
              xKind={xKind}
              language={locale}
              theme={mode}
              height={300}
            />
          </div>
        )}
      </div>
      <section class="card scroll">
        <table>
          <thead>
            <tr>
              <th>{t("runs")}</th>
              <th class="number">{t("step")}</th>
              <th class="number">{t("loss")}</th>
              <th class="number">{t("validationBits")}</th>
            </tr>
          </thead>
          <tbody>
            {runs.map((run, i) => {
              const { store } = run;
              const last = store.length - 1;
              return (
                <tr key={ids[i]}>
                  <td>
                    <a href={`#/run/${encodeURIComponent(ids[i]!)}`}>{nameOf(run, i)}</a>
                  </td>
                  <td class="number tabular">{last >= 0 ? store.columns.step.values[last] : "–"}</td>
                  <td class="number tabular">{last >= 0 ? formatNumber(loss[i]!.y[last]!) : "–"}</td>
                  <td class="number tabular">
                    {formatNumber(store.validations.at(-1)?.bitsPerCharacter ?? Number.NaN)}
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </section>
    </main>
  );
}
