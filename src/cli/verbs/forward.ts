/**
 * `cpm forward`: a model's numbers for given inputs, safetensors in and out. Nothing here is for speed or for texts: it is
 * what another implementation is compared with.
 */
import { z } from "zod";
import type { Checkpoint, RawCheckpoint, WritableTensor } from "../../checkpoint/index.ts";
import { countTargets } from "../../model/batch.ts";
import { parameterTable } from "../../model/parameters.ts";
import type { Runtime } from "../../runtime/index.ts";
import { ConfigError, DataError, RuntimeError } from "../../util/error.ts";
import { defineCommand } from "../command.ts";
import { type CommandContext, note, print, printJson, say } from "../context.ts";
import { readBatch, readPrompts } from "../forward-input.ts";
import { freeMemoryBytes } from "../machine.ts";
import { forwardMessages as messages } from "../messages/forward.ts";
import { formatBytes, formatDuration } from "../quantity.ts";
import { renderTable } from "../table.ts";

/** A tensor of the output, in memory. */
interface Result {
  readonly name: string;
  readonly dtype: "float32" | "int64";
  readonly shape: readonly number[];
  readonly data: Float32Array | BigInt64Array;
}

/** More rows of the summary's table than these are only counted in the file. */
const shownTensors = 8;

export default defineCommand({
  name: "forward",
  summary: messages.summary,
  description: messages.description,
  json: true,
  examples: [
    {
      line: "forward --model model.pt --config config.json --input batch.safetensors --output out.safetensors --grad",
      ...messages.exampleForward,
    },
    {
      line: "forward --model model/ --input prompts.safetensors --output out.safetensors --decode 16",
      ...messages.exampleDecode,
    },
  ],
  schema: z.object({
    model: z.string().min(1).describe(messages.model.en).meta({ zh: messages.model.zh, placeholder: "PATH" }),
    config: z
      .string()
      .min(1)
      .optional()
      .describe(messages.config.en)
      .meta({ zh: messages.config.zh, placeholder: "FILE" }),
    input: z.string().min(1).describe(messages.input.en).meta({ zh: messages.input.zh, placeholder: "FILE" }),
    output: z
      .string()
      .min(1)
      .describe(messages.output.en)
      .meta({ zh: messages.output.zh, placeholder: "FILE", alias: "o" }),
    grad: z.boolean().default(false).describe(messages.grad.en).meta({ zh: messages.grad.zh }),
    decode: z.int().min(1).optional().describe(messages.decode.en).meta({ zh: messages.decode.zh }),
    segment: z.int().min(1).default(2).describe(messages.segment.en).meta({ zh: messages.segment.zh }),
    threads: z.int().min(1).max(1024).optional().describe(messages.threads.en).meta({ zh: messages.threads.zh }),
  }),
  async run({ model, config, input, output, grad, decode, segment, threads }, context) {
    if (grad && decode !== undefined) throw new ConfigError("CPM_CLI_USAGE", say(context, messages.gradOrDecode));
    const startMs = context.now();
    const { openCheckpoint, openSafetensors, writeSafetensors } = await import("../../checkpoint/index.ts");
    const { createNativeRuntime } = await import("../../runtime/index.ts");
    await using checkpoint = await openCheckpoint(model, config === undefined ? {} : { configPath: config });
    const { assumptions } = checkpoint;
    if (assumptions.length > 0) note(context, say(context, messages.assumed, { what: assumptions.join("; ") }));
    const file = await openSafetensors(input);
    let results: readonly Result[];
    try {
      using runtime = createNativeRuntime(threads === undefined ? {} : { threads });
      results =
        decode === undefined
          ? await runBatch(runtime, checkpoint, file, grad, context)
          : await decodeGreedily(runtime, checkpoint, file, { steps: decode, segment }, context);
    } finally {
      await file.close();
    }
    context.signal.throwIfAborted();
    await writeSafetensors(
      output,
      results.map(({ data, ...tensor }): WritableTensor => ({ ...tensor, read: () => data })),
    );
    report(results, { model, input, output }, context.now() - startMs, context);
  },
});

/** `batch.*` to `logits`, `hidden`, `loss` and gradients. */
async function runBatch(
  runtime: Runtime,
  checkpoint: Checkpoint,
  file: RawCheckpoint,
  grad: boolean,
  context: CommandContext,
): Promise<readonly Result[]> {
  const [{ arenaLayout, createArena }, { createTrainingStep }] = await Promise.all([
    import("../../train/arena.ts"),
    import("../../train/step.ts"),
  ]);
  // Dropout is for training; these are the numbers without it.
  const config = { ...checkpoint.config, dropout: 0 };
  const { batch, hasTarget, hasPosition } = await readBatch(file, config);
  if (hasPosition) note(context, say(context, messages.positionIgnored));
  const targets = countTargets(batch);
  if (grad && targets === 0) {
    throw new DataError("CPM_FORWARD_TARGET", say(context, messages.gradientsNeedTarget), {
      where: file.files.join(", "),
    });
  }
  if (hasTarget && targets === 0) note(context, say(context, messages.noTargets));

  const layout = arenaLayout(parameterTable(config));
  const parameters = createArena(runtime, layout);
  for (const [name, tensor] of parameters.tensors) {
    context.signal.throwIfAborted();
    runtime.write(tensor, await checkpoint.tensor(name).readFloat32());
  }
  const gradients = grad ? createArena(runtime, layout) : undefined;
  const { rows, columns, prompt } = batch;
  const geometry = { rows, columns, packed: prompt !== undefined };
  const step = await createTrainingStep(runtime, config, parameters, gradients, { ...geometry, recompute: "none" });
  context.signal.throwIfAborted();
  const { hidden, logits } = await step.outputs(batch);
  const results: Result[] = [
    float32("logits", logits.shape, (await runtime.download(logits)) as Float32Array),
    float32("hidden", hidden.shape, (await runtime.download(hidden)) as Float32Array),
  ];
  if (targets > 0) {
    const loss = grad ? await step.lossAndGradients(batch) : await step.loss(batch);
    results.push(float32("loss", [1], Float32Array.of(loss)));
  }
  for (const [name, tensor] of gradients?.tensors ?? []) {
    results.push(float32(`grad.${name}`, tensor.shape, (await runtime.download(tensor)) as Float32Array));
  }
  return results;
}

/** `input` and `length` to `next` and `logits` of each step. */
async function decodeGreedily(
  runtime: Runtime,
  checkpoint: Checkpoint,
  file: RawCheckpoint,
  { steps, segment }: { readonly steps: number; readonly segment: number },
  context: CommandContext,
): Promise<readonly Result[]> {
  const { argmax, createCpmAntSession, decodingBytes, loadWeights } = await import("../../infer/index.ts");
  const { config } = checkpoint;
  const { promptTask, prompts } = await readPrompts(file, config);
  const rows = prompts.length;
  const { vocabSize } = config;
  const promptTokens = Math.max(...prompts.map(({ length }) => length));
  const batch = { mode: "greedy", samples: 1, beamSize: 1, maxTokens: steps } as const;
  const bytes = decodingBytes(config, batch, rows, promptTokens) + rows * steps * (vocabSize * 4 + 8);
  if (bytes > freeMemoryBytes()) {
    throw new ConfigError("CPM_INFER_MEMORY", "the cache and the logits of so many steps do not fit into memory", {
      got: `${formatBytes(bytes)} for ${rows} rows and ${steps} steps`,
      expected: `at most ${formatBytes(freeMemoryBytes())}`,
      hint: "Decode fewer steps, or fewer rows at once.",
    });
  }
  const weights = await loadWeights(runtime, checkpoint);
  const session = await createCpmAntSession(runtime, config, weights.tensors, {
    capacityTokens: promptTokens + steps,
    promptTask,
    segment,
    weights: "shared", // a few steps are not worth packing for
  });
  const next = new BigInt64Array(rows * steps);
  const logits = new Float32Array(rows * steps * vocabSize);
  let scores = await session.prefill(prompts);
  for (let step = 0; ; step++) {
    context.signal.throwIfAborted();
    const chosen = new Int32Array(rows);
    for (let row = 0; row < rows; row++) {
      const own = scores.subarray(row * vocabSize, (row + 1) * vocabSize);
      const at = row * steps + step;
      requireFinite(own, `logits, row ${row}, step ${step}`);
      logits.set(own, at * vocabSize);
      chosen[row] = argmax(own);
      next[at] = BigInt(chosen[row]!);
    }
    if (step === steps - 1) break;
    scores = await session.step(chosen);
  }
  return [
    { name: "next", dtype: "int64", shape: [rows, steps], data: next },
    { name: "logits", dtype: "float32", shape: [rows, steps, vocabSize], data: logits },
  ];
}

function float32(name: string, shape: readonly number[], data: Float32Array): Result {
  requireFinite(data, `${name} [${shape.join(", ")}]`);
  return { name, dtype: "float32", shape, data };
}

/** Throws RuntimeError `CPM_FORWARD_NAN`: what is not a number can neither be compared nor be the largest. */
function requireFinite(data: Float32Array, where: string): void {
  const at = data.findIndex((value) => !Number.isFinite(value));
  if (at < 0) return;
  throw new RuntimeError("CPM_FORWARD_NAN", "the model gave something that is not a finite number", {
    where: `${where}, element ${at}`,
    got: String(data[at]),
    hint: "Check the weights for NaN and infinity, and that the config belongs to them.",
  });
}

function report(
  results: readonly Result[],
  paths: { readonly model: string; readonly input: string; readonly output: string },
  durationMs: number,
  context: CommandContext,
): void {
  const loss = results.find(({ name }) => name === "loss")?.data[0];
  if (context.json) {
    const tensors = results.map(({ name, dtype, shape }) => ({ name, dtype, shape }));
    printJson(context, { ...paths, ...(loss === undefined ? {} : { loss }), durationMs, tensors });
    return;
  }
  const columns = [
    { title: say(context, messages.name) },
    { title: say(context, messages.shape) },
    { title: say(context, messages.dtype) },
  ];
  const rows = results.map(({ name, dtype, shape }) => [name, `[${shape.join(", ")}]`, dtype]);
  const shown = rows.length > shownTensors ? [...rows.slice(0, shownTensors), [`… ${rows.length}`]] : rows;
  print(context, renderTable(columns, shown));
  if (loss !== undefined) print(context, say(context, messages.loss, { value: Number(loss).toPrecision(7) }));
  const written = { output: paths.output, duration: formatDuration(durationMs) };
  print(context, say(context, messages.written, written));
}
