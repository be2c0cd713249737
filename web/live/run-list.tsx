/** All runs, newest first; some of them can be ticked to compare. */
import { useEffect, useState } from "preact/hooks";
import { fetchRuns, type RunSummary } from "./api.ts";
import { formatCount, formatTime } from "./format.ts";
import { language, t } from "./settings.ts";
import { useSignal } from "./signal.ts";

export const statusText = (status: RunSummary["status"]) =>
  t(status === "failed" ? "failedRun" : status === "running" ? "running" : status === "stopped" ? "stopped" : "ended");

export function RunList() {
  const locale = useSignal(language);
  const [runs, setRuns] = useState<RunSummary[]>();
  const [ticked, setTicked] = useState<ReadonlySet<string>>(new Set());
  useEffect(() => void fetchRuns().then((found) => setRuns(found ?? [])), []);
  if (runs === undefined) return <p class="empty">{t("loading")}</p>;
  if (runs.length === 0) return <p class="empty">{t("noRuns")}</p>;
  const tick = (id: string) => {
    const next = new Set(ticked);
    if (!next.delete(id)) next.add(id);
    setTicked(next);
  };
  return (
    <main class="list">
      <ul class="runs">
        {runs.map(({ id, name, status, createdAt, parameters, target }) => (
          <li key={id} class="card run-row">
            <input
              type="checkbox"
              aria-label={`${t("compare")} ${name}`}
              checked={ticked.has(id)}
              onChange={() => tick(id)}
            />
            <a href={`#/run/${encodeURIComponent(id)}`}>
              <strong>{name}</strong>
              <span class={`status ${status}`}>{statusText(status)}</span>
              <span class="meta">
                {t("ofParameters").replace("{count}", formatCount(parameters, locale))}
                {target.steps !== undefined && ` · ${formatCount(target.steps, locale)} ${t("step")}`}
                {` · ${formatTime(Date.parse(createdAt) / 1000, locale)}`}
              </span>
            </a>
          </li>
        ))}
      </ul>
      {runs.length > 1 && (
        <p class="compare-bar">
          {ticked.size > 1 ? (
            <a class="button" href={`#/compare?runs=${[...ticked].map(encodeURIComponent).join(",")}`}>
              {t("compare")} ({ticked.size})
            </a>
          ) : (
            <span class="meta">{t("compareHint")}</span>
          )}
        </p>
      )}
    </main>
  );
}
