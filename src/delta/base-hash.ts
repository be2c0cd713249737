/**
 * A name for the content of a base model: SHA-256 over each parameter's name, shape and float32 elements, in the order of
 * the parameter table. It does not depend on files, shards or layouts, only on the numbers that are computed with.
 */
import { createHash } from "node:crypto";
import type { ModelConfig } from "../model/config.ts";
import { parameterTable } from "../model/parameters.ts";

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
