/**
 * Webhook alerts: what a team wants to be woken for, as a POST with JSON. Never in the way of training: requests have a limit
 * of time, few tries, a short queue, and whatever fails is told to a callback and forgotten.
 */
import { z } from "zod";
import { ConfigError } from "../util/error.ts";
import type { RunEvent } from "./events.ts";
import type { RunWriter } from "./run-folder.ts";

export const alertKinds = ["start", "intervention", "checkpointTrouble", "stall", "end", "failure"] as const;
export type AlertKind = (typeof alertKinds)[number];

export const alertSchema = z.strictObject({
  /** http or https. */
  url: z.url({ protocol: /^https?$/ }).max(2048),
  on: z.array(z.enum(alertKinds)).min(1).default(["intervention", "stall", "end", "failure"]),
  /** Sent as headers; a value such as "$HOOK_TOKEN" is taken from the environment. */
  headers: z.record(z.string().max(128), z.string().max(4096)).default({}),
  /** Silence after the newest step that counts as a stall. */
  stallMinutes: z.number().positive().default(30),
});
export type AlertOptions = z.output<typeof alertSchema>;

/** What is posted. */
export interface Alert {
  readonly kind: AlertKind;
  readonly run: { readonly id: string; readonly name: string };
  readonly time: string;
  readonly step?: number | undefined;
  readonly text: string;
}

export interface Alerter {
  /** Looks at an event, and sends what it is worth. */
  see(event: RunEvent): void;
  /** Looks at the clock: a stall is told once until steps go on. */
  tick(): void;
  /** Waits for what is under way, not longer than some seconds. */
  close(): Promise<void>;
}

const timeoutMs = 10_000;
const tries = 3;
const maxQueued = 16;

export interface AlerterOptions {
  readonly run: { readonly id: string; readonly name: string };
  readonly alerts: readonly AlertOptions[];
  readonly now: () => number;
  /** Told of every alert that could not be delivered, without its address's query and headers. */
  onFailure?(reason: string): void;
  /** Between two tries; for tests. */
  readonly retryMs?: number;
}

export function createAlerter({ run, alerts, now, onFailure, retryMs = 5000 }: AlerterOptions): Alerter {
  let lastStepMs: number | undefined;
  let lastStep: number | undefined;
  let stalled = false;
  let over = false;
  const underWay = new Set<Promise<void>>();
  const abort = new AbortController();

  function send(kind: AlertKind, text: string): void {
    const alert: Alert = { kind, run, time: new Date(now()).toISOString(), step: lastStep, text: text.slice(0, 2000) };
    for (const target of alerts) {
      if (!target.on.includes(kind)) continue;
      if (underWay.size >= maxQueued) {
        onFailure?.(`${shown(target.url)}: too many alerts at once`);
        continue;
      }
      const delivery = deliver(target, alert).finally(() => underWay.delete(delivery));
      underWay.add(delivery);
    }
  }

  async function deliver({ url, headers }: AlertOptions, alert: Alert): Promise<void> {
    let reason = "";
    for (let attempt = 0; attempt < tries && !abort.signal.aborted; attempt++) {
      if (attempt > 0) await pause(retryMs * attempt, abort.signal);
      try {
        const response = await fetch(url, {
          method: "POST",
          headers: { ...headers, "Content-Type": "application/json" },
          body: JSON.stringify(alert),
          redirect: "error", // an address that sends us elsewhere is not the one that was allowed
          signal: AbortSignal.any([AbortSignal.timeout(timeoutMs), abort.signal]),
        });
        await response.body?.cancel();
        if (response.ok) return;
        reason = `HTTP ${response.status}`;
        if (response.status >= 400 && response.status < 500 && response.status !== 429) break; // asking again changes nothing
      } catch (error) {
        reason = error instanceof Error ? error.name : "failed";
      }
    }
    onFailure?.(`${shown(url)}: ${reason}`);
  }

  return {
    see(event) {
      if (event.type === "step") {
        lastStepMs = now();
        lastStep = event.step;
        stalled = false;
      } else if (event.type === "start") {
        lastStepMs = now();
        lastStep = event.step;
        over = false;
        send("start", event.resumedFrom === undefined ? "started" : `resumed from ${event.resumedFrom}`);
      } else if (event.type === "intervention") {
        send(
          event.action === "warn" && /CPM_/.test(event.reason) ? "checkpointTrouble" : "intervention",
          `${event.action}: ${event.reason}`,
        );
      } else if (event.type === "end") {
        over = true;
        if (event.reason === "failed") send("failure", event.error ?? "failed");
        else send("end", event.reason);
      }
    },
    tick() {
      if (over || stalled || lastStepMs === undefined) return;
      const silentMinutes = (now() - lastStepMs) / 60_000;
      const limit = Math.min(
        ...alerts.filter(({ on }) => on.includes("stall")).map(({ stallMinutes }) => stallMinutes),
      );
      if (silentMinutes < limit) return;
      stalled = true;
      send("stall", `no step for ${Math.round(silentMinutes)} minutes`);
    },
    async close() {
      const timer = setTimeout(() => abort.abort(), timeoutMs);
      await Promise.allSettled(underWay);
      clearTimeout(timer);
    },
  };
}

/** Between two looks at the clock. */
const tickMs = 15_000;

/** A writer of a run's record that shows every event to an alerter, and the clock to it meanwhile. */
export function withAlerts(writer: RunWriter, alerter: Alerter, now: () => number): RunWriter {
  const timer = setInterval(() => alerter.tick(), tickMs);
  timer.unref();
  return {
    folder: writer.folder,
    get description() {
      return writer.description;
    },
    append(event, durable) {
      writer.append(event, durable);
      alerter.see({ time: new Date(now()).toISOString(), ...event } as RunEvent);
    },
    update: (changes) => writer.update(changes),
    async close() {
      clearInterval(timer);
      await writer.close();
      await alerter.close();
    },
  };
}

/** Header values that name a variable of the environment, as "$HOOK_TOKEN": so that no secret stands in a recipe. */
export function resolveHeaders(
  alerts: readonly AlertOptions[],
  env: Readonly<Record<string, string | undefined>>,
): AlertOptions[] {
  return alerts.map((alert) => ({
    ...alert,
    headers: Object.fromEntries(
      Object.entries(alert.headers).map(([name, value]) => [
        name,
        value.startsWith("$") ? (env[value.slice(1)] ?? "") : value,
      ]),
    ),
  }));
}

/** Addresses often hold a secret behind the host. */
function shown(url: string): string {
  const { protocol, host } = new URL(url);
  return `${protocol}//${host}/…`;
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/** Alerts as a recipe or `run.json` states them. Throws ConfigError CPM_LIVE_ALERT. */
export function parseAlerts(value: unknown): AlertOptions[] {
  const parsed = z.array(alertSchema).max(16).safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new ConfigError("CPM_LIVE_ALERT", "An alert is not as it must be", {
    where: `alerts.${issue?.path.join(".")}`,
    got: issue?.message,
    expected: "url (http or https) and perhaps on, headers, stallMinutes",
  });
}
