/** What the adapters have in common: a narrow layer in between with an activation, and how their matrices begin. */
import { z } from "zod";
import { add, gelu, maximum, mul, reshape, sigmoid, type Tensor, tanh } from "../graph/index.ts";
import { fillNormal } from "../util/random.ts";
import type { DeltaParameter } from "./method.ts";
import type { Place } from "./places.ts";

const activations: Readonly<Record<string, (x: Tensor) => Tensor>> = {
  gelu,
  gelu_new: (x) => {
    const inner = mul(add(x, mul(mul(x, mul(x, x)), 0.044715)), Math.sqrt(2 / Math.PI));
    return mul(mul(x, add(tanh(inner), 1)), 0.5);
  },
  relu: (x) => maximum(x, 0),
  silu: (x) => mul(x, sigmoid(x)),
  tanh,
};

export const activationSchema = z.enum(["gelu", "gelu_new", "relu", "silu", "tanh"]);
export type Activation = z.output<typeof activationSchema>;

export function activate(name: Activation, x: Tensor): Tensor {
  return activations[name]!(x);
}

/** x `[N, W]` + b `[W]` */
export function plusBias(x: Tensor, bias: Tensor): Tensor {
  return add(x, reshape(bias, [1, bias.shape[0]!]));
}

/** Input and output width of what a place is. */
export function placeWidths({ kind, shape }: Place): { readonly input: number; readonly output: number } {
  if (kind === "norm") return { input: shape[0]!, output: shape[0]! };
  return { input: shape[1]!, output: shape[0]! };
}

/** A parameter of a place that begins at zero. */
export function zeroParameter({ module }: Place, local: string, shape: readonly number[]): DeltaParameter {
  return { local, name: `${module}.${local}`, shape, initialize: () => {} };
}

/** A parameter of a place that begins normally distributed. */
export function normalParameter(
  { module }: Place,
  local: string,
  shape: readonly number[],
  deviation: number,
): DeltaParameter {
  const name = `${module}.${local}`;
  return { local, name, shape, initialize: (out, { seed }) => fillNormal(out, seed, name, 0, deviation) };
}
