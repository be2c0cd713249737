/**
 * The graft of one program from what methods change at its places: one walk over the traced graph that finds the places
 * by the parameters that their operators read.
 *
 * - a linear layer is the product whose second operand is its weight, a norm the `rmsNorm` of its gain
 * - a sub-layer goes from its norm's result to the result of its last linear layer
 * - keys and values are the transposed results of `attention.k` and `attention.v`; where a program keeps them in a cache
 *   (a single new token), the prefix is in the cache already
 */
import {
  broadcastTo,
  concat,
  type Dim,
  matmul,
  pad,
  reshape,
  rewrite,
  rmsNorm,
  sizeOf,
  spec,
  type Tensor,
  transpose,
} from "../graph/index.ts";
import type { ModelConfig } from "../model/config.ts";
import type { Graft, GraftPort } from "../model/graft.ts";
import { attentionNames } from "../model/parameters.ts";
import type { AttachedPlace, DeltaTensors } from "./method.ts";

/** A place with the name of its method and options: equal words, equal edits. */
export interface GraftedPlace extends AttachedPlace {
  readonly signature: string;
}

/** The attention's own norm, for what stands beside the attention. */
const normPort = "attention.norm";

interface BoundPlace extends GraftedPlace {
  readonly delta: DeltaTensors;
}

/** Ports of the places' parameters: several places of a program may use one tensor. */
function portsOf(places: readonly GraftedPlace[]): {
  ports: GraftPort[];
  portOf: (place: number, local: string) => string;
} {
  const byTensor = new Map<string, GraftPort>();
  const names = new Map<string, string>();
  places.forEach(({ place, parameters, replaces }, i) => {
    if (replaces !== undefined) return;
    if (place.kind === "sublayer" && place.path === "attention" && place.layer !== undefined) {
      // A block's end has no norm of its own attention: decoding runs it in a program of its own.
      const { norm } = attentionNames(place.layer);
      byTensor.set(norm, { port: normPort, tensor: norm, spec: spec("float32", [place.shape[1]!]) });
    }
    for (const { name, local, shape } of parameters) {
      const port = byTensor.get(name) ?? {
        port: `${i}.${place.path}.${local}`,
        tensor: name,
        spec: spec("float32", shape),
      };
      byTensor.set(name, port);
      names.set(`${i} ${local}`, port.port);
    }
  });
  return { ports: [...byTensor.values()], portOf: (place, local) => names.get(`${place} ${local}`)! };
}

/** The graft of a block, of the head (its norm) or of the embedding; undefined where nothing changes. */
export function graftOf(places: readonly GraftedPlace[], config: ModelConfig): Graft | undefined {
  const changing = places.filter(({ edits }) => Object.keys(edits).length > 0);
  if (changing.length === 0) return undefined;
  const { ports, portOf } = portsOf(changing);
  const specs = ports.map(({ port, spec: { shape } }) => `${port}[${shape}]`).join(" ");
  const soft = changing.some(({ edits }) => edits.prompt);
  const { promptTypes, promptLength, dimModel } = config;
  return {
    key: `${changing.map(({ signature, place }) => `${place.path}:${signature}`).join(" ")} ${specs}`,
    ports,
    // The table is the base's, though the grafted config's prompt is longer.
    ...(soft && { specs: { "params.prompt": spec("float32", [promptTypes * promptLength, dimModel]) } }),
    apply: (outputs, inputs) => {
      const bound = changing.map((place, i): BoundPlace => {
        return { ...place, delta: (local) => inputs.get(`delta.${portOf(i, local)}`)! };
      });
      return soft ? withPrompt(outputs, inputs, bound, config) : withEdits(outputs, inputs, bound, config);
    },
  };
}

function withEdits(
  outputs: readonly Tensor[],
  inputs: ReadonlyMap<string, Tensor>,
  places: readonly BoundPlace[],
  config: ModelConfig,
): readonly Tensor[] {
  const pathOf = new Map<Tensor, string>();
  for (const [name, tensor] of inputs) if (name.startsWith("params.")) pathOf.set(tensor, name.slice("params.".length));
  const at = (path: string) => places.filter(({ place }) => place.path === path);
  const prefix = places.find(({ edits }) => edits.keysValues);
  const known = new Map<Tensor, Tensor>();
  const isWhole = inputs.has("seen");
  let slots: { readonly keys: Tensor; readonly values: Tensor } | undefined;
  if (prefix && isWhole) {
    slots = prefix.edits.keysValues!(prefix.delta);
    const bias = inputs.get("bias")!;
    known.set(bias, pad(bias, -1, slots.keys.shape[0]!, 0));
  }
  /** Results of the norms, the sub-layers' inputs, by sub-layer. */
  const normed = new Map<string, Tensor>();
  const editNorm = (path: string, x: Tensor, weight: Tensor, y: Tensor) =>
    at(path).reduce((sum, { edits, delta }) => edits.output?.({ x, y: sum, weight, alpha: 1 }, delta) ?? sum, y);
  const inputOf = (sublayer: string): Tensor => {
    const found = normed.get(sublayer);
    if (found) return found;
    const [h, weight] = [inputs.get("h")!, inputs.get(`delta.${normPort}`)!];
    return editNorm(`${sublayer}.norm`, h, weight, rmsNorm(h, weight, config.eps));
  };
  /** Where keys and values come out, and under which reshaped names; of a program of attention alone they are inputs. */
  const projected = new Map<Tensor, "keys" | "values">();
  if (slots && inputs.has("k")) projected.set(inputs.get("k")!, "keys").set(inputs.get("v")!, "values");
  return rewrite(outputs, known, ({ operator, inputs: operands, outputs: results, attributes }) => {
    const path = operands[1] && pathOf.get(operands[1]);
    const sublayer = path?.split(".")[0] ?? "";
    if (operator.name === "rmsNorm" && path !== undefined) {
      const [x, weight] = operands as [Tensor, Tensor];
      const y = editNorm(path, x, weight, results[0]!);
      normed.set(sublayer, y);
      return [y, results[1]!];
    }
    if (operator.name === "matmul" && path !== undefined && attributes.transposeB) {
      const [, weight] = operands as [Tensor, Tensor];
      const own = at(path);
      const x = own.reduce((sum, { edits, delta }) => edits.input?.(sum, delta) ?? sum, operands[0]!);
      let y = x === operands[0] ? results[0]! : matmul(x, weight, attributes);
      for (const { edits, delta } of own) {
        y = edits.output?.({ x, y, weight, alpha: attributes.alpha }, delta) ?? y;
      }
      if (path === `${sublayer}.out`) {
        for (const { edits, delta } of at(sublayer)) {
          if (edits.sublayer) y = edits.sublayer({ x: asRows(inputOf(sublayer)), y }, delta);
        }
      }
      if (slots && path === "attention.k") projected.set(y, "keys");
      if (slots && path === "attention.v") projected.set(y, "values");
      return [y];
    }
    if (slots && operator.name === "reshape" && projected.has(operands[0]!)) {
      projected.set(results[0]!, projected.get(operands[0]!)!);
    }
    if (slots && operator.name === "transpose" && projected.has(operands[0]!)) {
      const B = results[0]!.shape[0]!;
      return [concat([headsOf(config, slots[projected.get(operands[0]!)!], B), results[0]!], 2)];
    }
    return undefined;
  });
}

/** `[…, D]` as `[N, D]`. */
function asRows(x: Tensor): Tensor {
  return reshape(x, [sizeOf(x.shape.slice(0, -1)), x.shape.at(-1)!]);
}

/** `[slots, H·E]` as `[B, H, slots, E]`, the same for every row. */
function headsOf({ heads, dimHead }: ModelConfig, x: Tensor, B: Dim): Tensor {
  const slots = x.shape[0]!;
  const split = transpose(reshape(x, [1, slots, heads, dimHead]), [0, 2, 1, 3]);
  return broadcastTo(split, [B, heads, slots, dimHead]);
}

/**
 * A longer prompt: each task's rows come after the delta's, `[tasks·(N + P), D]` in the place of `[tasks·P, D]`, and ids
 * count accordingly.
 */
function withPrompt(
  outputs: readonly Tensor[],
  inputs: ReadonlyMap<string, Tensor>,
  places: readonly BoundPlace[],
  { promptTypes, promptLength, dimModel }: ModelConfig,
): readonly Tensor[] {
  const table = inputs.get("params.prompt")!;
  let rows = reshape(table, [promptTypes, promptLength, dimModel]);
  for (const { edits, delta } of places) {
    const added = edits.prompt?.(delta);
    if (!added) continue;
    rows = concat(
      [broadcastTo(reshape(added, [1, added.shape[0]!, dimModel]), [promptTypes, added.shape[0]!, dimModel]), rows],
      1,
    );
  }
  return rewrite(outputs, new Map([[table, reshape(rows, [promptTypes * (rows.shape[1] as number), dimModel])]]));
}
