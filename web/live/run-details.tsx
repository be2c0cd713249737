/** What is beside the charts: samples, events, checkpoints, logs, settings, cost. */
import { useEffect, useState } from "preact/hooks";
import {
  type CheckpointEntry,
  fetchCheckpoints,
  fetchLedger,
  fetchLog,
  fetchLogNames,
  type PageLedger,
  runBase,
} from "./api.ts";
import {
  formatBytes,
  formatCount,
  formatEnergy,
  formatMass,
  formatNumber,
  formatTime,
  type Language,
} from "./format.ts";
import { Markdown } from "./markdown.tsx";
import type { SamplePoint, TimelineEntry } from "./run-store.ts";
import { t } from "./settings.ts";
import type { TextKey } from "./text.ts";

export function Samples({
  points,
  language,
}: {
  readonly points: readonly SamplePoint[];
  readonly language: Language;
}) {
  const [chosen, choose] = useState<number>();
  if (points.length === 0) return <p class="empty">{t("noSamples")}</p>;
  const index = Math.min(points.length - 1, chosen ?? points.length - 1);
  const point = points[index]!;
  return (
    <section class="card">
      <label class="controls">
        <span class="tabular">
          {t("step")} {formatCount(point.step, language)}
        </span>
        <input
          type="range"
          min={0}
          max={points.length - 1}
          value={index}
          aria-label={t("samples")}
          onInput={(event) => choose(Number(event.currentTarget.value))}
        />
      </label>
      {point.samples.map(({ prompt, text }) => (
        <blockquote class="sample" lang="zh-Hans" key={prompt}>
          <b>{prompt}</b>
          {text}
        </blockquote>
      ))}
    </section>
  );
}

const eventNames: Readonly<Record<TimelineEntry["type"], TextKey>> = {
  start: "eventStart",
  stage: "eventStage",
  checkpoint: "eventCheckpoint",
  intervention: "eventIntervention",
  data: "eventData",
  note: "eventNote",
  end: "eventEnd",
};

export function Events({
  entries,
  language,
}: {
  readonly entries: readonly TimelineEntry[];
  readonly language: Language;
}) {
  const [all, setAll] = useState(false);
  const shown = entries.filter(({ type }) => all || type !== "checkpoint").slice(-500);
  return (
    <section class="card">
      <label class="controls">
        <input type="checkbox" checked={all} onChange={() => setAll(!all)} /> {t("showCheckpoints")}
      </label>
      <ol class="timeline">
        {shown.toReversed().map((entry, i) => (
          <li key={shown.length - i} class={entry.type}>
            <time>{formatTime(entry.time, language)}</time>
            <b>{t(entry.type === "start" && Number(entry.data.step) > 0 ? "eventResume" : eventNames[entry.type])}</b>
            {entry.step !== undefined && (
              <span class="tabular">
                {t("step")} {formatCount(entry.step, language)}
              </span>
            )}
            <span class="event-text">{eventText(entry, language)}</span>
          </li>
        ))}
      </ol>
    </section>
  );
}

function eventText({ type, data }: TimelineEntry, language: Language): string {
  const text = (value: unknown) => (typeof value === "string" ? value : "");
  if (language === "zh" && typeof data.zh === "string") return data.zh;
  switch (type) {
    case "intervention":
      return `${text(data.action)} · ${text(data.reason)}`;
    case "checkpoint":
      return `${text(data.path)} · ${formatBytes(Number(data.bytes))}`;
    case "end":
      return `${text(data.reason)} ${text(data.error)}`;
    case "stage":
      return text(data.name);
    case "start":
      return text(data.resumedFrom);
    default:
      return [text(data.author), text(data.text)].filter(Boolean).join(": ");
  }
}

export function Checkpoints({
  id,
  version,
  language,
}: {
  readonly id: string;
  readonly version: number;
  readonly language: Language;
}) {
  const [entries, setEntries] = useState<CheckpointEntry[]>();
  useEffect(() => void fetchCheckpoints(id).then((found) => setEntries(found ?? [])), [id, version]);
  if (!entries?.length) return <p class="empty">{t("noCheckpoints")}</p>;
  return (
    <section class="card scroll">
      <table>
        <tbody>
          {entries.toReversed().map(({ step, files }) => (
            <tr key={step}>
              <th scope="row" class="tabular">
                {t("step")} {formatCount(step, language)}
              </th>
              <td>
                {files.map(({ name, bytes }) => (
                  <a
                    key={name}
                    class="file"
                    download
                    href={`${runBase(id)}checkpoints/step-${String(step).padStart(8, "0")}/${name}`}
                  >
                    {name} <small>{formatBytes(bytes)}</small>
                  </a>
                ))}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

export function Logs({ id, language }: { readonly id: string; readonly language: Language }) {
  const [names, setNames] = useState<string[]>();
  const [chosen, choose] = useState<string>();
  const [text, setText] = useState("");
  useEffect(() => void fetchLogNames(id).then((found) => setNames(found ?? [])), [id]);
  const own = (names ?? []).filter((name) => name.endsWith(`.${language}.md`));
  const list = own.length > 0 ? own : (names ?? []);
  const name = chosen !== undefined && list.includes(chosen) ? chosen : list.at(-1);
  useEffect(() => {
    if (name) void fetchLog(id, name).then(setText);
  }, [id, name]);
  if (names === undefined) return <p class="empty">{t("loading")}</p>;
  if (name === undefined) return <p class="empty">{t("noLogs")}</p>;
  return (
    <section class="card">
      <label class="controls">
        <select value={name} aria-label={t("logs")} onChange={(event) => choose(event.currentTarget.value)}>
          {list.toReversed().map((each) => (
            <option key={each} value={each}>
              {each.replace(/\.(zh|en)\.md$/, "")}
            </option>
          ))}
        </select>
      </label>
      <Markdown text={text} />
    </section>
  );
}

export function Cost({ id, version }: { readonly id: string; readonly version: number }) {
  const ledger = useLedger(id, version);
  if (ledger === undefined) return null;
  return (
    <>
      {ledger.cost !== undefined && (
        <Figure label={t("cost")} value={`${formatNumber(ledger.cost)} ${ledger.currency ?? ""}`} />
      )}
      {ledger.kWh !== undefined && <Figure label={t("energy")} value={formatEnergy(ledger.kWh)} />}
      {ledger.kgCo2e !== undefined && <Figure label={t("carbon")} value={formatMass(ledger.kgCo2e)} />}
    </>
  );
}

export function useLedger(id: string, version: number): PageLedger | undefined {
  const [ledger, setLedger] = useState<PageLedger>();
  // Not with every step: it changes slowly.
  const slow = Math.floor(version / 60);
  useEffect(() => void fetchLedger(id).then(setLedger), [id, slow]);
  return ledger;
}

export function Figure({
  label,
  value,
  title,
}: {
  readonly label: string;
  readonly value: string;
  readonly title?: string;
}) {
  return (
    <div class="figure" title={title}>
      <dt>{label}</dt>
      <dd class="tabular">{value}</dd>
    </div>
  );
}
