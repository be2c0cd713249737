/**
 * The state of runs in Prometheus' text format (exposition format 0.0.4): gauges of the newest step and validation, counters
 * of what happened. For a scraper at the live server's `/metrics`, or a file for the node exporter's collector.
 */
import type { RunEvent } from "./events.ts";
import type { RunDescription } from "./run-folder.ts";

/** Gauges of a step: key, name, meaning. */
const stepGauges = [
  ["step", "cpm_step", "Updates done."],
  ["tokens", "cpm_tokens", "Text tokens read."],
  ["loss", "cpm_loss_nats", "Training loss of the newest update, nats per token."],
  ["learningRate", "cpm_learning_rate", "Learning rate of the newest update."],
  ["gradientNorm", "cpm_gradient_norm", "Gradient norm before clipping."],
  ["tokensPerSecond", "cpm_tokens_per_second", "Throughput of the newest update."],
  ["mfu", "cpm_mfu_ratio", "Share of the machine's measured product rate."],
  ["memoryBytes", "cpm_memory_bytes", "Resident memory of the trainer."],
  ["epoch", "cpm_epoch", "Passes over the data."],
] as const;

export interface RunMetrics {
  add(event: RunEvent): void;
  /** Samples of this run by metric. */
  samples(): readonly Sample[];
}

interface Sample {
  readonly metric: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const help: Readonly<Record<string, { readonly type: "gauge" | "counter"; readonly help: string }>> = {
  ...Object.fromEntries(stepGauges.map(([, name, text]) => [name, { type: "gauge", help: text }])),
  cpm_validation_nats: {
    type: "gauge",
    help: "Newest validation loss, nats per token, by source; all together without one.",
  },
  cpm_validation_bits_per_character: { type: "gauge", help: "Newest validation loss in bits per character." },
  cpm_interventions_total: { type: "counter", help: "What the guard did, by action." },
  cpm_checkpoints_total: { type: "counter", help: "Checkpoints written." },
  cpm_starts_total: { type: "counter", help: "Times that the run was started or resumed." },
  cpm_last_event_seconds: { type: "gauge", help: "Time of the newest event, seconds since the epoch." },
  cpm_running: { type: "gauge", help: "1 while the run is under way." },
  cpm_live_viewers: { type: "gauge", help: "Connected viewers of the live pages." },
  cpm_live_resident_bytes: { type: "gauge", help: "Resident memory of the live server." },
};

/** Follows a run's events; memory does not grow with their number. */
export function createRunMetrics(): RunMetrics {
  let step: Extract<RunEvent, { type: "step" }> | undefined;
  let validation: Extract<RunEvent, { type: "validation" }> | undefined;
  const interventions = new Map<string, number>();
  let checkpoints = 0;
  let starts = 0;
  let lastSeconds = 0;
  let isRunning = false;
  return {
    add(event) {
      lastSeconds = Date.parse(event.time) / 1000;
      if (event.type === "step") step = event;
      else if (event.type === "validation") validation = event;
      else if (event.type === "checkpoint") checkpoints++;
      else if (event.type === "intervention")
        interventions.set(event.action, (interventions.get(event.action) ?? 0) + 1);
      else if (event.type === "end") isRunning = false;
      else if (event.type === "start") {
        starts++;
        isRunning = true;
      }
    },
    samples() {
      const out: Sample[] = [];
      const push = (metric: string, value: unknown, labels: Readonly<Record<string, string>> = {}) => {
        if (typeof value === "number" && Number.isFinite(value)) out.push({ metric, labels, value });
      };
      for (const [key, name] of stepGauges) push(name, step?.[key]);
      push("cpm_validation_nats", validation?.nats);
      push("cpm_validation_bits_per_character", validation?.bitsPerCharacter);
      for (const [source, { nats, bitsPerCharacter }] of Object.entries(validation?.sources ?? {})) {
        push("cpm_validation_nats", nats, { source });
        push("cpm_validation_bits_per_character", bitsPerCharacter, { source });
      }
      for (const [action, count] of interventions) push("cpm_interventions_total", count, { action });
      push("cpm_checkpoints_total", checkpoints);
      push("cpm_starts_total", starts);
      push("cpm_last_event_seconds", lastSeconds);
      push("cpm_running", Number(isRunning));
      return out;
    },
  };
}

/** The text for a scraper: metrics in the order of the table, each with its help and type once. */
export function prometheusText(
  runs: readonly { readonly run: Pick<RunDescription, "id" | "name">; readonly metrics: RunMetrics }[],
  server: Readonly<Record<string, number>> = {},
): string {
  const all = runs.flatMap(({ run, metrics }) =>
    metrics.samples().map((sample) => ({ ...sample, labels: { run: run.id, name: run.name, ...sample.labels } })),
  );
  for (const [metric, value] of Object.entries(server)) all.push({ metric, labels: {} as never, value });
  const lines: string[] = [];
  for (const [metric, { type, help: text }] of Object.entries(help)) {
    const samples = all.filter((sample) => sample.metric === metric);
    if (samples.length === 0) continue;
    lines.push(`# HELP ${metric} ${text}`, `# TYPE ${metric} ${type}`);
    for (const { labels, value } of samples) {
      const pairs = Object.entries(labels).map(([key, content]) => `${key}="${escapeLabel(content)}"`);
      lines.push(`${metric}${pairs.length > 0 ? `{${pairs.join(",")}}` : ""} ${value}`);
    }
  }
  return `${lines.join("\n")}\n`;
}

function escapeLabel(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
