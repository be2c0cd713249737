/**
 * A model's programs, compiled with its weights: what a decoding session runs.
 *
 * The programs that hold weights (a block's beginning and end, the head) serve prompts and single tokens alike. With
 * weights "packed" each layer has its own, with the weights fixed in them in the runtime's fastest form; with "shared" one
 * program of a kind serves all layers and takes the weights as they lie.
 */
import { layerMask, type ModelConfig } from "../model/config.ts";
import { attentionNames, ffnNames, names } from "../model/parameters.ts";
import type { DeviceTensor, Program, ProgramSource, Runtime } from "../runtime/runtime.ts";
import {
  cachedAttentionProgram,
  decodeEmbedProgram,
  finishProgram,
  hiddenProgram,
  logitsProgram,
  prefillBiasProgram,
  prefillEmbedProgram,
  projectProgram,
  promptAttentionProgram,
} from "./programs.ts";
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
}

export interface CompiledModel {
  readonly prefillEmbed: WeightedProgram;
  readonly prefillBias: WeightedProgram;
  readonly decodeEmbed: WeightedProgram;
  readonly promptAttention: Program;
  readonly cachedAttention: Program;
  readonly logits: WeightedProgram;
  readonly hidden: WeightedProgram;
  /** Of the layers that compute something. */
  readonly layers: readonly CompiledLayer[];
  dispose(): void;
}

export interface CompileModelOptions {
  /** S: slots of a row's cache, the soft prompt included. */
  readonly slots: number;
  readonly weights: "packed" | "shared";
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
  { slots, weights }: CompileModelOptions,
): Promise<CompiledModel> {
  const owned: Program[] = [];
  const dispose = () => {
    for (const program of owned.splice(0).reverse()) program.dispose();
  };
  const compile = async (source: ProgramSource, constants: Tensors = {}): Promise<Program> => {
    const program = await runtime.compile(source, { constants });
    owned.push(program);
    return program;
  };
  /** Takes weights as inputs. */
  const open = async ({ graph, given }: ProgramWithWeights): Promise<WeightedProgram> => ({
    program: await compile(graph),
    weights: given,
  });
  const byKind = new Map<string, Program>();
  const weighted = async ({ graph, given, formats }: ProgramWithWeights): Promise<WeightedProgram> => {
    if (weights === "packed") return { program: await compile(graph, given), weights: {} };
    const kind = `${graph.name} ${formats}`;
    const program = byKind.get(kind) ?? (await compile(graph));
    byKind.set(kind, program);
    return { program, weights: given };
  };
  try {
    const token = ["params.token", names.token] as const;
    const segment = ["params.segment", names.segment] as const;
    const prompt = ["params.prompt", names.prompt] as const;
    const projection = projectProgram(config);
    const layers: CompiledLayer[] = [];
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
      layers.push({
        layer,
        project: attentionAbsent
          ? undefined
          : await weighted(withWeights(projection, ports("attention", beginning), tensors)),
        finish: await weighted(withWeights(finishProgram(config, mask), ending, tensors)),
      });
    }
    const norm = ["params.norm", names.outputNorm] as const;
    return {
      layers,
      prefillEmbed: await open(withWeights(prefillEmbedProgram(config), [token, segment, prompt], tensors)),
      prefillBias: await open(withWeights(prefillBiasProgram(config), [["table", names.positionBias]], tensors)),
      decodeEmbed: await open(withWeights(decodeEmbedProgram(config), [token, segment], tensors)),
      promptAttention: await compile(promptAttentionProgram(config)),
      cachedAttention: await compile(cachedAttentionProgram(config, slots)),
      logits: await weighted(withWeights(logitsProgram(config), [norm, token], tensors)),
      hidden: await open(withWeights(hiddenProgram(config), [["norm", names.outputNorm]], tensors)),
      dispose,
    };
  } catch (error) {
    dispose();
    throw error;
  }
}
