/**
 * One pass of a batch through the model and back, for one batch size and length.
 *
 * Everything that a step touches is allocated and bound to its programs once; a step then writes the batch, runs 2·L + 5
 * programs and reads one number. Gradients land in the gradient arena: they overwrite what was there, or are added to it
 * inside the programs that make them (batches that one update is made of).
 *
 * Weights that are not trained may be packed in 4 or 8 bits (`NAME.packed`, … in the place of `NAME`): programs unpack one
 * weight at a time inside, forward and backward, and no float32 copy of the model is ever there. Those that are there as whole
 * numbers too (`signed-weights.ts`) are multiplied as such.
 *
 * What is trained is what the gradients have tensors for. Nothing is differentiated for other parameters, nor below the
 * lowest trained one: layers down there keep nothing and two buffers serve all of them.
 */
import { type Graph, quantizeWeights, type RecomputePolicy, type SplitProgram } from "../graph/index.ts";
import { countTargets, ignoredTarget, type ModelBatch } from "../model/batch.ts";
import { type LayerMask, layerMask, type ModelConfig } from "../model/config.ts";
import type { Graft, Grafts } from "../model/graft.ts";
import type { Binding, CompileOptions, DeviceTensor, Program, Runtime } from "../runtime/runtime.ts";
import { type Owner, ownedBy } from "../util/owner.ts";
import type { Arena } from "./arena.ts";
import { createBatchTensors } from "./batch-tensors.ts";
import { type DropoutOptions, drawWords, dropoutWords } from "./dropout.ts";
import { boundTo, type Ports, packedPorts, parameterPorts } from "./parameter-ports.ts";
import {
  type Arithmetic,
  biasProgram,
  blockProgram,
  embedProgram,
  forwardBlockProgram,
  forwardLossProgram,
  type Geometry,
  lossProgram,
  outputProgram,
  streamSpec,
} from "./programs.ts";

export interface TrainingStepOptions extends Geometry {
  readonly recompute: RecomputePolicy;
  /** Drops values where gradients are taken, and never otherwise. Without it nothing is dropped, whatever the config says. */
  readonly dropout?: DropoutOptions | undefined;
  /** Weight of (ln Z)² beside each target's loss (PaLM, arXiv 2204.02311): it keeps the scores' denominators near 1. */
  readonly zLoss?: number | undefined;
  /** float16 rounds values and gradients as 16-bit arithmetic does; weights, gradients and losses are given in float32. */
  readonly compute?: "float32" | "float16" | undefined;
  /** Changes to the model's programs, whose tensors are among the parameters by name. */
  readonly grafts?: Grafts | undefined;
}

export interface GradientOptions {
  /** Multiplies each target's loss; default 1 / (number of targets): the mean. */
  readonly scale?: number;
  /** Gradients come multiplied by it, losses do not: small gradients stay above what 16 bits can be. */
  readonly gradientScale?: number;
  /** Adds to the gradients that are there. */
  readonly add?: boolean;
  /** From the losses of all targets a factor of each: another objective than their mean. */
  readonly weigh?: ((losses: Float32Array) => Float32Array) | undefined;
  /** The number of this draw of dropout masks: the same number gives the same masks. */
  readonly draw?: number;
}

export interface TrainingStep {
  readonly geometry: Geometry;
  /** Does what is plain arithmetic on a batch beforehand, as while the programs run with another one. */
  prepare(batch: ModelBatch): void;
  /** Loss and gradients of a batch, which must have been checked (`checkBatch`). */
  lossAndGradients(batch: ModelBatch, options?: GradientOptions): Promise<number>;
  /** Mean loss without gradients; nothing is dropped. */
  loss(batch: ModelBatch): Promise<number>;
  /** −ln p of each target of the last batch, in the order of its positions: losses by source follow. */
  targetLosses(): Promise<Float32Array>;
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
 * Errors are those of the runtime; nothing is left behind then.
 */
export async function createTrainingStep(
  runtime: Runtime,
  config: ModelConfig,
  parameters: Pick<Arena, "tensors">,
  gradients: Pick<Arena, "tensors"> | undefined,
  options: TrainingStepOptions,
): Promise<TrainingStep> {
  const model = options.grafts?.config ?? config;
  return ownedBy((owner) => makeStep(owner, runtime, model, parameters, gradients, options));
}

interface CompiledSplit {
  readonly split: SplitProgram;
  readonly forward: Program;
  /** Compiled when first wanted where gradients are added. */
  backward(adds: boolean): Promise<Program>;
}

interface Layer {
  readonly layer: number;
  readonly key: string;
  readonly mask: LayerMask;
  readonly graft: Graft | undefined;
  readonly trained: Ports;
  /** Whether gradients pass through it. */
  readonly isCrossed: boolean;
  readonly given: Tensors;
  readonly next: DeviceTensor;
}

async function makeStep(
  owner: Owner,
  runtime: Runtime,
  config: ModelConfig,
  parameters: Pick<Arena, "tensors">,
  gradients: Pick<Arena, "tensors"> | undefined,
  { rows, columns, packed = false, recompute, dropout, zLoss = 0, compute = "float32", grafts }: TrainingStepOptions,
): Promise<TrainingStep> {
  const { own } = owner;
  const geometry = { rows, columns, packed };
  const drops = gradients && dropout && dropout.rate > 0 ? dropout : undefined;
  const arithmetic: Arithmetic = { half: compute === "float16", dropRate: drops?.rate ?? 0, zLoss };
  const allocate = (dtype: "float32" | "int32", shape: readonly number[]) => own(runtime.allocate(dtype, shape));
  const stream = () => allocate("float32", streamSpec(config, geometry).shape as number[]);
  const { tensors: batchTensors, prepare, write } = createBatchTensors(owner, runtime, config, geometry);
  const ports = parameterPorts(config, grafts);
  const formats = packedPorts(config, ports, parameters.tensors);
  const bound = (of: Ports): Tensors => boundTo(of, parameters.tensors);
  const compile = async (graph: Graph, options?: CompileOptions): Promise<Program> =>
    own(await runtime.compile(quantizeWeights(graph, formats, "float32"), options));
  const trainedOf = (of: Ports): Ports => of.filter(([, name]) => gradients?.tensors.has(name));
  const trainsTable = trainedOf(ports.table).length > 0;
  const trainsEmbedding = trainedOf(ports.embedding).length > 0;
  const lowestBlock = [...ports.blocks.keys()].find(
    (layer) => trainsTable || trainedOf(ports.blocks.get(layer)!).length > 0,
  );
  /** Gradients end in front of this layer: −1 where they go through all of them, infinite where through none. */
  const lowest = trainsEmbedding ? -1 : (lowestBlock ?? Number.POSITIVE_INFINITY);
  /** Trained tensors that several runs of block programs read: their gradients are sums. */
  const uses = new Map<string, number>();
  for (const [, name] of [...ports.blocks.values()].flatMap(trainedOf)) uses.set(name, (uses.get(name) ?? 0) + 1);
  const shared = new Set([...uses].flatMap(([name, count]) => (count > 1 ? [name] : [])));
  const embeddingParameters: Tensors = { ...bound(ports.embedding), ...bound(ports.table) };
  const headParameters = bound(ports.head);

  // Forward: the input of every layer that gradients cross stays, for the backward pass and for nothing else.
  const forward: Binding[] = [];
  const splitOf = new Map<string, CompiledSplit>();
  const compiled = async (
    key: string,
    isCrossed: boolean,
    make: (adds: boolean) => SplitProgram,
    backwardOptions?: CompileOptions,
  ) => {
    let found = splitOf.get(key);
    if (!found) {
      const split = make(false);
      const backward = isCrossed ? await compile(split.backward, backwardOptions) : undefined;
      let adding: Program | undefined;
      found = {
        split,
        forward: await compile(split.forward),
        backward: async (adds) => (adds ? (adding ??= await compile(make(true).backward, backwardOptions)) : backward!),
      };
      splitOf.set(key, found);
    }
    return found;
  };
  const bindForward = ({ split, forward: program }: CompiledSplit, given: Tensors, results: Tensors): Tensors => {
    const residuals: Tensors = {};
    for (const { name, dtype, shape } of split.forward.outputs) {
      if (!split.residuals.includes(name)) continue;
      residuals[name] = own(runtime.allocate(dtype, shape as number[]));
    }
    forward.push(own(program.bind(pick(given, program.inputs), { ...results, ...residuals })));
    return residuals;
  };

  // Sums by index are serial: one thread and a simpler form of them are faster.
  const tableWanted = trainedOf(ports.table).map(([port]) => port);
  const bias = await compiled(
    "bias",
    trainsTable,
    (adds) => biasProgram(config, geometry, adds, { wanted: tableWanted }),
    { threads: "caller" },
  );
  const biasResiduals = bindForward(bias, { ...embeddingParameters, ...batchTensors }, { bias: batchTensors.bias! });
  const embeddingChoices = { graft: grafts?.embed, wanted: trainedOf(ports.embedding).map(([port]) => port) };
  const embedding = await compiled(
    "embed",
    trainsEmbedding,
    (adds) => embedProgram(config, geometry, arithmetic, adds, embeddingChoices),
    { threads: "caller" },
  );
  let h = stream();
  const embedResiduals = bindForward(embedding, { ...embeddingParameters, ...batchTensors }, { h });
  /** How many of `forward` come before the blocks. */
  const entries = forward.length;
  const layers: Layer[] = [];
  let spare: DeviceTensor | undefined;
  for (const [layer, taken] of ports.blocks) {
    const mask = layerMask(config, layer);
    const graft = grafts?.blocks[layer];
    const trained = trainedOf(taken);
    const isCrossed = layer >= lowest;
    const wanted = [
      ...trained.map(([port]) => port),
      ...(layer > lowest ? ["h"] : []),
      ...(trainsTable ? ["bias"] : []),
    ];
    const added = trained.flatMap(([port, name]) => (shared.has(name) ? [port] : []));
    const key = `block ${mask} ${graft?.key ?? ""} ${wanted} ${added}`;
    const program = await compiled(key, isCrossed, (adds) =>
      blockProgram(config, mask, geometry, recompute, arithmetic, adds, { graft, wanted, added }),
    );
    const next: DeviceTensor = isCrossed ? stream() : (spare ?? stream());
    const words = drops && allocate("int32", [dropoutWords(config, mask, geometry)]);
    const given: Tensors = { ...batchTensors, ...bound(taken), h, ...(words && { words }) };
    const residuals = bindForward(program, given, { next });
    layers.push({ layer, key, mask, graft, trained, isCrossed, given: { ...given, ...residuals }, next });
    spare = h;
    h = next;
  }
  const last = h;
  const headTrained = trainedOf(ports.head);
  const crossesHead = lowest < Number.POSITIVE_INFINITY;
  const headChoices = {
    graft: grafts?.head,
    wanted: [...headTrained.map(([port]) => port), ...(crossesHead ? ["h"] : [])],
  };
  type LossKind = "plain" | "adds" | "alone" | "weighted" | "weighted adds";
  const lossPrograms = new Map<LossKind, Program>();
  const lossOf = async (kind: LossKind): Promise<Program> => {
    const graph = () =>
      kind === "alone"
        ? forwardLossProgram(config, geometry, arithmetic, grafts?.head)
        : lossProgram(config, geometry, arithmetic, kind.endsWith("adds"), {
            ...headChoices,
            isWeighted: kind.startsWith("weighted"),
          });
    const program = lossPrograms.get(kind) ?? (await compile(graph()));
    lossPrograms.set(kind, program);
    return program;
  };
  await lossOf(gradients ? "plain" : "alone");
  let output: Program | undefined;

  // Backward, from the last layer to the first; two streams take turns.
  const gradient = (name: string) => gradients!.tensors.get(name)!;
  const streams = gradients && crossesHead ? ([stream(), stream()] as const) : undefined;
  const dBias = trainsTable ? allocate("float32", batchTensors.bias!.shape) : undefined;
  /** By length; made when first needed: whoever only plans a step has no use for them. */
  const zeros = new Map<number, Float32Array>();
  const zero = (tensor: DeviceTensor) => {
    const count = tensor.byteLength / 4;
    const none = zeros.get(count) ?? new Float32Array(count);
    zeros.set(count, none);
    runtime.write(tensor, none);
  };
  const bindBackward = async (adds: boolean): Promise<Binding[]> => {
    const backward: Binding[] = [];
    const bind = (program: Program, given: Tensors, outputs: Tensors) => {
      const sums = Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [`sum.${name}`, tensor]));
      backward.push(own(program.bind(pick({ ...sums, ...given }, program.inputs), pick(outputs, program.outputs))));
    };
    const outputsOf = (of: Ports): Tensors =>
      Object.fromEntries(of.map(([port, name]) => [`grad.${port}`, gradient(name)]));
    if (!streams) return backward;
    let [from, to] = streams;
    for (const { key, trained, given, isCrossed } of layers.toReversed()) {
      if (!isCrossed) break;
      const outputs: Tensors = { "grad.h": to, ...(dBias && { "grad.bias": dBias }), ...outputsOf(trained) };
      bind(await splitOf.get(key)!.backward(adds), { ...given, "cotangent.next": from }, outputs);
      [from, to] = [to, from];
    }
    if (trainsEmbedding) {
      bind(
        await embedding.backward(adds),
        { ...embeddingParameters, ...batchTensors, ...embedResiduals, "cotangent.h": from },
        outputsOf(trainedOf(ports.embedding)),
      );
    }
    if (trainsTable) {
      bind(
        await bias.backward(adds),
        { ...embeddingParameters, ...batchTensors, ...biasResiduals, "cotangent.bias": dBias! },
        outputsOf(trainedOf(ports.table)),
      );
    }
    return backward;
  };
  const backward = gradients && (await bindBackward(false));
  let addingBackward: Binding[] | undefined;

  /** The same without dropping, for losses that are not trained on. */
  let keepingForward: Binding[] | undefined;
  const bindKeeping = async (): Promise<Binding[]> => {
    const programs = new Map<string, Program>();
    const bindings = forward.slice(0, entries);
    for (const { key, mask, graft, given, next } of layers) {
      const alone = () => compile(forwardBlockProgram(config, mask, geometry, arithmetic, graft));
      const program = programs.get(key) ?? (await alone());
      programs.set(key, program);
      bindings.push(own(program.bind(pick(given, program.inputs), { next })));
    }
    return bindings;
  };

  async function runForward(batch: ModelBatch, draw: number | undefined): Promise<void> {
    write(batch);
    if (drops && draw !== undefined) {
      for (const { layer, given } of layers) {
        const words = given.words!;
        runtime.write(words, drawWords(words.shape[0]!, drops.seed, draw, layer));
      }
    } else if (drops) keepingForward ??= await bindKeeping();
    const bindings = drops && draw === undefined ? keepingForward! : forward;
    for (const binding of bindings) await binding.run();
  }

  let lossCount = 0;
  /** Runs a loss program on the positions that have a target. Returns the loss; gradients go to `outputs`. */
  async function runLoss(
    program: Program,
    batch: ModelBatch,
    scale: number,
    outputs: Tensors,
    weightsOfTargets?: Float32Array,
  ): Promise<number> {
    const positions = new Int32Array(countTargets(batch));
    let count = 0;
    batch.target.forEach((id, i) => {
      if (id !== ignoredTarget) positions[count++] = i;
    });
    lossCount = count;
    runtime.write(batchTensors.positions!, positions);
    runtime.write(
      batchTensors.targets!,
      Int32Array.from(positions, (i) => batch.target[i]!),
    );
    runtime.write(batchTensors.scale!, Float32Array.of(scale));
    using targets = batchTensors.targets!.alias([count]);
    using chosen = batchTensors.positions!.alias([count]);
    using losses = batchTensors.losses!.alias([count]);
    const sums = Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [`sum.${name}`, tensor]));
    using weights = weightsOfTargets && runtime.upload(weightsOfTargets, "float32", [count]);
    const common = { h: last, positions: chosen, targets, scale: batchTensors.scale!, ...(weights && { weights }) };
    const given = { ...headParameters, ...sums, ...common };
    await program.run(pick(given, program.inputs), { loss: batchTensors.loss!, losses, ...outputs });
    return Number((await runtime.download(batchTensors.loss!))[0]);
  }

  return {
    geometry,
    prepare,
    async lossAndGradients(batch, { scale, gradientScale = 1, add = false, draw = 0, weigh } = {}) {
      if (!backward) throw new Error("internal: this step was made without gradients");
      await runForward(batch, draw);
      const perTarget = scale ?? 1 / Math.max(1, countTargets(batch));
      const gradientsOfHead = {
        ...(streams && { "grad.h": streams[0] }),
        ...Object.fromEntries(headTrained.map(([port, name]) => [`grad.${port}`, gradient(name)])),
      };
      let weights: Float32Array | undefined;
      if (weigh) {
        await runLoss(await lossOf("alone"), batch, 1, {});
        using losses = batchTensors.losses!.alias([lossCount]);
        weights = weigh((await runtime.download(losses)) as Float32Array);
      }
      const kind = `${weigh ? "weighted" : "plain"}${add ? " adds" : ""}`.replace("plain adds", "adds") as LossKind;
      const loss = await runLoss(await lossOf(kind), batch, perTarget * gradientScale, gradientsOfHead, weights);
      if (dBias) zero(dBias);
      if (!add) for (const name of shared) zero(gradient(name));
      const bindings = add ? (addingBackward ??= await bindBackward(true)) : backward;
      for (const binding of bindings) await binding.run();
      return loss / gradientScale;
    },
    async loss(batch) {
      await runForward(batch, undefined);
      return runLoss(await lossOf("alone"), batch, 1 / Math.max(1, countTargets(batch)), {});
    },
    async targetLosses() {
      using losses = batchTensors.losses!.alias([lossCount]);
      return (await runtime.download(losses)) as Float32Array;
    },
    async outputs(batch) {
      await runForward(batch, undefined);
      output ??= await compile(outputProgram(config, geometry, grafts?.head));
      const { hidden, logits } = await output.run({ ...headParameters, h: last });
      return { hidden: hidden!, logits: logits! };
    },
    dispose() {
      owner.dispose();
    },
  };
}
