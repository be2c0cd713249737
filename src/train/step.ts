/**
 * One pass of a batch through the model and back, for one batch size and length.
 *
 * Everything that a step touches is allocated and bound to its programs once; a step then writes the batch, runs 2·L + 5
 * programs and reads one number. Gradients land in the gradient arena, overwriting what was there.
 */
import type { Graph, RecomputePolicy, SplitProgram } from "../graph/index.ts";
import { attentionBias, countTargets, ignoredTarget, type ModelBatch } from "../model/batch.ts";
import { layerMask, type ModelConfig } from "../model/config.ts";
import { blockParameterNames, names } from "../model/parameters.ts";
import { positionBuckets } from "../model/position-buckets.ts";
import type { Binding, CompileOptions, DeviceTensor, Program, Runtime } from "../runtime/runtime.ts";
import { ConfigError } from "../util/error.ts";
import { type Owner, ownedBy } from "../util/owner.ts";
import type { Arena } from "./arena.ts";
import {
  biasProgram,
  blockProgram,
  embedProgram,
  type Geometry,
  lossProgram,
  outputProgram,
  streamSpec,
} from "./programs.ts";

export interface TrainingStepOptions extends Geometry {
  readonly recompute: RecomputePolicy;
}

export interface TrainingStep {
  readonly geometry: Geometry;
  /**
   * Loss and gradients of a batch. `scale` multiplies each target's loss; default 1 / (number of targets): the mean.
   * The batch must have been checked (`checkBatch`).
   */
  lossAndGradients(batch: ModelBatch, scale?: number): Promise<number>;
  /** Mean loss without gradients. */
  loss(batch: ModelBatch): Promise<number>;
  /** Normalised output `[B, T, D]` and scores `[B, T, V]` at every position; the caller disposes both. */
  outputs(batch: ModelBatch): Promise<{ hidden: DeviceTensor; logits: DeviceTensor }>;
  dispose(): void;
}

type Tensors = Record<string, DeviceTensor>;

/** The tensors among `all` that a graph has as inputs. */
function pick(all: Tensors, ports: readonly { readonly name: string }[]): Tensors {
  return Object.fromEntries(
    ports.map(({ name }) => {
      const tensor = all[name];
      if (tensor === undefined) throw new Error(`internal: nothing to bind to ${name}`);
      return [name, tensor];
    }),
  );
}

/**
 * Allocates, compiles and binds. Without `gradients` the step only runs forward.
 *
 * Errors: `CPM_TRAIN_DROPOUT`, and those of the runtime; nothing is left behind then.
 */
export async function createTrainingStep(
  runtime: Runtime,
  config: ModelConfig,
  parameters: Pick<Arena, "tensors">,
  gradients: Pick<Arena, "tensors"> | undefined,
  options: TrainingStepOptions,
): Promise<TrainingStep> {
  if (config.dropout > 0) {
    throw new ConfigError("CPM_TRAIN_DROPOUT", "training with dropout is not supported", {
      got: `dropout_p ${config.dropout}`,
      expected: "0, as in the released models",
      hint: "Set dropout_p to 0 in config.json.",
    });
  }
  return ownedBy((owner) => makeStep(owner, runtime, config, parameters, gradients, options));
}

async function makeStep(
  owner: Owner,
  runtime: Runtime,
  config: ModelConfig,
  parameters: Pick<Arena, "tensors">,
  gradients: Pick<Arena, "tensors"> | undefined,
  { rows, columns, packed = false, recompute }: TrainingStepOptions,
): Promise<TrainingStep> {
  const { own } = owner;
  const geometry = { rows, columns, packed };
  const { promptLength } = config;
  const textColumns = columns - promptLength;
  const allocate = (dtype: "float32" | "int32", shape: readonly number[]) => own(runtime.allocate(dtype, shape));
  const stream = () => allocate("float32", streamSpec(config, geometry).shape as number[]);
  const compile = async (graph: Graph, options?: CompileOptions): Promise<Program> =>
    own(await runtime.compile(graph, options));
  const parameter = (name: string) => parameters.tensors.get(name)!;

  const ids: Tensors = packed
    ? {
        promptIds: allocate("int32", [rows, columns]),
        tokenIds: allocate("int32", [rows, columns]),
        isPrompt: allocate("float32", [rows, columns, 1]),
      }
    : { prompt: allocate("int32", [rows, promptLength]), tokens: allocate("int32", [rows, textColumns]) };
  const batchTensors: Tensors = {
    ...ids,
    segment: allocate("int32", [rows, columns]),
    buckets: allocate("int32", [rows, columns, columns]),
    blocked: allocate("float32", [rows, columns, columns]),
    seen: allocate("float32", [rows, columns, 1]),
    bias: allocate("float32", [rows, config.heads, columns, columns]),
    scale: allocate("float32", []),
    loss: allocate("float32", []),
    positions: allocate("int32", [rows * columns]),
    targets: allocate("int32", [rows * columns]),
  };
  const embeddingParameters: Tensors = {
    "params.token": parameter(names.token),
    "params.prompt": parameter(names.prompt),
    "params.segment": parameter(names.segment),
    table: parameter(names.positionBias),
  };
  const headParameters: Tensors = {
    "params.norm": parameter(names.outputNorm),
    "params.token": parameter(names.token),
  };

  // Forward: every layer's input stays, for the backward pass of `recompute` and for nothing else.
  const forward: Binding[] = [];
  const splitOf = new Map<string, { split: SplitProgram; forward: Program; backward: Program | undefined }>();
  const compiled = async (key: string, make: () => SplitProgram, backwardOptions?: CompileOptions) => {
    let found = splitOf.get(key);
    if (!found) {
      const split = make();
      found = {
        split,
        forward: await compile(split.forward),
        backward: gradients && (await compile(split.backward, backwardOptions)),
      };
      splitOf.set(key, found);
    }
    return found;
  };
  const bindForward = (
    { split, forward: program }: { split: SplitProgram; forward: Program },
    given: Tensors,
    results: Tensors,
  ): Tensors => {
    const residuals: Tensors = {};
    for (const { name, dtype, shape } of split.forward.outputs) {
      if (!split.residuals.includes(name)) continue;
      residuals[name] = own(runtime.allocate(dtype, shape as number[]));
    }
    forward.push(own(program.bind(pick(given, program.inputs), { ...results, ...residuals })));
    return residuals;
  };

  // Sums by index are serial: one thread and a simpler form of them are faster.
  const bias = await compiled("bias", () => biasProgram(config, geometry), { threads: "caller" });
  const biasResiduals = bindForward(bias, { ...embeddingParameters, ...batchTensors }, { bias: batchTensors.bias! });
  const embedding = await compiled("embed", () => embedProgram(config, geometry), { threads: "caller" });
  let h = stream();
  const embedResiduals = bindForward(embedding, { ...embeddingParameters, ...batchTensors }, { h });
  const layers: { key: string; ports: [string, string][]; given: Tensors }[] = [];
  for (let layer = 0; layer < config.layers; layer++) {
    const mask = layerMask(config, layer);
    if (mask[0] && mask[1]) continue;
    const key = `block ${mask}`;
    const program = await compiled(key, () => blockProgram(config, mask, geometry, recompute));
    const ports = blockParameterNames(layer, mask).map(([path, name]): [string, string] => [`params.${path}`, name]);
    const weights = Object.fromEntries(ports.map(([port, name]) => [port, parameter(name)]));
    const next = stream();
    const given: Tensors = { ...batchTensors, ...weights, h };
    const residuals = bindForward(program, given, { next });
    layers.push({ key, ports, given: { ...given, ...residuals } });
    h = next;
  }
  const last = h;
  const lossGraph = await compile(lossProgram(config, geometry));
  let output: Program | undefined;

  // Backward, from the last layer to the first; two streams take turns.
  const backward: Binding[] = [];
  let dh: DeviceTensor | undefined;
  let dBias: DeviceTensor | undefined;
  let zeros = new Float32Array(0);
  if (gradients) {
    const gradient = (name: string) => gradients.tensors.get(name)!;
    dBias = allocate("float32", batchTensors.bias!.shape);
    zeros = new Float32Array(dBias.byteLength / 4);
    const first = (dh = stream());
    let [from, to] = [first, stream()];
    for (const { key, ports, given } of layers.toReversed()) {
      const program = splitOf.get(key)!.backward!;
      const outputs: Tensors = { "grad.h": to, "grad.bias": dBias };
      for (const [port, name] of ports) outputs[`grad.${port}`] = gradient(name);
      const inputs = { ...given, "cotangent.next": from, "sum.grad.bias": dBias };
      backward.push(own(program.bind(pick(inputs, program.inputs), pick(outputs, program.outputs))));
      [from, to] = [to, from];
    }
    const embedInputs = {
      ...embeddingParameters,
      ...batchTensors,
      ...embedResiduals,
      "cotangent.h": from,
      "sum.grad.params.token": gradient(names.token),
    };
    const embedOutputs = {
      "grad.params.token": gradient(names.token),
      "grad.params.prompt": gradient(names.prompt),
      "grad.params.segment": gradient(names.segment),
    };
    backward.push(own(embedding.backward!.bind(pick(embedInputs, embedding.backward!.inputs), embedOutputs)));
    const biasInputs = { ...embeddingParameters, ...batchTensors, ...biasResiduals, "cotangent.bias": dBias };
    backward.push(
      own(bias.backward!.bind(pick(biasInputs, bias.backward!.inputs), { "grad.table": gradient(names.positionBias) })),
    );
  }

  function writeIds({ input, prompt: flags }: ModelBatch): void {
    if (packed) {
      const promptIds = new Int32Array(input.length);
      const tokenIds = new Int32Array(input.length);
      const isPrompt = new Float32Array(input.length);
      for (let i = 0; i < input.length; i++) {
        const isOne = flags ? flags[i] === 1 : i % columns < promptLength;
        if (isOne) promptIds[i] = input[i]!;
        else tokenIds[i] = input[i]!;
        isPrompt[i] = Number(isOne);
      }
      runtime.write(batchTensors.promptIds!, promptIds);
      runtime.write(batchTensors.tokenIds!, tokenIds);
      runtime.write(batchTensors.isPrompt!, isPrompt);
      return;
    }
    if (flags !== undefined) throw new Error("internal: a packed batch for a step of plain rows");
    const prompt = new Int32Array(rows * promptLength);
    const tokens = new Int32Array(rows * textColumns);
    for (let row = 0; row < rows; row++) {
      const ids = input.subarray(row * columns, (row + 1) * columns);
      prompt.set(ids.subarray(0, promptLength), row * promptLength);
      tokens.set(ids.subarray(promptLength), row * textColumns);
    }
    runtime.write(batchTensors.prompt!, prompt);
    runtime.write(batchTensors.tokens!, tokens);
  }

  function writeBatch(batch: ModelBatch): void {
    if (batch.rows !== rows || batch.columns !== columns) {
      throw new Error(`internal: a batch of ${batch.rows} × ${batch.columns} for a step of ${rows} × ${columns}`);
    }
    writeIds(batch);
    const seen = new Float32Array(rows * columns);
    for (let i = 0; i < seen.length; i++) seen[i] = i % columns < batch.length[Math.floor(i / columns)]! ? 1 : 0;
    runtime.write(batchTensors.segment!, batch.segment);
    runtime.write(batchTensors.buckets!, positionBuckets(batch.segment, rows, columns, config));
    runtime.write(batchTensors.blocked!, attentionBias(batch));
    runtime.write(batchTensors.seen!, seen);
  }

  async function runForward(batch: ModelBatch): Promise<void> {
    writeBatch(batch);
    for (const binding of forward) await binding.run();
  }

  /** Runs the loss program on the positions that have a target. Returns the loss; gradients go to `outputs`. */
  async function runLoss(batch: ModelBatch, scale: number, outputs: Tensors): Promise<number> {
    const positions = new Int32Array(countTargets(batch));
    let count = 0;
    batch.target.forEach((id, i) => {
      if (id !== ignoredTarget) positions[count++] = i;
    });
    runtime.write(batchTensors.positions!, positions);
    runtime.write(
      batchTensors.targets!,
      Int32Array.from(positions, (i) => batch.target[i]!),
    );
    runtime.write(batchTensors.scale!, Float32Array.of(scale));
    using targets = batchTensors.targets!.alias([count]);
    using chosen = batchTensors.positions!.alias([count]);
    const given = { ...headParameters, h: last, positions: chosen, targets, scale: batchTensors.scale! };
    const results = await lossGraph.run(given, { loss: batchTensors.loss!, ...outputs });
    for (const [name, tensor] of Object.entries(results)) if (name !== "loss" && !(name in outputs)) tensor.dispose();
    return Number((await runtime.download(batchTensors.loss!))[0]);
  }

  return {
    geometry,
    async lossAndGradients(batch, scale = 1 / Math.max(1, countTargets(batch))) {
      if (!gradients || !dh || !dBias) throw new Error("internal: this step was made without gradients");
      await runForward(batch);
      const loss = await runLoss(batch, scale, {
        "grad.h": dh,
        "grad.params.norm": gradients.tensors.get(names.outputNorm)!,
        "grad.params.token": gradients.tensors.get(names.token)!,
      });
      runtime.write(dBias, zeros);
      for (const binding of backward) await binding.run();
      return loss;
    },
    async loss(batch) {
      await runForward(batch);
      return runLoss(batch, 1 / Math.max(1, countTargets(batch)), {});
    },
    async outputs(batch) {
      await runForward(batch);
      output ??= await compile(outputProgram(config, geometry));
      const { hidden, logits } = await output.run({ ...headParameters, h: last });
      return { hidden: hidden!, logits: logits! };
    },
    dispose() {
      owner.dispose();
    },
  };
}
