/** What a build is told: its sources, and the options that decide about the content of the data set. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { basename } from "node:path";
import { z } from "zod";
import { fileErrorOf } from "../../util/atomic-file.ts";
import { expandPaths } from "../read-documents.ts";
import { stdinName } from "../text-lines.ts";
import { duplicatesSchema } from "./duplicates.ts";
import { filtersSchema } from "./filters.ts";
import { leakageSchema } from "./leakage.ts";
import { normalizeSchema } from "./normalize.ts";

export interface SourceInput {
  readonly name: string;
  readonly paths: readonly string[];
  readonly licence?: string | undefined;
  readonly url?: string | undefined;
  readonly field?: string | undefined;
  /** Of these files, by path, only the first so many documents are read. */
  readonly documentsOf?: ReadonlyMap<string, number> | undefined;
}

/** Written into the data set. */
export const buildOptionsSchema = z.strictObject({
  normalize: normalizeSchema.prefault({}),
  filters: filtersSchema.prefault({}),
  duplicates: duplicatesSchema.prefault({}),
  leakage: leakageSchema.prefault({}),
  unknown: z.enum(["drop", "keep"]).default("drop"),
  /** A shard ends with the document that reaches this. */
  shardTokens: z.int().min(1024).default(8_388_608),
  encoding: z.enum(["utf-8", "gb18030"]).default("utf-8"),
  format: z.enum(["auto", "jsonl", "lines", "blocks", "file"]).default("auto"),
});
export type BuildOptions = z.output<typeof buildOptionsSchema>;

/** A file of a source. Those of the standard input are known only when it has been read. */
export interface SourceFile {
  readonly path: string;
  readonly name: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** A source with its files found and their bytes hashed. */
export interface FoundSource extends SourceInput {
  readonly files: readonly SourceFile[];
}

/** @throws FileError CPM_DATA_FILE, CPM_FILE_… */
export async function findSources(sources: readonly SourceInput[]): Promise<FoundSource[]> {
  const found: FoundSource[] = [];
  for (const source of sources) {
    const files: SourceFile[] = [];
    for (const path of await expandPaths(source.paths)) {
      const print = path === stdinName ? { bytes: 0, sha256: "" } : await fingerprint(path);
      files.push({ path, name: basename(path), ...print });
    }
    found.push({ ...source, files });
  }
  return found;
}

export async function fingerprint(path: string): Promise<{ bytes: number; sha256: string }> {
  const digest = createHash("sha256");
  let bytes = 0;
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
      digest.update(chunk as Buffer);
      bytes += (chunk as Buffer).length;
    }
  } catch (error) {
    throw fileErrorOf(error, "read", path);
  }
  return { bytes, sha256: digest.digest("hex") };
}

/** The standard input passed on, and its fingerprint when it has ended. */
export function fingerprinted(input: AsyncIterable<Uint8Array | string>): {
  readonly stream: AsyncIterable<Uint8Array>;
  print(): { bytes: number; sha256: string };
} {
  const digest = createHash("sha256");
  let bytes = 0;
  async function* stream() {
    for await (const chunk of input) {
      const buffer = Buffer.from(chunk as Uint8Array);
      digest.update(buffer);
      bytes += buffer.length;
      yield buffer;
    }
  }
  return { stream: stream(), print: () => ({ bytes, sha256: digest.copy().digest("hex") }) };
}
