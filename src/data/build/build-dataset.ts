/**
 * Text files in, a data set out: read, normalise, filter, leave out what repeats or leaks, tokenise on all cores, write
 * shards, describe.
 *
 * Documents go through in the order of sources, files and lines. Workers do what is a pure function of a text; whether a
 * document stays is decided here, one after the other, so the data set is the same for any number of workers. A shard that
 * was finished before an interruption is kept: its documents are read and judged again, which is quick, and only then does
 * tokenising go on, so the result is byte for byte that of a build without interruption.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, readdir, readFile, rm, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { z } from "zod";
import { parseVocabulary } from "../../tokenizer/index.ts";
import { writeFileAtomic } from "../../util/atomic-file.ts";
import { ConfigError, DataError } from "../../util/error.ts";
import {
  type DatasetDescription,
  type DatasetShard,
  type DatasetSource,
  type DatasetStatistics,
  datasetFile,
  emptyStatistics,
  lengthBucket,
  shardFolder,
  sumStatistics,
  vocabularyFile,
  writeDescription,
} from "../dataset.ts";
import { type BadLine, expandPaths, type ReadOptions, readDocuments, stdinName } from "../read-documents.ts";
import { createShardWriter, openShard, type ShardWriter } from "../token-shard.ts";
import { createDuplicateFinder, duplicatesSchema, signatureLength } from "./duplicates.ts";
import { filterReason, filtersSchema } from "./filters.ts";
import { createLeakageIndex, type LeakageIndex } from "./leakage.ts";
import { normalizeSchema, normalizeText } from "./normalize.ts";
import type { WorkerResult } from "./text-worker.ts";
import { startTextWorkers, type TextWorkers } from "./worker-pool.ts";

export interface SourceInput {
  readonly name: string;
  readonly paths: readonly string[];
  readonly licence?: string | undefined;
  readonly url?: string | undefined;
  readonly field?: string | undefined;
}

/** What decides about the content of the data set; written into it. */
export const buildOptionsSchema = z.strictObject({
  normalize: normalizeSchema.prefault({}),
  filters: filtersSchema.prefault({}),
  duplicates: duplicatesSchema.prefault({}),
  leakage: z
    .strictObject({
      /** Evaluation files: text or JSON Lines, of which every string counts. */
      files: z.array(z.string()).default([]),
      letters: z.int().min(8).max(200).default(24),
      action: z.enum(["drop", "report"]).default("drop"),
    })
    .prefault({}),
  unknown: z.enum(["drop", "keep"]).default("drop"),
  /** A shard ends with the document that reaches this. */
  shardTokens: z.int().min(1024).default(8_388_608),
  encoding: z.enum(["utf-8", "gb18030"]).default("utf-8"),
  format: z.enum(["auto", "jsonl", "lines", "blocks", "file"]).default("auto"),
});
export type BuildOptions = z.output<typeof buildOptionsSchema>;

export interface BuildInput {
  readonly sources: readonly SourceInput[];
  readonly output: string;
  /** The vocabulary file's text. */
  readonly vocabulary: string;
  readonly options: BuildOptions;
  /** Threads beside this one. */
  readonly workers: number;
  readonly strict?: boolean | undefined;
  readonly stdin?: ReadOptions["stdin"];
  readonly signal?: AbortSignal | undefined;
  onBadLine?(bad: BadLine): void;
  /** Share of the input's bytes read, and what was written. */
  onProgress?(progress: BuildProgress): void;
}

export interface BuildProgress {
  readonly done: number;
  readonly source: string;
  readonly documents: number;
  readonly tokens: number;
  readonly characters: number;
  /** Documents of shards that an earlier build has finished. */
  readonly kept: number;
}

const stateFile = "build.json";
const stateSchema = z.object({
  key: z.string(),
  shards: z.array(z.object({ documents: z.int(), entry: z.custom<DatasetShard>() })),
});
type BuildState = z.output<typeof stateSchema>;

/** Characters of text that go to a worker at once. */
const taskCharacters = 1 << 18;

/**
 * @throws ConfigError CPM_DATA_BUILD_OUTPUT where the folder holds something else; DataError CPM_DATA_EMPTY where nothing
 * is left; CancelledError when the signal aborts (run again to go on); those of the readers and the tokenizer
 */
export async function buildDataset(input: BuildInput): Promise<DatasetDescription> {
  const { output, vocabulary, options } = input;
  const tokens = parseVocabulary(new TextEncoder().encode(vocabulary));
  const vocabularySha = createHash("sha256").update(vocabulary).digest("hex");
  const sources = [];
  for (const source of input.sources) {
    const files = [];
    for (const path of await expandPaths(source.paths)) {
      const { bytes, sha256 } = path === stdinName ? { bytes: 0, sha256: "" } : await fingerprint(path);
      files.push({ path, name: basename(path), bytes, sha256 });
    }
    sources.push({ ...source, files });
  }
  const key = createHash("sha256")
    .update(JSON.stringify([options, vocabularySha, sources.map(({ name, field, files }) => [name, field, files])]))
    .digest("hex");
  const state = await prepareFolder(output, key);
  await writeFileAtomic(join(output, vocabularyFile), vocabulary);
  const workers = startTextWorkers(input.workers, {
    vocabulary,
    unknown: options.unknown,
    duplicates: options.duplicates,
  });
  try {
    const described = await runSources(input, sources, workers, tokens.size, state, key);
    const description: DatasetDescription = {
      format: 1,
      tokenizer: {
        kind: "cpm-ant",
        vocabSize: tokens.size,
        sha256: vocabularySha,
        bosId: tokens.ids.get("<s>")!,
        eosId: tokens.ids.get("</s>")!,
      },
      options: { ...options },
      sources: described.sources,
      shards: described.shards,
      statistics: sumStatistics(described.sources.map((source) => source.statistics)),
    };
    if (description.statistics.documents === 0) {
      throw new DataError("CPM_DATA_EMPTY", "No document is left for the data set", {
        where: output,
        got: JSON.stringify(description.statistics.removed),
        hint: "Look at the reasons, and loosen the filters where they are wrong for this text.",
      });
    }
    await writeDescription(output, description);
    await rm(join(output, stateFile), { force: true });
    return description;
  } finally {
    await workers.close();
  }
}

/** The folder is new, empty, or that of the same build interrupted; otherwise it is left alone. */
async function prepareFolder(output: string, key: string): Promise<BuildState> {
  await mkdir(join(output, shardFolder), { recursive: true });
  const fresh: BuildState = { key, shards: [] };
  const text = await readFile(join(output, stateFile), "utf8").catch(() => undefined);
  if (text !== undefined) {
    const parsed = stateSchema.safeParse(JSON.parse(text));
    if (parsed.success && parsed.data.key === key) return parsed.data;
  }
  const found = (await readdir(output)).filter((name) => name !== shardFolder && !name.startsWith("."));
  if (text === undefined && found.length === 0) return fresh;
  const what = found.includes(datasetFile)
    ? "a finished data set"
    : text
      ? "a build of other input or options"
      : found.join(", ");
  throw new ConfigError("CPM_DATA_BUILD_OUTPUT", "The output folder holds something else", {
    where: output,
    got: what,
    expected: "a new folder, or that of the same build interrupted",
    hint: "Give another --output, or remove the folder.",
  });
}

async function fingerprint(path: string): Promise<{ bytes: number; sha256: string }> {
  const digest = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) digest.update(chunk as Buffer);
  return { bytes: (await stat(path)).size, sha256: digest.digest("hex") };
}

type OpenSource = SourceInput & {
  readonly files: readonly {
    readonly path: string;
    readonly name: string;
    readonly bytes: number;
    readonly sha256: string;
  }[];
};

async function runSources(
  input: BuildInput,
  sources: readonly OpenSource[],
  workers: TextWorkers,
  vocabSize: number,
  state: BuildState,
  key: string,
) {
  const { output, options, signal } = input;
  const finder = createDuplicateFinder(options.duplicates);
  const leakage = await leakageIndex(options.leakage.files, options.leakage.letters);
  const shards: DatasetShard[] = [];
  const described: DatasetSource[] = [];
  const totalBytes = Math.max(
    1,
    sources.reduce((sum, { files }) => sum + files.reduce((s, { bytes }) => s + bytes, 0), 0),
  );
  let doneBytes = 0;
  /** Shards of the earlier build that have not been passed yet. */
  const waiting = [...state.shards];
  const finished: BuildState["shards"] = [];
  let kept = 0;

  for (const source of sources) {
    const statistics = emptyStatistics();
    /** Text without an id in the shard under way. */
    let unknown = 0;
    let writer: ShardWriter = createShardWriter(source.name, vocabSize);
    let inShard = 0;

    const close = async () => {
      if (inShard === 0) return;
      const earlier = waiting[0];
      if (earlier !== undefined) {
        if (earlier.documents !== inShard) throw new Error("internal: an earlier shard has other documents");
        waiting.shift();
        shards.push(earlier.entry);
        finished.push(earlier);
      } else {
        const file = `${String(shards.length).padStart(5, "0")}-${source.name.replace(/[^\w.-]+/g, "_")}.cpmtok`;
        const path = join(output, shardFolder, file);
        const summary = await writer.finish(path);
        const entry = { file, source: source.name, ...summary, unknown, sha256: (await fingerprint(path)).sha256 };
        shards.push(entry);
        finished.push({ documents: inShard, entry });
        await writeFileAtomic(join(output, stateFile), JSON.stringify({ key, shards: finished } satisfies BuildState));
      }
      writer = createShardWriter(source.name, vocabSize);
      inShard = 0;
      unknown = 0;
    };

    const take = async (texts: readonly Judged[], result: WorkerResult, tokenized: boolean) => {
      let idAt = 0;
      let paragraphAt = 0;
      for (const [i, { text, file, line }] of texts.entries()) {
        const ids = result.ids.subarray(idAt, (idAt += result.idCounts[i]!));
        const paragraphs = result.paragraphs.subarray(paragraphAt, (paragraphAt += result.paragraphCounts[i]!));
        const signature = result.signed[i]
          ? result.signatures.subarray(i * signatureLength, (i + 1) * signatureLength)
          : new Uint32Array(0);
        const reason =
          finder.check({ hash: result.hashes[i]!, paragraphs, signature }) ??
          leaks(leakage, text, options.leakage.action, statistics);
        if (reason !== undefined) {
          statistics.removed[reason] = (statistics.removed[reason] ?? 0) + 1;
          continue;
        }
        let document = ids;
        // Sent out before it was known that an earlier shard ends here.
        if (!tokenized && waiting.length === 0) {
          const again = await workers.run({ texts: [text], tokenize: true });
          document = again.ids;
          unknown += again.unknownCounts[0]!;
        } else unknown += result.unknownCounts[i]!;
        inShard++;
        if (waiting.length > 0) {
          kept++;
          if (inShard === waiting[0]!.documents) await close();
          continue;
        }
        const characters = result.characters[i]!;
        writer.add({ ids: document, hash: result.hashes[i]!, characters, file, line });
        if (writer.tokens >= options.shardTokens) await close();
      }
    };

    const reading = {
      ...(source.field === undefined ? {} : { field: source.field }),
      format: options.format,
      encoding: options.encoding,
      strict: input.strict ?? false,
      stdin: input.stdin,
      onBadLine: (bad: BadLine) => {
        statistics.badLines++;
        input.onBadLine?.(bad);
      },
    };
    const before = shards.length;
    for await (const { texts, result, tokenized, file } of inOrder(
      source,
      reading,
      options,
      statistics,
      workers,
      () => waiting.length === 0,
    )) {
      signal?.throwIfAborted();
      await take(texts, result, tokenized);
      const fileIndex = source.files.findIndex(({ path }) => path === file);
      const passed = source.files.slice(0, fileIndex).reduce((sum, { bytes }) => sum + bytes, 0);
      const written = sumStatistics([...described.map((each) => each.statistics)]);
      input.onProgress?.({
        done: (doneBytes + passed) / totalBytes,
        source: source.name,
        documents: written.documents + statistics.documents + inShard,
        tokens: shards.reduce((sum, shard) => sum + shard.tokens, 0) + writer.tokens,
        characters: shards.reduce((sum, shard) => sum + shard.characters, 0),
        kept,
      });
    }
    await close();
    doneBytes += source.files.reduce((sum, { bytes }) => sum + bytes, 0);
    await describeShards(output, shards.slice(before), statistics);
    described.push({
      name: source.name,
      ...(source.licence === undefined ? {} : { licence: source.licence }),
      ...(source.url === undefined ? {} : { url: source.url }),
      files: source.files.map(({ name, bytes, sha256 }) => ({ name, bytes, sha256 })),
      statistics,
    });
  }
  return { shards, sources: described };
}

/** Statistics of a source are those of its shards: an interrupted build counts like one that was not. */
async function describeShards(
  output: string,
  shards: readonly DatasetShard[],
  statistics: DatasetStatistics,
): Promise<void> {
  let unknown = 0;
  for (const { file, unknown: inShard } of shards) {
    unknown += inShard;
    const shard = openShard(join(output, shardFolder, file));
    for (let i = 0; i < shard.documents; i++) {
      const bucket = lengthBucket(shard.lengthOf(i));
      statistics.lengthHistogram[bucket] = (statistics.lengthHistogram[bucket] ?? 0) + 1;
    }
    statistics.documents += shard.documents;
    statistics.characters += shard.characters;
    statistics.tokens += shard.tokens;
    shard.close();
  }
  for (let i = 0; i < statistics.lengthHistogram.length; i++) statistics.lengthHistogram[i] ??= 0;
  statistics.tokensPerCharacter = statistics.characters === 0 ? 0 : statistics.tokens / statistics.characters;
  statistics.unknownShare = unknown / Math.max(1, statistics.tokens + unknown);
}

interface Judged {
  readonly text: string;
  readonly file: string;
  readonly line: number;
}

/** Documents of a source that the filters let pass, with the workers' results, in order; some tasks run ahead. */
async function* inOrder(
  source: OpenSource,
  reading: ReadOptions,
  options: BuildOptions,
  statistics: DatasetStatistics,
  workers: TextWorkers,
  tokenize: () => boolean,
): AsyncGenerator<{ texts: readonly Judged[]; result: WorkerResult; tokenized: boolean; file: string }> {
  const running: { texts: Judged[]; result: Promise<WorkerResult>; tokenized: boolean; file: string }[] = [];
  const ahead = 6;
  let texts: Judged[] = [];
  let size = 0;
  const send = (file: string) => {
    const tokenized = tokenize();
    const result = workers.run({ texts: texts.map(({ text }) => text), tokenize: tokenized });
    result.catch(() => {}); // seen where it is awaited
    running.push({ texts, result, tokenized, file });
    texts = [];
    size = 0;
  };
  const first = async () => {
    const task = running.shift()!;
    return { ...task, result: await task.result };
  };
  for (const { path, name } of source.files) {
    for await (const document of readDocuments([path], reading)) {
      const text = normalizeText(document.text, options.normalize);
      const reason = filterReason(text, options.filters);
      if (reason !== undefined) {
        statistics.removed[reason] = (statistics.removed[reason] ?? 0) + 1;
        continue;
      }
      texts.push({ text, file: name, line: document.line });
      size += text.length;
      if (size < taskCharacters) continue;
      send(path);
      while (running.length >= ahead) yield await first();
    }
  }
  if (texts.length > 0) send(source.files.at(-1)!.path);
  while (running.length > 0) yield await first();
}

function leaks(
  index: LeakageIndex | undefined,
  text: string,
  action: "drop" | "report",
  statistics: DatasetStatistics,
): "leakage" | undefined {
  if (index === undefined || index.matches(text) === 0) return undefined;
  if (action === "drop") return "leakage";
  statistics.removed["leakage (reported, kept)"] = (statistics.removed["leakage (reported, kept)"] ?? 0) + 1;
  return undefined;
}

/** Every string of the evaluation files; of JSON Lines all values, however deep. */
async function leakageIndex(paths: readonly string[], letters: number): Promise<LeakageIndex | undefined> {
  if (paths.length === 0) return undefined;
  const index = createLeakageIndex(letters);
  const add = (value: unknown, depth: number): void => {
    if (typeof value === "string") index.add(value);
    else if (typeof value === "object" && value !== null && depth < 8) {
      for (const item of Object.values(value)) add(item, depth + 1);
    }
  };
  for (const file of await expandPaths(paths)) {
    const isJson = /\.(jsonl|ndjson|json)(\.gz|\.zst)?$/i.test(file);
    for await (const { text } of readDocuments([file], { format: isJson ? "lines" : "auto" })) {
      try {
        add(isJson ? JSON.parse(text) : text, 0);
      } catch {
        index.add(text);
      }
    }
  }
  return index;
}
