/** Which parameters a training step's programs take, by input, and what is bound there: tensors, or the parts of packed ones. */
import type { PackedInput } from "../graph/index.ts";
import { isPacked, type ModelTensors, packedFormat } from "../infer/weight-ports.ts";
import { layerMask, type ModelConfig } from "../model/config.ts";
import { type Graft, type Grafts, graftBindings } from "../model/graft.ts";
import { blockParameterNames, names, parameterTable } from "../model/parameters.ts";
import type { DeviceTensor } from "../runtime/runtime.ts";

/** Inputs of a program and the parameters that are bound to them. */
export type Ports = readonly (readonly [port: string, name: string])[];

export interface ParameterPorts {
  readonly embedding: Ports;
  /** Of the position bias. */
  readonly table: Ports;
  readonly head: Ports;
  /** Of the layers that compute something, in their order. */
  readonly blocks: ReadonlyMap<number, Ports>;
}

/** The ports of a model's programs, its grafts' among them. */
export function parameterPorts(config: ModelConfig, grafts: Grafts | undefined): ParameterPorts {
  const blocks = new Map<number, Ports>();
  for (let layer = 0; layer < config.layers; layer++) {
    const mask = layerMask(config, layer);
    if (mask[0] && mask[1]) continue;
    const own = blockParameterNames(layer, mask).map(([path, name]) => [`params.${path}`, name] as const);
    blocks.set(layer, [...own, ...graftPorts(grafts?.blocks[layer])]);
  }
  const token = ["params.token", names.token] as const;
  return {
    embedding: [
      token,
      ["params.prompt", names.prompt],
      ["params.segment", names.segment],
      ...graftPorts(grafts?.embed),
    ],
    table: [["table", names.positionBias]],
    head: [["params.norm", names.outputNorm], token, ...graftPorts(grafts?.head)],
    blocks,
  };
}

function graftPorts(graft: Graft | undefined): Ports {
  return Object.entries(graftBindings(graft, (name) => name));
}

/** Formats of the inputs that have packed weights in their place; one program of a kind serves all layers, so they agree. */
export function packedPorts(
  config: ModelConfig,
  { embedding, head, blocks }: ParameterPorts,
  tensors: ModelTensors,
): Map<string, PackedInput> {
  const inputsOf = new Map(parameterTable(config).map(({ name, shape }) => [name, shape.at(-1)!]));
  const formats = new Map<string, PackedInput>();
  // A softmax's gradient is one large number a row and many small ones, which count as much together: rounded by row they
  // would all be zero.
  const headInputs = new Set(head.map(([port]) => port));
  for (const [port, name] of [embedding, head, ...blocks.values()].flat()) {
    if (tensors.has(name) || !isPacked(tensors, name)) continue;
    const wholeNumbers = tensors.has(`${name}.signed`) ? ("given" as const) : undefined;
    const unpacksBackward = headInputs.has(port);
    const format = { ...packedFormat(tensors, name, inputsOf.get(name)!), wholeNumbers, unpacksBackward };
    const other = formats.get(port);
    if (other && JSON.stringify(other) !== JSON.stringify(format))
      throw new Error(`internal: ${name} is packed otherwise`);
    formats.set(port, format);
  }
  return formats;
}

const packedParts = ["packed", "scales", "zeros", "signed", "channel"] as const;

/** What is bound to the ports: the parameter, or all parts of it that there are. */
export function boundTo(ports: Ports, tensors: ModelTensors): Record<string, DeviceTensor> {
  const partsOf = ([port, name]: Ports[number]) =>
    packedParts.flatMap((part) => {
      const tensor = tensors.get(`${name}.${part}`);
      return tensor ? [[`${port}.${part}`, tensor] as const] : [];
    });
  return Object.fromEntries(
    ports.flatMap(([port, name]) => {
      const tensor = tensors.get(name);
      return tensor ? [[port, tensor] as const] : partsOf([port, name]);
    }),
  );
}
