/**
 * The prints of a shard's documents, kept beside it so that what is added to a data set later can be compared with it:
 * 128 bytes a document, and 8 for each of its paragraphs. Nobody but a build that appends reads them.
 *
 *     prints/NAME.safetensors     the shard's name without its ending; all tensors go by document, in the shard's order
 *         paragraphCounts         int32 [documents]
 *         paragraphs              float64 [sum of the counts]: hashes of 53 bits
 *         signed                  uint8 [documents]: 1 where the document has a signature
 *         signatures              uint8 [signed documents, 128]: 64 little-endian numbers of 16 bits
 */
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { openSafetensors } from "../../checkpoint/safetensors.ts";
import { type WritableTensor, writeSafetensors } from "../../checkpoint/safetensors-writer.ts";
import type { DType, HostArray } from "../../runtime/dtype.ts";
import { fileErrorOf } from "../../util/atomic-file.ts";
import { DataError } from "../../util/error.ts";
import { type DatasetShard, printsFolder } from "../dataset.ts";
import { fingerprint } from "./build-options.ts";
import type { Prints } from "./duplicates.ts";
import { signatureLength } from "./minhash.ts";

const signatureBytes = 2 * signatureLength;

/** What `dataset.json` says about the file. */
export type PrintsEntry = NonNullable<DatasetShard["prints"]>;

export function printsPath(folder: string, shardFile: string): string {
  return join(folder, printsFolder, `${shardFile.replace(/\.cpmtok$/, "")}.safetensors`);
}

/** Collects the prints of a shard's documents. */
export interface PrintsWriter {
  add(prints: Omit<Prints, "hash">): void;
  /**
   * Writes them for a shard, atomically; undefined where there are none or they would take more than `maxBytes`: a file that is
   * there is removed then.
   */
  finish(folder: string, shardFile: string, maxBytes: number): Promise<PrintsEntry | undefined>;
}

export function createPrintsWriter(): PrintsWriter {
  const paragraphs: Float64Array[] = [];
  const signatures: Uint16Array[] = [];
  const paragraphCounts: number[] = [];
  const signed: number[] = [];
  return {
    add(prints) {
      // Copies: what is given are parts of a worker's answer, which could go otherwise.
      if (prints.paragraphs.length > 0) paragraphs.push(prints.paragraphs.slice());
      if (prints.signature.length > 0) signatures.push(prints.signature.slice());
      paragraphCounts.push(prints.paragraphs.length);
      signed.push(prints.signature.length > 0 ? 1 : 0);
    },
    async finish(folder, shardFile, maxBytes) {
      const documents = signed.length;
      const paragraphCount = paragraphs.reduce((sum, { length }) => sum + length, 0);
      const path = printsPath(folder, shardFile);
      const bytes = 5 * documents + 8 * paragraphCount + signatureBytes * signatures.length;
      if (paragraphCount + signatures.length === 0 || bytes > maxBytes) {
        await rm(path, { force: true });
        return undefined;
      }
      await mkdir(join(folder, printsFolder), { recursive: true }).catch((error) => {
        throw fileErrorOf(error, "write", path);
      });
      await writeSafetensors(path, [
        tensor("paragraphs", "float64", [paragraphCount], () => joined(paragraphs, new Float64Array(paragraphCount))),
        tensor("paragraphCounts", "int32", [documents], () => Int32Array.from(paragraphCounts)),
        tensor("signed", "uint8", [documents], () => Uint8Array.from(signed)),
        tensor("signatures", "uint8", [signatures.length, signatureBytes], () => {
          const all = joined(signatures, new Uint16Array(signatures.length * signatureLength));
          return new Uint8Array(all.buffer);
        }),
      ]);
      return fingerprint(path);
    },
  };
}

function tensor(name: string, dtype: DType, shape: readonly number[], read: () => HostArray): WritableTensor {
  return { name, dtype, shape, read };
}

function joined<A extends Float64Array<ArrayBuffer> | Uint16Array<ArrayBuffer>>(
  parts: readonly (Float64Array | Uint16Array)[],
  all: A,
): A {
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/**
 * The prints of a shard's documents, in their order.
 *
 * @throws DataError CPM_DATA_PRINTS where the file is not the one that `dataset.json` describes, or does not fit the shard
 */
export async function readPrints(
  folder: string,
  { file, documents, prints }: Pick<DatasetShard, "file" | "documents" | "prints">,
): Promise<Omit<Prints, "hash">[]> {
  const path = printsPath(folder, file);
  const bad = (what: string, got?: string, cause?: unknown) =>
    new DataError(
      "CPM_DATA_PRINTS",
      `What the data set keeps of a shard's texts to compare with cannot be used: ${what}`,
      {
        where: path,
        got,
        cause,
        hint: `Copy the file again, or take "prints" out of the shard's entry in dataset.json: its texts are then known by their hashes alone.`,
      },
    );
  const found = await fingerprint(path).catch((cause) => {
    throw bad("it cannot be read", undefined, cause);
  });
  if (found.sha256 !== prints?.sha256) throw bad("its SHA-256 is another one", found.sha256);
  const opened = await openSafetensors(path).catch((cause) => {
    throw bad("it is no sound file", undefined, cause);
  });
  try {
    const read = async <A extends HostArray>(name: string, type: abstract new (...given: never[]) => A): Promise<A> => {
      const array = await opened.tensors.get(name)?.read();
      if (!(array instanceof type)) throw bad(`it has no ${name}`);
      return array;
    };
    const paragraphCounts = await read("paragraphCounts", Int32Array);
    const signed = await read("signed", Uint8Array);
    const paragraphs = await read("paragraphs", Float64Array);
    const signatures = await read("signatures", Uint8Array);
    if (paragraphCounts.length !== documents || signed.length !== documents) {
      throw bad("it is of other documents", `${signed.length}, of a shard of ${documents}`);
    }
    const isHash = (value: number) => Number.isSafeInteger(value) && value >= 0;
    if (
      paragraphCounts.some((count) => count < 0) ||
      paragraphCounts.reduce((sum, count) => sum + count, 0) !== paragraphs.length ||
      !paragraphs.every(isHash) ||
      signed.some((flag) => flag > 1) ||
      signed.reduce((sum, flag) => sum + flag, 0) * signatureBytes !== signatures.length
    )
      throw bad("its parts do not fit each other");
    const places = new Uint16Array(signatures.slice().buffer);
    let [paragraphAt, signatureAt] = [0, 0];
    return Array.from({ length: documents }, (_, i) => ({
      paragraphs: paragraphs.subarray(paragraphAt, (paragraphAt += paragraphCounts[i]!)),
      signature: places.subarray(signatureAt, (signatureAt += signed[i]! * signatureLength)),
    }));
  } finally {
    await opened.close();
  }
}
