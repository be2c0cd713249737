/** One run: its figures, charts and everything else about it. */
import { ChartControls } from "./chart-controls.tsx";
import { upperBound } from "./columns.ts";
import { Dynamics } from "./dynamics.tsx";
import { formatCount, formatDuration, formatPercent, formatTime, type Language } from "./format.ts";
import { PlanView } from "./plan-view.tsx";
import { Replay } from "./replay.tsx";
import { route, setQuery } from "./route.ts";
import { RunCharts } from "./run-charts.tsx";
import { Checkpoints, Cost, Events, Figure, Logs, Samples } from "./run-details.tsx";
import { statusText } from "./run-list.tsx";
import type { RunStore } from "./run-store.ts";
import { language, scheme, t } from "./settings.ts";
import { useSignal } from "./signal.ts";
import type { TextKey } from "./text.ts";
import { type FollowedRun, useRun } from "./use-run.ts";
import { viewOf, xKinds } from "./view.ts";

const tabs = ["overview", "samples", "dynamics", "events", "checkpoints", "logs", "plan"] as const;
type Tab = (typeof tabs)[number];

export function RunPage({ id }: { readonly id: string }) {
  const locale = useSignal(language);
  const mode = useSignal(scheme);
  const { query } = useSignal(route);
  const run = useRun(id);
  const { store, description } = run;
  const view = viewOf(query);
  const { step: steps, time: times } = store.columns;
  // While all is being read, a moment in it may not have come yet.
  const reached = view.at === undefined ? undefined : upperBound(steps.values, store.length, view.at);
  const cursor = reached === undefined || reached >= store.length ? undefined : Math.max(1, reached);
  const setCursor = (next: number | undefined) =>
    setQuery({ at: next === undefined ? undefined : String(steps.values[Math.min(store.length, next) - 1]) });
  const length = Math.min(store.length, cursor ?? store.length);
  const tab = (tabs as readonly string[]).includes(query.get("tab") ?? "") ? (query.get("tab") as Tab) : "overview";
  const limit = length > 0 ? times.values[length - 1]! : Number.POSITIVE_INFINITY;
  const shownStep = cursor === undefined ? Number.POSITIVE_INFINITY : steps.values[length - 1]!;
  const past = <T extends { readonly step: number }>(points: readonly T[]) =>
    cursor === undefined ? points : points.filter(({ step }) => step <= shownStep);
  if (run.state === "missing") return <MissingRun id={id} />;
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
        <Replay store={store} cursor={cursor} onCursor={setCursor} speed={view.speed} language={locale} />
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
          <ChartControls view={view} kinds={xKinds} />
          {store.length === 0 ? (
            <p class="empty">{t(run.state === "failed" ? "failed" : "loading")}</p>
          ) : (
            <RunCharts store={store} length={length} view={view} language={locale} theme={mode} />
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
      {tab === "plan" && description && <PlanView run={description} id={id} store={store} language={locale} />}
      {store.unreadable > 0 && <p class="meta">{t("unreadable").replace("{count}", String(store.unreadable))}</p>}
    </main>
  );
}

function Connection({ run: { state, description } }: { readonly run: FollowedRun }) {
  // Of a run that is over, that it is followed is no news.
  const isNews = state !== "live" || description === undefined || description.status === "running";
  return (
    <>
      {description && <span class={`status ${description.status}`}>{statusText(description.status)}</span>}
      <span class={isNews ? `connection ${state}` : "unseen"} role="status" data-state={state}>
        {t(state)}
      </span>
    </>
  );
}

function MissingRun({ id }: { readonly id: string }) {
  return (
    <main class="absent">
      <h1>{t("missing")}</h1>
      <p>{t("missingRun").replace("{id}", id)}</p>
      <p>{t("missingAdvice")}</p>
      <a href="#/" class="button">
        {t("back")}
      </a>
    </main>
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

/** Seconds in training, and steps a second lately. */
function pace(store: RunStore, length: number): { trained: number; rate: number } {
  const { time, elapsed, step } = store.columns;
  if (length < 2) return { trained: 0, rate: 0 };
  const start = Math.min(length - 2, upperBound(time.values, length, time.values[length - 1]! - 600));
  const seconds = elapsed.values[length - 1]! - elapsed.values[start]!;
  const rate = seconds > 0 ? (step.values[length - 1]! - step.values[start]!) / seconds : 0;
  return { trained: elapsed.values[length - 1]!, rate };
}
