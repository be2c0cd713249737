/**
 * What crosses the wire between the live server, its pages and a static export: paths and JSON, the same in all three.
 *
 *     api/runs.json                          RunSummary[], newest first
 *     api/runs/ID/run.json                   the run's description (run-folder.ts)
 *     api/runs/ID/events.jsonl               the events as bytes; Range is served, what was sent once never changes
 *     api/runs/ID/events.jsonl?from=BYTE     the same from a byte on, as X-Event-From says; a static export sends all
 *     api/runs/ID/stream?from=BYTE           server-sent events from a byte on; not in a static export
 *     api/stream?runs=ID~BYTE,ID~BYTE        the same of several runs in one stream
 *     api/runs/ID/ledger.json                PageLedger: cost and carbon
 *     api/runs/ID/checkpoints.json           CheckpointEntry[]
 *     api/runs/ID/checkpoints/STEP/FILE      a file of a checkpoint
 *     api/runs/ID/log.json                   names of daily logs
 *     api/runs/ID/log/NAME                   Markdown
 *     api/runs/ID/samples/NAME               what the guard wrote aside
 *
 * A message of the stream has in `id` the byte after its last line, and in `data` one or more whole lines of
 * `events.jsonl`. A client that loses the connection goes on from the last id (EventSource sends it by itself), so it
 * neither misses nor doubles a line. In a stream of several
 * runs a message is named (`event`) after its run, its first line of data is that byte, and the client asks again. Now and then
 * a message `~beat` shows that the connection lives (stream-beat.ts). What is not there is answered with 404 and an `Absence`.
 * Types only: the pages import this too.
 */
import type { Bilingual } from "./bilingual.ts";
import type { RunDescription } from "./run-folder.ts";

/** Why there is no answer, and what to do. */
export interface Absence {
  /** A stable code. */
  readonly error: string;
  readonly message: Bilingual;
  readonly remedy: Bilingual;
}

/** A run in the list. */
export interface RunSummary {
  readonly id: string;
  readonly name: string;
  readonly createdAt: string;
  readonly status: RunDescription["status"];
  readonly parameters: number;
  readonly target: RunDescription["target"];
  /** Size of its events in whole lines. */
  readonly eventBytes: number;
  /** Served at another pace than it happened; factor on time. */
  readonly replaySpeed?: number;
}

export interface CheckpointEntry {
  readonly step: number;
  readonly files: readonly { readonly name: string; readonly bytes: number }[];
}

export interface PageLedger {
  readonly cost?: number;
  readonly currency?: string;
  readonly kWh?: number;
  readonly kgCo2e?: number;
  /** By stage of the run, those of one name together. */
  readonly stages?: readonly LedgerStage[];
  readonly assumptions?: readonly Bilingual[];
}

export interface LedgerStage {
  readonly name: string;
  /** Of the clock. */
  readonly hours: number;
  readonly kWh: number;
  readonly kgCo2e?: number;
  readonly cost?: number;
}
