/**
 * A binary data set of CPM-Live as one of ours.
 *
 * The original cut texts into pieces and drew each piece's objective when it built the data: a record is
 *
 *     [task, segments, (length, type, task) for each segment] and the ids, `<s>` piece `</s>`
 *
 * with task 0 (fill) or 1 (continue the text) of its one segment. Here objectives belong to a source: pieces become
 * documents without their `<s>` and `</s>`, those to be filled in the source NAME-fill, those to be continued in NAME-lm, each
 * with its `objective`, to which a mixture keeps unless it says something else. Records that are bare ids or, in version 2,
 * text (a JSON string, or the field of an object) go to NAME and are of no objective. Records of several segments have no
 * counterpart; they are counted and told like everything else that cannot be used. The text of ids, which decides what is
 * held out, is what the vocabulary spells them as.
 */
import { createHash, hash } from "node:crypto";
import { join } from "node:path";
import { createAntTokenizer, parseVocabulary, type Tokenizer } from "../../tokenizer/index.ts";
import { writeFileAtomic } from "../../util/atomic-file.ts";
import { countCodePoints } from "../../util/code-points.ts";
import { CpmError, DataError } from "../../util/error.ts";
import { openBuildFolder } from "../build/build-folder.ts";
import { fingerprint } from "../build/build-options.ts";
import {
  countLength,
  type DatasetDescription,
  type DatasetShard,
  type DatasetSource,
  type DatasetStatistics,
  emptyStatistics,
  shardFolder,
  shardSchema,
  sumStatistics,
  vocabularyFile,
  writeDescription,
} from "../dataset.ts";
import type { BadLine } from "../read-documents.ts";
import { createShardWriter, type ShardWriter } from "../token-shard.ts";
import { integersOf, readPickledIntegers } from "./numpy-pickle.ts";
import { type OriginalRecord, readOriginalMeta, readOriginalRecords } from "./original-files.ts";

/** How version 2's records were serialised; `auto`: a pickle by its first byte, else JSON. */
export type PayloadKind = "auto" | "pickle" | "json" | "int16" | "int32" | "utf-8";

export interface ImportInput {
  readonly folder: string;
  readonly output: string;
  /** The vocabulary file's text. */
  readonly vocabulary: string;
  readonly name: string;
  readonly licence?: string | undefined;
  /** Of JSON objects; `text` by default. */
  readonly field?: string | undefined;
  readonly payload?: PayloadKind | undefined;
  readonly shardTokens?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  onBadLine?(bad: BadLine): void;
  onProgress?(progress: { readonly done: number; readonly documents: number; readonly tokens: number }): void;
}

type Kind = "fill" | "lm" | "text";

/** What a record holds, or why it cannot be used. */
type Content =
  | { readonly kind: Kind; readonly ids: Int32Array }
  | { readonly text: string }
  | { readonly reason: string };

/**
 * @throws DataError CPM_DATA_IMPORT where the folder holds no such data set, CPM_DATA_EMPTY where no record can be used;
 * ConfigError CPM_DATA_BUILD_OUTPUT where the output folder holds something else; CheckpointError CPM_PICKLE_…
 */
export async function importDataset(input: ImportInput): Promise<DatasetDescription> {
  const { folder, output, name, vocabulary } = input;
  const shardTokens = input.shardTokens ?? 8_388_608;
  const original = await readOriginalMeta(folder);
  const tokenizer = createAntTokenizer(parseVocabulary(new TextEncoder().encode(vocabulary)));
  const vocabularySha = createHash("sha256").update(vocabulary).digest("hex");
  const meta = await fingerprint(join(folder, "meta.bin"));
  const key = hash("sha256", JSON.stringify(["import", meta.sha256, vocabularySha, name, shardTokens]));
  const build = await openBuildFolder(output, key, false);
  build.close(); // reading is all that an import does: one that was interrupted starts again
  await writeFileAtomic(join(output, vocabularyFile), vocabulary);

  const shards: DatasetShard[] = [];
  const parts = new Map<Kind, { writer: ShardWriter; unknown: number; readonly statistics: DatasetStatistics }>();
  let badLines = 0;
  const reject = (bad: BadLine) => {
    badLines++;
    input.onBadLine?.(bad);
  };
  const sourceName = (kind: Kind) => (kind === "text" ? name : `${name}-${kind}`);
  const partOf = (kind: Kind) => {
    const part = parts.get(kind) ?? {
      writer: createShardWriter(sourceName(kind), tokenizer.vocabSize),
      unknown: 0,
      statistics: emptyStatistics(),
    };
    parts.set(kind, part);
    return part;
  };
  const close = async (kind: Kind) => {
    const part = partOf(kind);
    if (part.writer.documents === 0) return;
    const file = `${String(shards.length).padStart(5, "0")}-${sourceName(kind).replace(/[^\w.-]+/g, "_")}.cpmtok`;
    const path = join(output, shardFolder, file);
    const summary = await part.writer.finish(path);
    const { sha256 } = await fingerprint(path);
    shards.push(shardSchema.parse({ file, source: sourceName(kind), ...summary, unknown: part.unknown, sha256 }));
    part.statistics.unknown += part.unknown;
    part.unknown = 0;
    part.writer = createShardWriter(sourceName(kind), tokenizer.vocabSize);
  };

  const records = original.files.reduce((sum, { nlines }) => sum + nlines, 0);
  let seen = 0;
  let tokens = 0;
  for await (const record of readOriginalRecords(folder, original, reject)) {
    if (++seen % 1024 === 0) {
      input.signal?.throwIfAborted();
      input.onProgress?.({ done: Math.min(1, seen / Math.max(1, records)), documents: seen - badLines, tokens });
    }
    const content = contentOf(record, input, tokenizer);
    if ("reason" in content) {
      reject({ source: join(folder, record.file), line: record.line, reason: content.reason });
      continue;
    }
    const kind = "text" in content ? "text" : content.kind;
    const encoded = "text" in content ? tokenizer.encode(content.text) : { ids: content.ids, unknownCount: 0 };
    const text = "text" in content ? content.text : tokenizer.decode(content.ids, { specials: "drop" });
    const part = partOf(kind);
    const characters = countCodePoints(text);
    const print = hash("sha256", text, "buffer").readBigUInt64BE(0);
    part.writer.add({ ids: encoded.ids, hash: print, characters, file: record.file, line: record.line });
    part.unknown += encoded.unknownCount;
    part.statistics.documents++;
    part.statistics.characters += characters;
    part.statistics.tokens += encoded.ids.length;
    tokens += encoded.ids.length;
    countLength(part.statistics.lengthHistogram, encoded.ids.length);
    if (part.writer.tokens >= shardTokens) await close(kind);
  }
  for (const kind of parts.keys()) await close(kind);
  if (shards.length === 0) {
    await build.abandon();
    throw new DataError("CPM_DATA_EMPTY", "No record of the data set can be used", {
      where: folder,
      got: `${badLines} that cannot`,
    });
  }
  const files = [{ name: "meta.bin", ...meta }];
  for (const { file_name, mask } of original.files) {
    const print = mask ? undefined : await fingerprint(join(folder, file_name)).catch(() => undefined);
    if (print !== undefined) files.push({ name: file_name, ...print });
  }
  const sources = [...parts].map(([kind, { statistics }], i): DatasetSource => {
    if (i === 0) statistics.badLines = badLines; // of no source that could be told
    const { tokens, characters, unknown } = statistics;
    statistics.tokensPerCharacter = characters === 0 ? 0 : tokens / characters;
    statistics.unknownShare = unknown / Math.max(1, tokens + unknown);
    return {
      name: sourceName(kind),
      ...(input.licence === undefined ? {} : { licence: input.licence }),
      files,
      ...(kind === "text" ? {} : { objective: kind }),
      statistics,
    };
  });
  const description: DatasetDescription = {
    format: 1,
    tokenizer: {
      kind: "cpm-ant",
      vocabSize: tokenizer.vocabSize,
      sha256: vocabularySha,
      bosId: tokenizer.bosId,
      eosId: tokenizer.eosId,
    },
    options: { importedFrom: `CPM-Live data set, version ${original.version}` },
    sources,
    shards,
    statistics: sumStatistics(sources.map(({ statistics }) => statistics)),
  };
  await writeDescription(output, description);
  await build.finish();
  return description;
}

function contentOf(
  { ids, payload }: OriginalRecord,
  { payload: kind = "auto", field = "text" }: ImportInput,
  tokenizer: Tokenizer,
): Content {
  return payload === undefined ? fromIds(ids, tokenizer) : fromPayload(payload, kind, field, tokenizer);
}

function fromPayload(bytes: Uint8Array, kind: PayloadKind, field: string, tokenizer: Tokenizer): Content {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  switch (kind) {
    case "int16":
    case "int32": {
      const size = kind === "int16" ? 2 : 4;
      if (bytes.length % size !== 0) return { reason: `${bytes.length} bytes are no whole number of ${kind}` };
      const ids = Int32Array.from({ length: bytes.length / size }, (_, i) =>
        size === 2 ? view.getUint16(2 * i, true) : view.getInt32(4 * i, true),
      );
      return fromIds(ids, tokenizer);
    }
    case "pickle":
      return fromPickle(bytes, tokenizer);
    case "auto":
      if (bytes[0] === 0x80) return fromPickle(bytes, tokenizer);
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return { reason: "the bytes are not UTF-8; if they are ids, say so with --payload" };
  }
  if (kind === "utf-8") return fromText(text);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { reason: "the record is not JSON" };
  }
  if (Array.isArray(value)) return fromIds(integersOf(value), tokenizer);
  if (typeof value === "string") return fromText(value);
  const inner =
    typeof value === "object" && value !== null && Object.hasOwn(value, field)
      ? (value as Record<string, unknown>)[field]
      : undefined;
  return typeof inner === "string" ? fromText(inner) : { reason: `no ids, and no text in field "${field}"` };
}

function fromPickle(bytes: Uint8Array, tokenizer: Tokenizer): Content {
  try {
    return fromIds(readPickledIntegers(bytes, "record").ids, tokenizer);
  } catch (error) {
    if (error instanceof CpmError) return { reason: error.what };
    throw error;
  }
}

function fromText(text: string): Content {
  if (!text.isWellFormed()) return { reason: "the text has half a surrogate pair" };
  const trimmed = text.trim();
  return trimmed === "" ? { reason: "the text is empty" } : { text: trimmed };
}

/** A record with its header, or bare ids that begin with `<s>`. */
function fromIds(all: Int32Array | undefined, { bosId, eosId, vocabSize }: Tokenizer): Content {
  if (all === undefined) return { reason: "not a list of whole numbers" };
  const segments = all[1] ?? 0;
  const header = 2 + 3 * segments;
  let length = 0;
  for (let i = 0; i < segments && length >= 0 && 2 + 3 * i < all.length; i++) length += Math.max(0, all[2 + 3 * i]!);
  const hasHeader = segments >= 1 && header + length === all.length;
  if (!hasHeader && all[0] !== bosId) return { reason: "neither a record's header nor <s> at the beginning" };
  if (hasHeader && segments > 1) return { reason: `a record of ${segments} segments` };
  const task = all[4];
  if (hasHeader && task !== 0 && task !== 1) return { reason: `a record of task ${task}` };
  let ids = hasHeader ? all.subarray(header) : all;
  if (ids[0] !== bosId) return { reason: "the segment does not begin with <s>" };
  if (ids.at(-1) !== eosId) return { reason: "the segment does not end with </s>" };
  ids = ids.subarray(1, -1);
  if (ids.length === 0) return { reason: "the segment is empty" };
  let within = 0;
  while (within < ids.length && ids[within]! >= 0 && ids[within]! < vocabSize) within++;
  const outside = ids[within];
  if (outside !== undefined) return { reason: `the id ${outside} is not in the vocabulary of ${vocabSize}` };
  return { kind: !hasHeader ? "text" : task === 0 ? "fill" : "lm", ids };
}
