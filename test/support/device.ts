/** Moving plain numbers in and out of a runtime, for tests that run one thing on several. */
import { hostArrayFrom } from "../../src/graph/index.ts";
import type { DType } from "../../src/runtime/dtype.ts";
import type { CompileOptions, DeviceTensor, ProgramSource, Runtime } from "../../src/runtime/runtime.ts";

export interface PlainTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: ArrayLike<number>;
}

/** Compiles, runs once and frees everything: values of all outputs by name. */
export async function runOnce(
  runtime: Runtime,
  source: ProgramSource,
  inputs: Readonly<Record<string, PlainTensor>>,
  options: CompileOptions = {},
): Promise<Record<string, { shape: readonly number[]; data: number[] }>> {
  using program = await runtime.compile(source, options);
  const given: Record<string, DeviceTensor> = {};
  for (const [name, { data, dtype, shape }] of Object.entries(inputs)) {
    given[name] = runtime.upload(hostArrayFrom(data, dtype), dtype, shape);
  }
  const outputs = await program.run(given);
  const values: Record<string, { shape: readonly number[]; data: number[] }> = {};
  for (const [name, tensor] of Object.entries(outputs)) {
    values[name] = { shape: tensor.shape, data: Array.from(await runtime.download(tensor), Number) };
    tensor.dispose();
  }
  for (const tensor of Object.values(given)) tensor.dispose();
  return values;
}
