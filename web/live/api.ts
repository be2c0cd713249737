/** What the pages ask the server or the files of a static export for. Relative to the page. */
import type { CheckpointEntry, PageLedger, RunSummary } from "../../src/live/protocol.ts";
import type { RunDescription } from "../../src/live/run-folder.ts";

export type { CheckpointEntry, PageLedger, RunDescription, RunSummary };

export function runBase(id: string): string {
  return `api/runs/${encodeURIComponent(id)}/`;
}

/** JSON, or undefined where there is none. */
async function json<T>(path: string): Promise<T | undefined> {
  try {
    const response = await fetch(path, { cache: "no-cache" });
    return response.ok ? ((await response.json()) as T) : undefined;
  } catch {
    return undefined;
  }
}

export const fetchRuns = () => json<RunSummary[]>("api/runs.json");
export const fetchRun = (id: string) => json<RunDescription>(`${runBase(id)}run.json`);
export const fetchCheckpoints = (id: string) => json<CheckpointEntry[]>(`${runBase(id)}checkpoints.json`);
export const fetchLogNames = (id: string) => json<string[]>(`${runBase(id)}log.json`);

export const fetchLedger = (id: string) => json<PageLedger>(`${runBase(id)}ledger.json`);

export async function fetchLog(id: string, name: string): Promise<string> {
  const response = await fetch(`${runBase(id)}log/${encodeURIComponent(name)}`, { cache: "no-cache" });
  return response.ok ? response.text() : "";
}
