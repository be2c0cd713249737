/**
 * Attention of new tokens over a cache of keys and values that they are added to, in place: the heart of decoding. One
 * token of each of any number of rows, or several tokens of one row.
 *
 * Not differentiable; training uses `softmaxMix`. Its ONNX form is ONNX Runtime's GroupQueryAttention with as many groups
 * as heads, whose past and present may be one buffer. It is what refuses several tokens of several rows.
 */
import { elementCount } from "../../runtime/dtype.ts";
import { type Dim, sameShape } from "../dim.ts";
import { defineOperator, mismatch, requireDType, sameDType } from "../operator.ts";
import { apply, type Tensor } from "../tensor.ts";

interface CachedAttentionAttributes {
  readonly heads: number;
  readonly scale: number;
}

const cachedAttentionOperator = defineOperator<CachedAttentionAttributes>({
  name: "cachedAttention",
  refusesGradient: true,
  infer: (inputs, { heads }) => {
    const [q, k, v, keys, values, last, bias] = inputs as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
    const dtype = sameDType([q, k, v, keys, values, bias]);
    requireDType(last, ["int32"], "the last positions");
    const [B, H, S, E] = keys.shape as [Dim, Dim, Dim, Dim];
    const fits =
      H === heads &&
      [q, k, v].every(({ shape }) => shape.length === 3 && shape[0] === B && shape[1] === q.shape[1]) &&
      q.shape[2] === heads * (E as number) &&
      typeof S === "number" &&
      sameShape(bias.shape.slice(1), [H, q.shape[1]!, S]);
    if (!fits)
      mismatch("the operands do not fit", "q, k, v [B, Q, H·E], caches [B, H, S, E], last [B], bias [B, H, Q, S]");
    return [
      { dtype, shape: q.shape },
      { dtype, shape: keys.shape },
      { dtype, shape: values.shape },
    ];
  },
  onnx: ({ inputs, outputs, inputTypes, attributes: { heads, scale }, emit, scalar }) => {
    const [q, k, v, keys, values, last, bias] = inputs as [string, string, string, string, string, string, string];
    const total = scalar("int32", inputTypes[3]!.shape[2] as number);
    const attributes = { num_heads: heads, kv_num_heads: heads, scale: { float: scale } };
    const operands = [q, k, v, keys, values, last, total, "", "", "", bias];
    emit("GroupQueryAttention", operands, attributes, { outputs, domain: "com.microsoft" });
  },
  evaluate: ([q, k, v, keys, values, last, bias], { attributes: { heads, scale }, shapes, allocate }) => {
    const out = allocate(q!.dtype, shapes[0]!);
    const newKeys = allocate(keys!.dtype, shapes[1]!);
    const newValues = allocate(values!.dtype, shapes[2]!);
    newKeys.data.set(keys!.data);
    newValues.data.set(values!.data);
    const [, , S, E] = keys!.shape as [number, number, number, number];
    const Q = q!.shape[1]!;
    for (let bh = 0; bh < elementCount(keys!.shape.slice(0, 2)); bh++) {
      const [row, head] = [Math.floor(bh / heads), bh % heads];
      const first = last!.data[row]! - Q + 1;
      for (let query = 0; query < Q; query++) {
        const at = first + query;
        // Of q, k, v and the result: this head of this token.
        const own = ((row * Q + query) * heads + head) * E;
        for (let e = 0; e < E; e++) {
          newKeys.data[(bh * S + at) * E + e] = k!.data[own + e]!;
          newValues.data[(bh * S + at) * E + e] = v!.data[own + e]!;
        }
        const scores = Array.from({ length: at + 1 }, (_, s) => {
          let sum = 0;
          for (let e = 0; e < E; e++) sum += q!.data[own + e]! * newKeys.data[(bh * S + s) * E + e]!;
          return scale * sum + bias!.data[(bh * Q + query) * S + s]!;
        });
        const largest = Math.max(...scores);
        const powers = scores.map((score) => Math.exp(score - largest));
        const total = powers.reduce((a, b) => a + b, 0);
        for (let e = 0; e < E; e++) {
          let sum = 0;
          powers.forEach((power, s) => {
            sum += power * newValues.data[(bh * S + s) * E + e]!;
          });
          out.data[own + e] = sum / total;
        }
      }
    }
    return [out, newKeys, newValues];
  },
});

/**
 * Stores k and v at slots `last` − Q + 1 … `last` of each row's cache; query i attends to the slots up to its own.
 *
 * q, k, v `[B, Q, H·E]` (B or Q is 1), caches `[B, H, S, E]` (S known), last `[B]` int32, bias `[B, H, Q, S]` added to the
 * scaled scores. Gives the mixed values `[B, Q, H·E]` and the caches; bind these outputs to the caches' own memory, since slots after
 * `last` are undefined in any other.
 */
export function cachedAttention(
  operands: {
    readonly q: Tensor;
    readonly k: Tensor;
    readonly v: Tensor;
    readonly keys: Tensor;
    readonly values: Tensor;
    readonly last: Tensor;
    readonly bias: Tensor;
  },
  attributes: CachedAttentionAttributes,
): { readonly mixed: Tensor; readonly keys: Tensor; readonly values: Tensor } {
  const { q, k, v, keys, values, last, bias } = operands;
  const [mixed, newKeys, newValues] = apply(cachedAttentionOperator, [q, k, v, keys, values, last, bias], attributes);
  return { mixed: mixed!, keys: newKeys!, values: newValues! };
}
