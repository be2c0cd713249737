/** A delta of random numbers on a model of `writeSmallModel`, in a folder. */
import { openCheckpoint } from "../../src/checkpoint/index.ts";
import { attachDelta } from "../../src/delta/attach.ts";
import { baseHash } from "../../src/delta/base-hash.ts";
import { saveDelta } from "../../src/delta/delta-file.ts";
import type { DeltaSpec } from "../../src/delta/methods/index.ts";
import { fillNormal } from "../../src/util/random.ts";

type Use = NonNullable<Parameters<typeof saveDelta>[2]["use"]>;

/** Writes it to `path` and returns that. */
export async function writeRandomDelta(
  base: string,
  path: string,
  spec: DeltaSpec,
  { seed, use }: { readonly seed: number; readonly use?: Use },
): Promise<string> {
  await using checkpoint = await openCheckpoint(base);
  const { config } = checkpoint;
  const baseSha256 = await baseHash(config, async (name) => checkpoint.tensor(name).readFloat32());
  const delta = attachDelta(config, [spec]);
  const values = new Map(
    delta.parameters.map(({ name, shape }) => {
      const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
      fillNormal(data, seed, name, 0, 0.5);
      return [name, data] as const;
    }),
  );
  await saveDelta(path, { delta, values }, { baseSha256, ...(use && { use }) });
  return path;
}
