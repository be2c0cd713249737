/** One run: its figures, charts and everything else about it. */
import { useState } from "preact/hooks";
import { upperBound } from "./columns.ts";
import { Dynamics } from "./dynamics.tsx";
import { formatCount, formatDuration, formatPercent, formatTime, type Language } from "./format.ts";
import { Replay } from "./replay.tsx";
import { route, setQuery } from "./route.ts";
import { type ChartSettings, RunCharts } from "./run-charts.tsx";
import { Checkpoints, Cost, Events, Figure, Logs, Plan, Samples } from "./run-details.tsx";
import { statusText } from "./run-list.tsx";
import type { RunStore } from "./run-store.ts";
import { language, t, theme } from "./settings.ts";
import { useSignal } from "./signal.ts";
import type { TextKey } from "./text.ts";
import { type FollowedRun, useRun } from "./use-run.ts";

const tabs = ["overview", "samples", "dynamics", "events", "checkpoints", "logs", "plan"] as const;
type Tab = (typeof tabs)[number];

export function RunPage({ id }: { readonly id: string }) {
  const locale = useSignal(language);
  const mode = useSignal(theme);
  const { query } = useSignal(route);
  const run = useRun(id);
  const { store, description } = run;
  const [cursor, setCursor] = useState<number>();
  const length = Math.min(store.length, cursor ?? store.length);
  const tab = (tabs as readonly string[]).includes(query.get("tab") ?? "") ? (query.get("tab") as Tab) : "overview";
  const settings: ChartSettings = {
    xKind: (["step", "tokens", "time"] as const).find((kind) => kind === query.get("x")) ?? "step",
    smoothing: Math.min(0.999, Math.max(0, Number(query.get("smooth") ?? 0.9) || 0)),
    log: query.get("log") === "1",
  };
  const limit = length > 0 ? store.columns.time.values[length - 1]! : Number.POSITIVE_INFINITY;
  const shownStep = cursor === undefined ? Number.POSITIVE_INFINITY : store.columns.step.values[length - 1]!;
  const past = <T extends { readonly step: number }>(points: readonly T[]) =>
    cursor === undefined ? points : points.filter(({ step }) => step <= shownStep);
  return (
    <main class="run">
      <header class="run-header">
        <a href="#/" class="back">
          ← {t("back")}
        </a>
        <h1>
          {description?.name ?? id} <Connection run={run} />
        </h1>
        <Figures run={run} length={length} cursor={cursor} id={id} language={locale} />
        <Replay store={store} cursor={cursor} onCursor={setCursor} language={locale} />
      </header>
      <nav class="tabs" aria-label={t("overview")}>
        {tabs.map((each) => (
          <button
            key={each}
            type="button"
            aria-current={tab === each ? "page" : undefined}
            onClick={() => setQuery({ tab: each === "overview" ? undefined : each })}
          >
            {t(each as TextKey)}
          </button>
        ))}
      </nav>
      {tab === "overview" && (
        <>
          <ChartControls settings={settings} />
          {store.length === 0 ? (
            <p class="empty">{t(run.state === "failed" ? "failed" : "loading")}</p>
          ) : (
            <RunCharts store={store} length={length} settings={settings} language={locale} theme={mode} />
          )}
        </>
      )}
      {tab === "samples" && <Samples points={past(store.samples)} language={locale} />}
      {tab === "dynamics" && <Dynamics points={past(store.parameters)} language={locale} theme={mode} />}
      {tab === "events" && (
        <Events
          entries={cursor === undefined ? store.timeline : store.timeline.filter(({ time }) => time <= limit)}
          language={locale}
        />
      )}
      {tab === "checkpoints" && <Checkpoints id={id} version={store.timeline.length} language={locale} />}
      {tab === "logs" && <Logs id={id} language={locale} />}
      {tab === "plan" && description && <Plan run={description} id={id} version={store.version} language={locale} />}
      {store.unreadable > 0 && <p class="meta">{t("unreadable").replace("{count}", String(store.unreadable))}</p>}
    </main>
  );
}

function Connection({ run: { state, description } }: { readonly run: FollowedRun }) {
  return (
    <>
      {description && <span class={`status ${description.status}`}>{statusText(description.status)}</span>}
      <span class={`connection ${state}`} role="status" data-state={state}>
        {t(state)}
      </span>
    </>
  );
}

interface FiguresProps {
  readonly run: FollowedRun;
  readonly length: number;
  readonly cursor: number | undefined;
  readonly id: string;
  readonly language: Language;
}

function Figures({ run: { store, description }, length, cursor, id, language: locale }: FiguresProps) {
  const { columns } = store;
  const last = length - 1;
  const step = length > 0 ? columns.step.values[last]! : 0;
  const tokens = length > 0 ? columns.tokens.values[last]! : 0;
  const target = description?.target;
  const stated = length > 0 ? columns.progress.values[last]! : Number.NaN;
  const done = Number.isFinite(stated)
    ? stated
    : target?.steps
      ? step / target.steps
      : target?.tokens
        ? tokens / target.tokens
        : Number.NaN;
  const { trained, rate } = pace(store, length);
  const remaining = done > 0 && done < 1 && rate > 0 && target?.steps ? (target.steps - step) / rate : Number.NaN;
  const started = store.timeline[0]?.time ?? Number.NaN;
  return (
    <>
      {Number.isFinite(done) && (
        <div
          class="progress"
          role="progressbar"
          aria-valuemin={0}
          aria-valuemax={100}
          aria-valuenow={Math.round(100 * Math.min(1, done))}
          aria-label={t("progress")}
        >
          <div style={{ width: `${100 * Math.min(1, done)}%` }} />
        </div>
      )}
      <dl class="figures">
        {Number.isFinite(done) && <Figure label={t("progress")} value={formatPercent(Math.min(1, done))} />}
        <Figure
          label={t("step")}
          value={`${formatCount(step, locale)}${target?.steps ? ` / ${formatCount(target.steps, locale)}` : ""}`}
        />
        <Figure label={t("tokens")} value={formatCount(tokens, locale)} />
        {description && (
          <Figure
            label={t("parameters")}
            value={formatCount(description.model.parameters, locale)}
            title={description.model.parameters.toLocaleString()}
          />
        )}
        <Figure label={t("elapsed")} value={formatDuration(trained, locale)} />
        {cursor === undefined && Number.isFinite(remaining) && description?.status === "running" && (
          <Figure label={t("remaining")} value={formatDuration(remaining, locale)} />
        )}
        <Figure label={t("started")} value={formatTime(started, locale)} />
        <Cost id={id} version={store.version} />
      </dl>
    </>
  );
}

/** Seconds in training, pauses left out, and steps a second lately. */
function pace(store: RunStore, length: number): { trained: number; rate: number } {
  const { time, step } = store.columns;
  if (length < 2) return { trained: 0, rate: 0 };
  let trained = 0;
  const from = Math.max(1, length - 2000);
  // Far back in long runs, gaps are looked for only between blocks of steps.
  const usual = (time.values[length - 1]! - time.values[from - 1]!) / (length - from + 1);
  const stride = Math.max(1, Math.floor(length / 20_000));
  for (let i = stride; i < length; i += stride) {
    const gap = time.values[i]! - time.values[i - stride]!;
    if (gap < Math.max(600, 50 * usual * stride)) trained += gap;
  }
  const back = upperBound(time.values, length, time.values[length - 1]! - 600);
  const start = Math.min(length - 2, back);
  const seconds = time.values[length - 1]! - time.values[start]!;
  return { trained, rate: seconds > 0 ? (step.values[length - 1]! - step.values[start]!) / seconds : 0 };
}

function ChartControls({ settings }: { readonly settings: ChartSettings }) {
  return (
    <div class="controls chart-controls">
      <label>
        {t("xAxis")}
        <select
          value={settings.xKind}
          onChange={(event) =>
            setQuery({ x: event.currentTarget.value === "step" ? undefined : event.currentTarget.value })
          }
        >
          <option value="step">{t("step")}</option>
          <option value="tokens">{t("tokens")}</option>
          <option value="time">{t("time")}</option>
        </select>
      </label>
      <label>
        {t("smoothing")}
        <input
          type="range"
          min={0}
          max={0.99}
          step={0.01}
          value={settings.smoothing}
          onInput={(event) => setQuery({ smooth: event.currentTarget.value })}
        />
      </label>
      <label>
        <input
          type="checkbox"
          checked={settings.log}
          onChange={() => setQuery({ log: settings.log ? undefined : "1" })}
        />{" "}
        {t("logScale")}
      </label>
    </div>
  );
}
