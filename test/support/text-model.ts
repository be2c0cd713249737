/** A small model of random weights with a vocabulary of our own corpus: what generates without being trained. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { fileURLToPath } from "node:url";
import { saveCheckpoint } from "../../src/checkpoint/index.ts";
import type { ModelConfig } from "../../src/model/config.ts";
import { parameterElements, parameterTable } from "../../src/model/parameters.ts";
import { preset } from "../../src/model/presets.ts";
import { type TrainedVocabulary, trainVocabulary } from "../../src/tokenizer/index.ts";
import { createRandom } from "../../src/util/random.ts";

const corpus = fileURLToPath(new URL("../../corpus/", import.meta.url));

export const smallConfig: ModelConfig = {
  ...preset("tiny"),
  vocabSize: 1200,
  dimModel: 32,
  dimFf: 48,
  layers: 2,
  heads: 4,
  dimHead: 8,
};

let vocabulary: Promise<TrainedVocabulary> | undefined;

/** A vocabulary of `smallConfig.vocabSize` tokens from the corpus; trained once a process. */
export function smallVocabulary(): Promise<TrainedVocabulary> {
  const texts = readdirSync(corpus)
    .filter((name) => name.endsWith(".txt"))
    .map((name) => readFileSync(join(corpus, name), "utf8"));
  vocabulary ??= trainVocabulary(texts, { size: smallConfig.vocabSize });
  return vocabulary;
}

/** A folder that goes away with the tests of the file. */
export function temporaryFolder(prefix: string): string {
  const folder = mkdtempSync(join(tmpdir(), prefix));
  after(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** Writes a model's folder with weights drawn from N(0, 1), norms 1, and the vocabulary as `vocab.txt`. */
export async function writeSmallModel(
  folder: string,
  { config = smallConfig, withVocabulary = true }: { config?: ModelConfig; withVocabulary?: boolean } = {},
): Promise<void> {
  const { text, vocabulary: trained } = await smallVocabulary();
  if (trained.size !== smallConfig.vocabSize) throw new Error(`the corpus gives only ${trained.size} tokens`);
  const random = createRandom(1, "small model");
  const tensors = parameterTable(config).map((parameter) => ({
    name: parameter.name,
    dtype: "float32" as const,
    shape: parameter.shape,
    read: () => {
      const own = random.fork(parameter.name);
      return Float32Array.from({ length: parameterElements(parameter) }, () =>
        parameter.kind === "norm" ? 1 : own.normal(),
      );
    },
  }));
  await saveCheckpoint(folder, config, tensors, withVocabulary ? { files: { "vocab.txt": text } } : {});
}
