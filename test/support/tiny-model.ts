/** Models of a few thousand random weights, for tests of arithmetic that need no vocabulary and no file. */
import type { LayerMask, ModelConfig } from "../../src/model/config.ts";
import { parameterElements, parameterTable } from "../../src/model/parameters.ts";
import { preset } from "../../src/model/presets.ts";
import type { DeviceTensor, Runtime } from "../../src/runtime/index.ts";
import { fillNormal } from "../../src/util/random.ts";

export const tinyConfig: ModelConfig = {
  ...preset("tiny"),
  vocabSize: 40,
  dimModel: 24,
  dimFf: 20,
  layers: 3,
  heads: 3,
  dimHead: 8,
  positionBuckets: 16,
  positionMaxDistance: 24,
  promptLength: 4,
};

/** A depth with every kind of block: none, attention alone, feed-forward alone, both; the first without attention. */
export const everyMask: readonly LayerMask[] = [
  [true, false],
  [false, false],
  [true, true],
  [false, true],
  [false, false],
];

/** Weights as a trained model might have: normal numbers, gains about 1. The same for the same names and seed. */
export function randomWeights(config: ModelConfig, seed = 1): Map<string, Float32Array<ArrayBuffer>> {
  return new Map(
    parameterTable(config).map((parameter) => {
      const data = new Float32Array(parameterElements(parameter));
      fillNormal(data, seed, parameter.name, parameter.kind === "norm" ? 1 : 0, parameter.kind === "norm" ? 0.1 : 1);
      return [parameter.name, data];
    }),
  );
}

/** The weights on a runtime. */
export function uploadWeights(runtime: Runtime, config: ModelConfig, seed = 1): Map<string, DeviceTensor> {
  const weights = randomWeights(config, seed);
  return new Map(
    parameterTable(config).map(({ name, shape }) => [name, runtime.upload(weights.get(name)!, "float32", shape)]),
  );
}
