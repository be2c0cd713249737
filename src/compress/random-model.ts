/** A model with random weights, tensor by tensor, in any precision: what `cpm init` writes. */
import type { WritableTensor } from "../checkpoint/index.ts";
import type { ModelConfig } from "../model/config.ts";
import { names, type Parameter, parameterElements, parameterTable } from "../model/parameters.ts";
import { initializeParameter } from "../train/initialize.ts";
import type { Seed } from "../util/random.ts";
import { drawPacked } from "./draw-packed.ts";
import { formatFor, type QuantizeOptions } from "./quantize-model.ts";

export interface RandomModelOptions {
  readonly seed: Seed;
  /** Packed weights; absent: float32. */
  readonly packed?: Pick<QuantizeOptions, "bits" | "group"> | undefined;
  readonly onDone?: (parameter: Parameter) => void;
}

/** Standard deviation of a token table's weights, as training begins with. */
const tableDeviation = 0.02;

/** Tensors of a model to write, none of which is in memory before its turn. */
export function randomTensors(config: ModelConfig, { seed, packed, onDone }: RandomModelOptions): WritableTensor[] {
  return parameterTable(config).map((parameter): WritableTensor => {
    const { name, shape } = parameter;
    const options = packed && { ...packed, symmetric: true, embedding: true };
    const format = options && formatFor(parameter, options);
    const read = () => {
      const data = new Float32Array(parameterElements(parameter));
      initializeParameter(parameter, data, seed);
      onDone?.(parameter);
      return data;
    };
    if (format === undefined) return { name, dtype: "float32", shape, read };
    const [N, K] = shape as readonly [number, number];
    const G = K / format.groupSize;
    const deviation = name === names.token ? tableDeviation : 1;
    let drawn: ReturnType<typeof drawPacked> | undefined;
    const draw = () => {
      drawn ??= drawPacked([N, K], format, { seed, stream: `init ${name}`, deviation });
      return drawn;
    };
    const parts: WritableTensor[] = [
      { name: `${name}.scales`, dtype: "float32", shape: [N, G], read: () => draw().scales },
      {
        name: `${name}.packed`,
        dtype: "uint8",
        shape: [N, G, (format.groupSize * format.bits) / 8],
        read: () => {
          const { packed: bytes } = draw();
          drawn = undefined;
          onDone?.(parameter);
          return bytes;
        },
      },
    ];
    return { name, dtype: "float32", shape, read, parts };
  });
}
