/** What happens in training, into the events of a run's record, the progress line and JSON. */
import { mkdir } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import type { RunWriter } from "../live/run-folder.ts";
import type { ModelConfig } from "../model/config.ts";
import type { Intervention, PretrainHooks } from "../train/pretrain.ts";
import { type CommandContext, print, say } from "./context.ts";
import { pretrainMessages as messages } from "./messages/pretrain.ts";
import { startProgress } from "./progress.ts";
import { formatBytes, formatDuration, formatInteger, formatNumber } from "./quantity.ts";
import type { Recipe } from "./run-recipe.ts";

/** Continued during training where the recipe has no beginnings. */
const defaultPrompts = ["春天", "从前有", "今天"];

export interface Recording {
  readonly writer: RunWriter;
  readonly recipe: Pick<Recipe, "for" | "steps" | "sampleTokens" | "samplePrompts" | "seed">;
  readonly config: ModelConfig;
  readonly vocabularyText: string;
  readonly runtime: import("../runtime/runtime.ts").Runtime;
  readonly attempt: number;
  /** The last step of what this attempt takes back on purpose. */
  readonly undone?: { readonly step: number; readonly checkpoints?: string | undefined } | undefined;
  readonly flopsPerSecond: number;
}

/** Hooks that write events and show progress. */
export function createRecorder(
  { writer, recipe, config, vocabularyText, runtime, attempt, undone, flopsPerSecond }: Recording,
  context: CommandContext,
): { hooks: PretrainHooks; finish(): void; position(): { step: number; tokens: number } } {
  const progress = startProgress(context);
  const smoothed = createSmoothing();
  let position = { step: 0, tokens: 0 };
  /** Where and when this attempt began. */
  let begun = 0;
  let begunMs = context.now();
  const inRun = (path: string) => relative(resolve(writer.folder), resolve(path));
  const hooks: PretrainHooks = {
    now: context.now,
    signal: context.signal,
    onStart: ({ step, tokens, resumedFrom }) => {
      begun = step;
      begunMs = context.now();
      position = { step, tokens };
      const origin = { ...(resumedFrom && { resumedFrom: inRun(resumedFrom) }), ...(undone && { undone }) };
      writer.append({ type: "start", step, tokens, attempt, ...origin }, true);
      if (resumedFrom)
        progress.note(say(context, messages.resumed, { step: formatInteger(step), path: inRun(resumedFrom) }));
    },
    onStage: (step, name) => writer.append({ type: "stage", step, name }),
    onStep: ({ geometry, flops, ...report }) => {
      position = { step: report.step, tokens: report.tokens };
      const mfu = (1000 * flops) / Math.max(1e-9, report.ms) / flopsPerSecond;
      const { rows, columns } = geometry;
      const memoryBytes = process.memoryUsage.rss();
      // What is no number is told by the intervention; JSON has no word for it.
      const { gradientNorm, sources, ...rest } = report;
      const norm = Number.isFinite(gradientNorm) && { gradientNorm };
      const ofSources = { sources: { ...sources } };
      if (Number.isFinite(report.loss)) {
        writer.append({ type: "step", ...rest, ...norm, rows, columns, mfu, memoryBytes, ...ofSources });
      }
      const byTime = recipe.for === undefined ? 0 : (context.now() - begunMs) / recipe.for;
      progress.update({
        done: Math.max(report.step / recipe.steps, byTime),
        begun: begun / recipe.steps,
        step: report.step,
        steps: recipe.steps,
        loss: smoothed(report.loss),
        tokensPerSecond: report.tokensPerSecond,
        extra: [
          `lr ${report.learningRate.toExponential(1)}`,
          `|g| ${report.gradientNorm.toPrecision(2)}`,
          `MFU ${(100 * mfu).toFixed(0)}%`,
          formatBytes(memoryBytes),
        ],
      });
      if (context.json) print(context, JSON.stringify({ event: "step", ...report, mfu }));
    },
    onData: (step, change) => writer.append({ type: "data", step, ...change }),
    onValidation: (validation) => {
      writer.append({ type: "validation", ...validation });
      progress.note(
        say(context, messages.validation, {
          step: formatInteger(validation.step),
          nats: formatNumber(validation.nats),
          bits: formatNumber(validation.bitsPerCharacter),
        }),
      );
      if (context.json) print(context, JSON.stringify({ event: "validation", ...validation }));
    },
    onSamples: async (step, parameters, trainee) => {
      const { createTextGenerator } = await import("../infer/index.ts");
      const { createAntTokenizer, parseVocabulary } = await import("../tokenizer/index.ts");
      const tokenizer = createAntTokenizer(parseVocabulary(new TextEncoder().encode(vocabularyText)));
      const model = { config, tokenizer, parameters: trainee.tensors(parameters), grafts: trainee.grafts };
      const generator = createTextGenerator(runtime, model, { weights: "shared" });
      try {
        const samples: { prompt: string; text: string }[] = [];
        const options = { maxTokens: recipe.sampleTokens, seed: recipe.seed };
        const prompts = recipe.samplePrompts.length > 0 ? recipe.samplePrompts : defaultPrompts;
        for (const prompt of prompts) {
          const events = generator.stream([prompt], options);
          let next = await events.next();
          while (next.done !== true) next = await events.next();
          samples.push({ prompt, text: next.value.texts[0]!.text });
        }
        writer.append({ type: "sample", step, samples });
        if (context.json) print(context, JSON.stringify({ event: "sample", step, samples }));
      } finally {
        generator.dispose();
      }
    },
    onParameters: (step, parameters) => {
      writer.append({
        type: "parameters",
        step,
        parameters: parameters.map((each) => ({ ...each, shape: [...each.shape] })),
      });
    },
    onCheckpoint: ({ pauseMs: _, ...report }) => {
      const { path, removed, ...rest } = report;
      writer.append({ type: "checkpoint", ...rest, path: inRun(path), removed: removed.map(inRun) }, true);
      progress.note(
        say(context, messages.checkpoint, {
          step: formatInteger(report.step),
          bytes: formatBytes(report.bytes),
          time: formatDuration(report.ms),
        }),
      );
    },
    onCheckpointTrouble: (error, path) => {
      const reason = error instanceof Error ? error.message : String(error);
      writer.append({ type: "intervention", step: position.step, action: "warn", reason: reason.slice(0, 2000) }, true);
      progress.note(say(context, messages.trouble, { path: `${path}\n${reason}` }));
    },
    onIntervention: async (intervention) => {
      const dump = await dumpSamples(writer.folder, intervention, vocabularyText);
      const { step, action, reason, details } = intervention;
      writer.append({ type: "intervention", step, action, reason, dump: inRun(dump), details: { ...details } }, true);
      progress.note(say(context, messages.intervention, { step: formatInteger(step), action, reason }));
      if (context.json) print(context, JSON.stringify({ event: "intervention", step, action, reason, details }));
    },
  };
  return { hooks, finish: () => progress.finish(), position: () => position };
}

/** A running mean over some fifty steps that is right from the first. */
function createSmoothing(): (loss: number) => number {
  let sum = 0;
  let weight = 0;
  return (loss) => {
    sum = 0.98 * sum + 0.02 * loss;
    weight = 0.98 * weight + 0.02;
    return sum / weight;
  };
}

/** Writes aside what was trained on when something went wrong: origins, ids and text of every sample. */
async function dumpSamples(
  folder: string,
  { step, action, reason, batches }: Intervention,
  vocabularyText: string,
): Promise<string> {
  const { createAntTokenizer, parseVocabulary } = await import("../tokenizer/index.ts");
  const { writeFileAtomic } = await import("../util/atomic-file.ts");
  const tokenizer = createAntTokenizer(parseVocabulary(new TextEncoder().encode(vocabularyText)));
  const samples = batches.flatMap(({ batch: { input, columns, prompt }, samples }) =>
    samples.map((sample) => {
      const from = sample.row * columns + sample.start;
      const ids = [...input.subarray(from, from + sample.length)].filter((_, i) => !prompt || prompt[from + i] === 0);
      return { ...sample, ids, text: tokenizer.decode(ids) };
    }),
  );
  await mkdir(join(folder, "samples"), { recursive: true });
  const path = join(folder, "samples", `step-${String(step).padStart(8, "0")}-${action}.json`);
  await writeFileAtomic(path, `${JSON.stringify({ step, action, reason, samples }, undefined, 1)}\n`);
  return path;
}
