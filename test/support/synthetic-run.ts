/** A run's folder with as many steps as wanted, as the trainer writes it: for tests and benches of the live pages. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { RunDescription } from "../../src/live/run-folder.ts";
import { createRandom } from "../../src/util/random.ts";

export interface SyntheticRunOptions {
  readonly id: string;
  readonly name?: string;
  readonly steps: number;
  /** Of the first step. */
  readonly startMs?: number;
  readonly msPerStep?: number;
  readonly targetSteps?: number;
  readonly status?: RunDescription["status"];
  readonly samples?: readonly { readonly prompt: string; readonly text: string }[];
  /** Names of parameters in the statistics. */
  readonly parameters?: readonly string[];
}

export function syntheticDescription({
  id,
  name,
  steps,
  targetSteps,
  status,
  startMs = 1_700_000_000_000,
}: SyntheticRunOptions): RunDescription {
  return {
    format: 1,
    id,
    name: name ?? id,
    createdAt: new Date(startMs).toISOString(),
    status: status ?? "running",
    recipe: { preset: "tiny" },
    model: { preset: "tiny", config: {}, parameters: 2_369_856 },
    data: { sources: [{ label: "zh/poems", tokens: 1000, weight: 1 }] },
    target: { steps: targetSteps ?? steps },
    machine: { cpu: "test", cores: 2, memoryBytes: 2 ** 33 },
    versions: { node: process.versions.node },
  };
}

/** The line of one step; losses fall along a curve with noise from the step's number. */
export function stepLine(
  step: number,
  { startMs = 1_700_000_000_000, msPerStep = 1000 }: Pick<SyntheticRunOptions, "startMs" | "msPerStep">,
): string {
  const noise = createRandom(7, step).uniform() - 0.5;
  return JSON.stringify({
    time: new Date(startMs + step * msPerStep).toISOString(),
    type: "step",
    step,
    tokens: step * 2048,
    loss: 3 + 6 / Math.sqrt(1 + step / 50) + 0.3 * noise,
    learningRate: 0.02 / Math.sqrt(1 + step / 100),
    gradientNorm: 0.1 + 0.02 * noise,
    ms: msPerStep,
    dataMs: 1,
    tokensPerSecond: (2048 * 1000) / msPerStep,
    mfu: 0.78 + 0.02 * noise,
    memoryBytes: 1.5e9,
    epoch: step / 5000,
    rows: 4,
    columns: 512,
  });
}

/** Every line of a run: a start, steps, and now and then a validation, a sample, statistics, a checkpoint. */
export function* syntheticLines(options: SyntheticRunOptions): Generator<string> {
  const { steps, startMs = 1_700_000_000_000, msPerStep = 1000 } = options;
  const names = options.parameters ?? ["input_embedding.weight", "encoder.layers.0.ffn.ffn.w_out.weight"];
  yield JSON.stringify({ time: new Date(startMs).toISOString(), type: "start", step: 0, tokens: 0, attempt: 1 });
  for (let step = 1; step <= steps; step++) {
    yield stepLine(step, { startMs, msPerStep });
    if (step % 100 !== 0) continue;
    const time = new Date(startMs + step * msPerStep).toISOString();
    const nats = 3 + 6 / Math.sqrt(1 + step / 50);
    yield JSON.stringify({
      time,
      type: "validation",
      step,
      tokens: step * 2048,
      nats,
      bitsPerCharacter: nats,
      sources: { "zh/poems": { nats, tokens: 100, bitsPerCharacter: nats } },
    });
    yield JSON.stringify({
      time,
      type: "sample",
      step,
      samples: options.samples ?? [{ prompt: "春天", text: `来了，第${step}步。` }],
    });
    const parameters = names.map((name) => ({
      name,
      shape: [4, 4],
      mean: 0,
      std: 1 + step / 1e4,
      min: -3,
      max: 3,
      gradMean: 0,
      gradStd: 0.01,
    }));
    yield JSON.stringify({ time, type: "parameters", step, parameters });
    yield JSON.stringify({
      time,
      type: "checkpoint",
      step,
      tokens: step * 2048,
      path: `checkpoints/step-${String(step).padStart(8, "0")}`,
      bytes: 1e6,
      ms: 100,
    });
  }
}

/** Writes it below `parent`; returns the run's folder. */
export function writeSyntheticRun(parent: string, options: SyntheticRunOptions): string {
  const folder = join(parent, options.id);
  mkdirSync(join(folder, "checkpoints"), { recursive: true });
  writeFileSync(join(folder, "run.json"), JSON.stringify(syntheticDescription(options)));
  let text = "";
  for (const line of syntheticLines(options)) text += `${line}\n`;
  writeFileSync(join(folder, "events.jsonl"), text);
  return folder;
}
