/**
 * A name for the content of a base model: SHA-256 over each parameter's name, shape and float32 elements, in the order of
 * the parameter table. It does not depend on files, shards or layouts, only on the numbers that are computed with.
 */
import { createHash } from "node:crypto";
import { unpackWeight } from "../checkpoint/packed-weight.ts";
import { type ModelTensors, packedFormat } from "../infer/weight-ports.ts";
import type { ModelConfig } from "../model/config.ts";
import { parameterTable } from "../model/parameters.ts";
import type { Runtime } from "../runtime/runtime.ts";

/** `read` gives a parameter's elements; they are read once each, one after the other. */
export async function baseHash(
  config: ModelConfig,
  read: (name: string) => Float32Array | Promise<Float32Array>,
): Promise<string> {
  const digest = createHash("sha256");
  for (const { name, shape } of parameterTable(config)) {
    digest.update(`${name} [${shape.join(",")}]\n`);
    const elements = await read(name);
    digest.update(new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength));
  }
  return digest.digest("hex");
}

/** A model's parameters as they lie on a runtime, in float32: packed ones are unpacked, one at a time. */
export function parameterReader(
  runtime: Runtime,
  config: ModelConfig,
  tensors: ModelTensors,
): (name: string) => Promise<Float32Array> {
  const shapes = new Map(parameterTable(config).map(({ name, shape }) => [name, shape]));
  return async (name) => {
    const plain = tensors.get(name);
    if (plain) return (await runtime.download(plain)) as Float32Array;
    const [N, K] = shapes.get(name)! as [number, number];
    const part = async (suffix: string) => {
      const tensor = tensors.get(`${name}.${suffix}`);
      return tensor && (await runtime.download(tensor));
    };
    const values = {
      packed: (await part("packed")) as Uint8Array,
      scales: (await part("scales")) as Float32Array,
      zeros: (await part("zeros")) as Uint8Array | undefined,
    };
    return unpackWeight(values, packedFormat(tensors, name, K), [N, K]);
  };
}
