/**
 * What a run was expected to take, beside what it took so far; its memory by part, data, machine, assumptions and settings.
 * `run.json` may be of an older version or a stranger's: whatever of the plan is not there is left out.
 */
import type { RunPlan } from "../../src/live/run-plan.ts";
import type { RunDescription } from "./api.ts";
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatEnergy,
  formatMass,
  formatNumber,
  formatPercent,
  type Language,
} from "./format.ts";
import { Figure, useLedger } from "./run-details.tsx";
import type { RunStore } from "./run-store.ts";
import { t } from "./settings.ts";
import { flatten } from "./settings-tree.ts";
import type { TextKey } from "./text.ts";

type Partly<T> = T extends readonly (infer Each)[]
  ? readonly Partly<Each>[] | undefined
  : T extends object
    ? { readonly [Key in keyof T]?: Partly<T[Key]> }
    : T;

const partNames = {
  weights: "partWeights",
  gradients: "partGradients",
  moments: "partMoments",
  average: "partAverage",
  activations: "partActivations",
  batch: "partBatch",
  workspace: "partWorkspace",
  snapshot: "partSnapshot",
  keyValueCache: "partKeyValueCache",
  process: "partProcess",
} as const satisfies Record<keyof RunPlan["memory"]["bytes"], TextKey>;

export function PlanView({
  run,
  id,
  store,
  language,
}: {
  readonly run: RunDescription;
  readonly id: string;
  readonly store: RunStore;
  readonly language: Language;
}) {
  const plan = (run.plan ?? {}) as Partly<RunPlan>;
  return (
    <div class="plan">
      <Expected plan={plan} store={store} id={id} language={language} />
      <Memory plan={plan} />
      <Sources plan={plan} data={run.data} language={language} />
      <Stages id={id} version={store.version} language={language} />
      <Assumptions id={id} version={store.version} language={language} />
      <Machine run={run} />
      <Settings title={t("recipe")} settings={run.recipe} />
      <Settings title={t("modelSettings")} settings={run.model} />
    </div>
  );
}

const finite = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value);

/** Planned figures, and below each what it came to. */
function Expected({
  plan,
  store,
  id,
  language,
}: {
  readonly plan: Partly<RunPlan>;
  readonly store: RunStore;
  readonly id: string;
  readonly language: Language;
}) {
  const ledger = useLedger(id, store.version);
  const { run = {}, rate = {}, memory = {}, assumptions = {}, checkpoints = {} } = plan;
  const { columns, length } = store;
  const last = (name: "tokens" | "step" | "elapsed") => (length > 0 ? columns[name].values[length - 1]! : Number.NaN);
  const peak = columns.memoryBytes.values.subarray(0, length).reduce((most, value) => Math.max(most, value || 0), 0);
  const rateText =
    rate.source &&
    t(
      ({ measured: "rateMeasured", estimated: "rateEstimated", given: "rateGiven" } as const)[rate.source] ??
        "rateGiven",
    );
  const money = (value: number) => `${formatNumber(value)} ${assumptions.currency ?? ledger?.currency ?? ""}`;
  const rows: [TextKey, number | undefined, number | undefined, (value: number) => string, (string | undefined)?][] = [
    ["tokens", plan.tokens, last("tokens"), (value) => formatCount(value, language)],
    ["step", plan.steps, last("step"), (value) => formatCount(value, language)],
    [
      "throughput",
      run.tokensPerSecond,
      last("tokens") / last("elapsed"),
      (value) => `${formatCount(value, language)} ${t("tokensPerSecond")}`,
      rateText && finite(rate.utilisation) ? `${rateText} · ${t("mfu")} ${formatPercent(rate.utilisation)}` : rateText,
    ],
    [
      "hours",
      finite(run.hours) ? run.hours * 3600 : undefined,
      last("elapsed"),
      (value) => formatDuration(value, language),
    ],
    ["memory", memory.totalBytes, peak > 0 ? peak : undefined, formatBytes],
    ["cost", run.cost, ledger?.cost, money],
    ["energy", run.energyKwh, ledger?.kWh, formatEnergy],
    ["carbon", run.kgCo2e, ledger?.kgCo2e, formatMass],
    ["checkpointsOnDisk", checkpoints.bytes, undefined, formatBytes],
  ];
  const shown = rows.filter(([, planned, actual]) => finite(planned) || finite(actual));
  const isPlanned = rows.some(([, planned]) => finite(planned));
  return (
    <section class="card">
      <h2>{t("planTitle")}</h2>
      {!isPlanned && <p class="meta">{t("noPlan")}</p>}
      <div class="scroll">
        <table class="planned">
          <thead>
            <tr>
              <td />
              <th class="number">{t("planned")}</th>
              <th class="number">{t("measuredSoFar")}</th>
            </tr>
          </thead>
          <tbody>
            {finite(memory.parameters) && (
              <tr>
                <th scope="row">{t("parameters")}</th>
                <td class="number tabular">{formatCount(memory.parameters, language)}</td>
                <td />
              </tr>
            )}
            {shown.map(([name, planned, actual, format, note]) => (
              <tr key={name}>
                <th scope="row">
                  {t(name)}
                  {note && <small> {note}</small>}
                </th>
                <td class="number tabular">{finite(planned) ? format(planned) : "–"}</td>
                <td class="number tabular">{finite(actual) ? format(actual) : "–"}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

/** Bars of the parts, the largest first, and whether they fit. */
function Memory({ plan: { memory = {}, availableBytes, verdict } }: { readonly plan: Partly<RunPlan> }) {
  const parts = Object.entries(memory.bytes ?? {})
    .filter((entry): entry is [string, number] => finite(entry[1]) && entry[1] > 0)
    .toSorted(([, a], [, b]) => b - a);
  if (parts.length === 0) return null;
  const total = parts.reduce((sum, [, bytes]) => sum + bytes, 0);
  const isKnown = verdict === "fits" || verdict === "tight" || verdict === "tooLarge";
  return (
    <section class="card">
      <h2>
        {t("memoryByPart")} {isKnown && <span class={`verdict ${verdict}`}>{t(verdict)}</span>}
      </h2>
      <dl class="bars">
        {parts.map(([name, bytes]) => (
          <div key={name} title={formatPercent(bytes / total)}>
            <dt>{name in partNames ? t(partNames[name as keyof typeof partNames]) : name}</dt>
            <dd>
              <span class="bar" style={{ width: `${(100 * bytes) / parts[0]![1]}%` }} />
              <span class="tabular">
                {formatBytes(bytes)} <small>{formatPercent(bytes / total)}</small>
              </span>
            </dd>
          </div>
        ))}
      </dl>
      {finite(availableBytes) && (
        <p class="meta">
          {t("memoryTotal").replace("{total}", formatBytes(total)).replace("{available}", formatBytes(availableBytes))}
        </p>
      )}
    </section>
  );
}

function Sources({
  plan,
  data,
  language,
}: {
  readonly plan: Partly<RunPlan>;
  readonly data: RunDescription["data"];
  readonly language: Language;
}) {
  const weights = data.sources.reduce((sum, { weight }) => sum + weight, 0);
  if (data.sources.length === 0) return null;
  const readOf = (label: string) => plan.sources?.find((source) => source.label === label);
  const isPlanned = data.sources.some(({ label }) => finite(readOf(label)?.read));
  return (
    <section class="card">
      <h2>{t("data")}</h2>
      <div class="scroll">
        <table>
          <thead>
            <tr>
              <th>{t("source")}</th>
              <th class="number">{t("tokensOfSource")}</th>
              <th class="number">{t("share")}</th>
              {isPlanned && <th class="number">{t("tokensRead")}</th>}
              {isPlanned && <th class="number">{t("passes")}</th>}
            </tr>
          </thead>
          <tbody>
            {data.sources.map(({ label, tokens, weight }) => {
              const planned = readOf(label);
              return (
                <tr key={label}>
                  <td>{label}</td>
                  <td class="number tabular">{formatCount(tokens, language)}</td>
                  <td class="number tabular">{weights > 0 ? `${((100 * weight) / weights).toFixed(1)} %` : "–"}</td>
                  {isPlanned && (
                    <td class="number tabular">{finite(planned?.read) ? formatCount(planned.read, language) : "–"}</td>
                  )}
                  {isPlanned && (
                    <td class="number tabular">{finite(planned?.epochs) ? planned.epochs.toFixed(2) : "–"}</td>
                  )}
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </section>
  );
}

/** What each stage of the run took; nothing for a run whose record names none. */
function Stages({
  id,
  version,
  language,
}: {
  readonly id: string;
  readonly version: number;
  readonly language: Language;
}) {
  const ledger = useLedger(id, version);
  if (!ledger?.stages?.length) return null;
  const { stages, currency = "" } = ledger;
  return (
    <section class="card">
      <h2>{t("stages")}</h2>
      <table>
        <thead>
          <tr>
            <th>{t("stage")}</th>
            <th class="number">{t("hours")}</th>
            <th class="number">{t("energy")}</th>
            <th class="number">{t("carbon")}</th>
            <th class="number">{t("cost")}</th>
          </tr>
        </thead>
        <tbody>
          {stages.map(({ name, hours, kWh, kgCo2e, cost }) => (
            <tr key={name}>
              <th scope="row">{name}</th>
              <td class="number tabular">{formatDuration(3600 * hours, language)}</td>
              <td class="number tabular">{formatEnergy(kWh)}</td>
              <td class="number tabular">{kgCo2e === undefined ? "–" : formatMass(kgCo2e)}</td>
              <td class="number tabular">{cost === undefined ? "–" : `${formatNumber(cost)} ${currency}`}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function Assumptions({
  id,
  version,
  language,
}: {
  readonly id: string;
  readonly version: number;
  readonly language: Language;
}) {
  const ledger = useLedger(id, version);
  return (
    <section class="card">
      <h2>{t("assumptions")}</h2>
      {ledger?.assumptions?.length ? (
        <ul>
          {ledger.assumptions.map((each) => (
            <li key={each.en}>{each[language]}</li>
          ))}
        </ul>
      ) : (
        <p class="meta">{t("noLedger")}</p>
      )}
    </section>
  );
}

function Machine({ run: { machine, versions } }: { readonly run: RunDescription }) {
  return (
    <section class="card">
      <h2>{t("machine")}</h2>
      <dl class="figures">
        <Figure label={t("processor")} value={machine.cpu} />
        {machine.cores > 0 && <Figure label={t("cores")} value={String(machine.cores)} />}
        {machine.memoryBytes > 0 && <Figure label={t("memory")} value={formatBytes(machine.memoryBytes)} />}
        {Object.entries(versions).map(([name, value]) => (
          <Figure key={name} label={name} value={value} />
        ))}
      </dl>
    </section>
  );
}

function Settings({ title, settings }: { readonly title: string; readonly settings: unknown }) {
  const entries = [...flatten(settings)];
  if (entries.length === 0) return null;
  return (
    <details class="card">
      <summary>{title}</summary>
      <div class="scroll">
        <table class="settings">
          <tbody>
            {entries.map(([key, value]) => (
              <tr key={key}>
                <th scope="row">
                  <code>{key}</code>
                </th>
                <td>{value}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}
