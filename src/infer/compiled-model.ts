/**
 * A model's programs, compiled with its weights: what a decoding session runs.
 *
 * The programs that hold weights (a block's beginning and end, the head) serve prompts and single tokens alike. With
 * weights "packed" each layer has its own, with the weights fixed in them in the runtime's fastest form; with "shared" one
 * program of a kind serves all layers and takes the weights as they lie.
 */
import type { Graph } from "../graph/index.ts";
import { layerMask, type ModelConfig } from "../model/config.ts";
import { type Graft, type Grafts, graftBindings } from "../model/graft.ts";
import { attentionNames, blockParameterNames, ffnNames, names } from "../model/parameters.ts";
import type { DeviceTensor, Program, ProgramSource, Runtime } from "../runtime/runtime.ts";
import { ConfigError } from "../util/error.ts";
import { hasExactByteProducts } from "./byte-products.ts";
import type { ProgramCache } from "./program-cache.ts";
import {
  type CacheType,
  cachedAttentionProgram,
  decodeEmbedProgram,
  decodeStepProgram,
  finishProgram,
  hiddenProgram,
  logitsProgram,
  prefillBiasProgram,
  prefillEmbedProgram,
  projectProgram,
  promptAttentionProgram,
} from "./programs.ts";
import { attended, planResidency, ringOf } from "./residency.ts";
import { type ModelTensors, type ProgramWithWeights, withWeights } from "./weight-ports.ts";

export type Tensors = Readonly<Record<string, DeviceTensor>>;

/** A compiled program and what its weights' inputs are bound to: nothing where they are fixed in it. */
export interface WeightedProgram {
  readonly program: Program;
  readonly weights: Tensors;
}

export interface CompiledLayer {
  readonly layer: number;
  /** h → q, k, v; absent where the layer has no attention. */
  readonly project: WeightedProgram | undefined;
  /** h, mixed → next. */
  readonly finish: WeightedProgram;
  /** What the prompt's attention is given beside the projections: a prefix. */
  readonly promptInputs: Tensors;
}

export interface CompiledModel {
  readonly prefillEmbed: WeightedProgram;
  readonly prefillBias: WeightedProgram;
  readonly decodeEmbed: WeightedProgram;
  readonly promptAttention: Program;
  /** Undefined where attention over the cache is no program: see `packed-cache.ts`. */
  readonly cachedAttention: Program | undefined;
  readonly logits: WeightedProgram;
  /** A whole step of tokens, where the model is small. */
  readonly decodeStep: WeightedProgram | undefined;
  readonly hidden: WeightedProgram;
  /** Of the layers that compute something. */
  readonly layers: readonly CompiledLayer[];
  dispose(): void;
}

export interface CompileModelOptions {
  /** S: slots of a row's cache, the soft prompt included. */
  readonly slots: number;
  readonly weights: "packed" | "shared";
  /** Of keys and values. */
  readonly cacheType: CacheType;
  /** Changes to the programs, whose tensors are among the model's by name. */
  readonly grafts?: Grafts | undefined;
  /** Where programs with packed weights are kept. */
  readonly cache?: ProgramCache | undefined;
  /** Layers whose programs run on another device than the runtime's: their tensors go there and back at each run. */
  readonly placement?: Placement | undefined;
  /**
   * Bytes that the layers' weights may take in memory, asked for when all programs are there; needs a cache. Default: no
   * limit.
   */
  readonly layerLimitBytes?: (() => number) | undefined;
}

/** Consecutive layers on a device: a stage of the model. */
export interface Placement {
  readonly device: "webgpu" | "cuda";
  readonly from: number;
  /** Behind the last one. */
  readonly to: number;
}

/**
 * Weights of fewer bytes are compiled a second time as one program of a whole step: starting the programs of its parts would
 * take a good part of the step's time.
 */
export const smallModelBytes = 64 * 2 ** 20;

/** What a program takes of each row's weights of several deltas `[B, K]`: nothing where it has no use for them. */
export function mixInput({ program }: WeightedProgram, mix: DeviceTensor | undefined): Tensors {
  return mix && program.inputs.some(({ name }) => name === "delta.mix") ? { "delta.mix": mix } : {};
}

/** Runs a program with its weights. */
export function runWeighted({ program, weights }: WeightedProgram, inputs: Tensors): Promise<Tensors> {
  return program.run({ ...weights, ...inputs });
}

/** Compiles all of them, or none: what was compiled before a failure is disposed. The tensors must outlive the result. */
export async function compileModel(
  runtime: Runtime,
  config: ModelConfig,
  tensors: ModelTensors,
  { slots, weights, cacheType, grafts, cache, placement, layerLimitBytes }: CompileModelOptions,
): Promise<CompiledModel> {
  const owned: Program[] = [];
  const dispose = () => {
    for (const program of owned.splice(0).reverse()) program.dispose();
  };
  const compile = async (
    source: ProgramSource,
    constants: Tensors = {},
    { place, device }: { readonly place?: string | undefined; readonly device?: Placement["device"] | undefined } = {},
  ): Promise<Program> => {
    // What is packed for a processor's kernels is of no use to another device.
    const isKept = cache && place && !device;
    const kept = isKept && { prepackedPath: cache.path(place), constantsKey: `${cache.key} ${place}` };
    const program = await runtime.compile(source, { constants, ...kept, ...(device && { device }) });
    owned.push(program);
    return program;
  };
  /** Takes weights as inputs. */
  const open = async ({ graph, given }: ProgramWithWeights): Promise<WeightedProgram> => ({
    program: await compile(graph),
    weights: given,
  });
  const byKind = new Map<string, Program>();
  /** `place` names the program among those of the model. What is grafted is not in the cache's key, so it is not kept. */
  const weighted = async (
    place: string,
    { graph, given, formats }: ProgramWithWeights,
    graft?: Graft,
    device?: Placement["device"],
  ): Promise<WeightedProgram> => {
    if (weights === "packed") {
      return { program: await compile(graph, given, { place: graft ? undefined : place, device }), weights: {} };
    }
    const kind = `${graph.name} ${formats} ${graft?.key ?? ""} ${device ?? ""}`;
    const program = byKind.get(kind) ?? (await compile(graph, {}, { device }));
    byKind.set(kind, program);
    return { program, weights: given };
  };
  const exact = await hasExactByteProducts(runtime);
  /** A program with those of the ports' tensors, its graft's among them, that it takes. */
  const filled = (
    graph: Graph,
    ports: readonly (readonly [string, string])[],
    graft?: Graft,
    device?: Placement["device"],
  ): ProgramWithWeights => {
    const all = [...ports, ...Object.entries(graftBindings(graft, (name) => name))];
    const taken = new Set(graph.inputs.map(({ name }) => name));
    return withWeights(
      graph,
      all.filter(([port]) => taken.has(port)),
      tensors,
      exact && device === undefined,
    );
  };
  try {
    const token = ["params.token", names.token] as const;
    const segment = ["params.segment", names.segment] as const;
    const prompt = ["params.prompt", names.prompt] as const;
    const layers: CompiledLayer[] = [];
    const { embed, head, prefixSlots = 0 } = grafts ?? {};
    /** A prefix is before every attention's keys, in tensors of each layer. */
    const prefixed = prefixSlots > 0;
    const withPrefix = prefixed ? grafts?.blocks.find(Boolean) : undefined;
    for (let layer = 0; layer < config.layers; layer++) {
      const mask = layerMask(config, layer);
      const [attentionAbsent, ffnAbsent] = mask;
      if (attentionAbsent && ffnAbsent) continue;
      const { out, ...beginning } = attentionNames(layer);
      const ports = (group: string, of: Readonly<Record<string, string>>) =>
        Object.entries(of).map(([key, name]) => [`params.${group}.${key}`, name] as const);
      const ending = [
        ...(attentionAbsent ? [] : ports("attention", { out })),
        ...(ffnAbsent ? [] : ports("ffn", ffnNames(layer))),
      ];
      const graft = grafts?.blocks[layer];
      const isPlaced = placement && layer >= placement.from && layer < placement.to;
      const device = isPlaced ? placement.device : undefined;
      const projection = filled(projectProgram(config, graft), ports("attention", beginning), graft, device);
      layers.push({
        layer,
        project: attentionAbsent ? undefined : await weighted(`${layer}-project`, projection, graft, device),
        finish: await weighted(
          `${layer}-finish`,
          filled(finishProgram(config, mask, graft), ending, graft, device),
          graft,
          device,
        ),
        promptInputs: prefixed ? filled(promptAttentionProgram(config, graft), [], graft).given : {},
      });
    }
    const norm = ["params.norm", names.outputNorm] as const;
    const bytes = [...tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
    const isWhole =
      weights === "packed" && bytes < smallModelBytes && !grafts && !cache && !placement && !layerLimitBytes;
    const blocks = Array.from({ length: config.layers }, (_, layer) =>
      blockParameterNames(layer, layerMask(config, layer)).map(
        ([path, name]) => [`params.blocks.layer${layer}.${path}`, name] as const,
      ),
    ).flat();
    const decodeStep =
      isWhole && cacheType !== "int8"
        ? withWeights(decodeStepProgram(config, slots, cacheType), [token, segment, norm, ...blocks], tensors, exact)
        : undefined;
    return {
      layers: layerLimitBytes === undefined ? layers : withinLimit(layers, layerLimitBytes()),
      prefillEmbed: await open(filled(prefillEmbedProgram(config, embed), [token, segment, prompt], embed)),
      prefillBias: await open(withWeights(prefillBiasProgram(config), [["table", names.positionBias]], tensors)),
      decodeEmbed: await open(withWeights(decodeEmbedProgram(config), [token, segment], tensors)),
      promptAttention: await compile(promptAttentionProgram(config, withPrefix)),
      cachedAttention:
        cacheType === "int8" ? undefined : await compile(cachedAttentionProgram(config, slots, cacheType)),
      logits: await weighted("logits", filled(logitsProgram(config, head), [norm, token], head), head),
      decodeStep: decodeStep && (await weighted("decode-step", decodeStep)),
      hidden: await open(filled(hiddenProgram(config, head), [norm], head)),
      dispose,
    };
  } catch (error) {
    dispose();
    throw error;
  }
}

/** Layers of which only so many bytes are in memory at once: the others' pages come and go. */
function withinLimit(layers: readonly CompiledLayer[], limitBytes: number): CompiledLayer[] {
  const programsOf = ({ project, finish }: CompiledLayer) =>
    project ? [project.program, finish.program] : [finish.program];
  const pagesOf = (layer: CompiledLayer) => programsOf(layer).flatMap(({ pages }) => pages ?? []);
  const bytes = layers.map((layer) => pagesOf(layer).reduce((sum, pages) => sum + pages.bytes, 0));
  const { resident } = planResidency(bytes, limitBytes);
  const streamed = layers.filter((_, i) => !resident[i]);
  if (streamed.length === 0) return [...layers];
  if (streamed.some((layer) => pagesOf(layer).length < programsOf(layer).length)) {
    throw new ConfigError(
      "CPM_INFER_MEMORY",
      "the layers cannot be read piece by piece: their programs are not mapped",
      {
        hint: "Allow the cache of compiled programs, on Linux, or give more memory.",
      },
    );
  }
  const ring = ringOf(streamed.map((layer) => ({ pages: pagesOf(layer) })));
  return layers.map((layer) => {
    const index = streamed.indexOf(layer);
    if (index < 0) return layer;
    const { project, finish } = layer;
    const nothing = () => {};
    const enter = () => ring.enter(index);
    const last = attended(finish.program, project ? nothing : enter, () => ring.leave(index));
    return {
      ...layer,
      project: project && { ...project, program: attended(project.program, enter, nothing) },
      finish: { ...finish, program: last },
    };
  });
}
