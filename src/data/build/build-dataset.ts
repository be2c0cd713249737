/**
 * Text files in, a data set out: read, normalise, filter, leave out what repeats or leaks, tokenise on all cores, write
 * shards, describe.
 *
 * Documents go through in the order of sources, files and lines. Workers do what is a pure function of a text; whether a
 * document stays is decided here, one after the other, so the data set is the same for any number of workers. A shard that
 * was finished before an interruption is kept: its documents are read and judged again, which is quick, and compared with
 * what the shard holds; only then does tokenising go on. So the result is byte for byte that of a build without
 * interruption.
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { parseVocabulary } from "../../tokenizer/index.ts";
import { writeFileAtomic } from "../../util/atomic-file.ts";
import { ConfigError, DataError } from "../../util/error.ts";
import {
  countLength,
  type Dataset,
  type DatasetDescription,
  type DatasetShard,
  type DatasetSource,
  type DatasetStatistics,
  emptyStatistics,
  openDataset,
  shardFolder,
  shardSchema,
  sumStatistics,
  vocabularyFile,
  writeDescription,
} from "../dataset.ts";
import { type BadLine, type ReadOptions, readDocuments } from "../read-documents.ts";
import { stdinName } from "../text-lines.ts";
import { createShardWriter, openShard, type ShardWriter } from "../token-shard.ts";
import { type BuildFolder, openBuildFolder } from "./build-folder.ts";
import {
  type BuildOptions,
  type FoundSource,
  findSources,
  fingerprint,
  fingerprinted,
  type SourceInput,
} from "./build-options.ts";
import { createDuplicateFinder, type DuplicateFinder } from "./duplicates.ts";
import { filterReason } from "./filters.ts";
import { readLeakageIndex } from "./leakage.ts";
import { signatureLength } from "./minhash.ts";
import { normalizeText } from "./normalize.ts";
import { createPrintsWriter, readPrints } from "./prints-file.ts";
import type { WorkerResult } from "./text-worker.ts";
import { startTextWorkers, type TextWorkers } from "./worker-pool.ts";

export interface BuildInput {
  readonly sources: readonly SourceInput[];
  readonly output: string;
  /** The vocabulary file's text. */
  readonly vocabulary: string;
  readonly options: BuildOptions;
  /** Threads beside this one. */
  readonly workers: number;
  /**
   * Add to the finished data set in `output`, which a run may be reading: shards are only appended. What its texts have already
   * stays out, as if all had been built at once; of shards without prints only equal texts are found.
   */
  readonly append?: boolean | undefined;
  readonly strict?: boolean | undefined;
  readonly stdin?: ReadOptions["stdin"];
  readonly signal?: AbortSignal | undefined;
  /** A line that cannot be used, also of an evaluation file. */
  onBadLine?(bad: BadLine): void;
  /** A document that shares text with the evaluation files. */
  onLeak?(leak: { readonly file: string; readonly line: number }): void;
  /** Documents of the data set to be added to that are known by their hashes alone, where more was asked for. */
  onHashesAlone?(documents: number): void;
  onProgress?(progress: BuildProgress): void;
}

export interface BuildProgress {
  /** Share of the input's bytes. */
  readonly done: number;
  readonly source: string;
  /** Of the data set so far, what is in its shards already included. */
  readonly documents: number;
  readonly tokens: number;
  /** Tokens that were made since this build began or went on. */
  readonly newTokens: number;
  /** Documents of shards that an earlier build had finished. */
  readonly kept: number;
}

/** Characters of text that go to a worker at once. */
const taskCharacters = 1 << 16;
/** Tasks that are under way at once, so that all workers have some. */
const tasksAhead = (workers: number) => 2 * workers + 2;

/**
 * @throws ConfigError CPM_DATA_BUILD_OUTPUT where the folder holds something else, or an interrupted build had other input;
 * DataError CPM_DATA_EMPTY where nothing is left; CancelledError when the signal aborts (run again to go on); those of the
 * readers and the tokenizer
 */
export async function buildDataset(input: BuildInput): Promise<DatasetDescription> {
  const { output, vocabulary, options } = input;
  const tokens = parseVocabulary(new TextEncoder().encode(vocabulary));
  const vocabularySha = createHash("sha256").update(vocabulary).digest("hex");
  const sources = await findSources(input.sources);
  const base = input.append ? await openDataset(output) : undefined;
  let folder: BuildFolder | undefined;
  let workers: TextWorkers | undefined;
  try {
    if (base !== undefined && base.description.tokenizer.sha256 !== vocabularySha) {
      throw new ConfigError("CPM_DATA_BUILD_OUTPUT", "The data set to be added to has another vocabulary", {
        where: output,
        hint: "Add to a data set without --vocab: its own vocabulary is taken.",
      });
    }
    folder = await openBuildFolder(output, await buildKey(options, vocabularySha, sources), input.append ?? false);
    if (base !== undefined && isPartOf(folder, base)) {
      await folder.finish(); // it was interrupted between its last two steps
      return base.description;
    }
    if (base === undefined) await writeFileAtomic(join(output, vocabularyFile), vocabulary);
    const { unknown, duplicates } = options;
    workers = startTextWorkers(input.workers, { vocabulary, unknown, duplicates });
    const built = await runSources(input, sources, workers, tokens.size, folder, base);
    if (built.shards.length === 0) {
      await folder.abandon();
      throw new DataError("CPM_DATA_EMPTY", "No document is left for the data set", {
        where: output,
        got: JSON.stringify(sumStatistics(built.sources.map(({ statistics }) => statistics)).removed),
        hint: "Look at the reasons, and loosen the filters where they are wrong for this text.",
      });
    }
    const all = mergeSources([...(base?.description.sources ?? []), ...built.sources]);
    const description: DatasetDescription = {
      format: 1,
      tokenizer: {
        kind: "cpm-ant",
        vocabSize: tokens.size,
        sha256: vocabularySha,
        bosId: tokens.ids.get("<s>")!,
        eosId: tokens.ids.get("</s>")!,
      },
      options: base?.description.options ?? { ...options },
      sources: all,
      shards: [...(base?.description.shards ?? []), ...built.shards],
      statistics: sumStatistics(all.map((source) => source.statistics)),
    };
    await writeDescription(output, description);
    await folder.finish();
    return description;
  } finally {
    await workers?.close();
    folder?.close();
    base?.close();
  }
}

/** Builds with one key give the same data set, as far as that can be told without reading all input. */
async function buildKey(
  options: BuildOptions,
  vocabularySha: string,
  sources: readonly FoundSource[],
): Promise<string> {
  const evaluation = [];
  for (const { files } of await findSources([{ name: "evaluation", paths: options.leakage.files }]))
    evaluation.push(files);
  const inputs = sources.map(({ name, field, files, documentsOf }) => [
    name,
    field,
    files.map((file) => [file.name, file.sha256, documentsOf?.get(file.path)]),
  ]);
  return createHash("sha256")
    .update(JSON.stringify([options, vocabularySha, inputs, evaluation]))
    .digest("hex");
}

/** Whether the shards of the interrupted build are in the data set already. */
function isPartOf({ earlier }: BuildFolder, { description }: Dataset): boolean {
  const known = new Set(description.shards.map(({ sha256 }) => sha256));
  return earlier.length > 0 && earlier.every(({ entry }) => known.has(entry.sha256));
}

/** Sources of one name become one. */
function mergeSources(sources: readonly DatasetSource[]): DatasetSource[] {
  const merged = new Map<string, DatasetSource>();
  for (const source of sources) {
    const before = merged.get(source.name);
    if (before === undefined) merged.set(source.name, source);
    else {
      const statistics = sumStatistics([before.statistics, source.statistics]);
      merged.set(source.name, { ...before, ...source, files: [...before.files, ...source.files], statistics });
    }
  }
  return [...merged.values()];
}

async function runSources(
  input: BuildInput,
  sources: readonly FoundSource[],
  workers: TextWorkers,
  vocabSize: number,
  folder: BuildFolder,
  base: Dataset | undefined,
) {
  const { output, options, signal } = input;
  const finder = createDuplicateFinder(options.duplicates);
  if (base !== undefined) await rememberShards(finder, base, input);
  const leakage = await readLeakageIndex(options.leakage, input.onBadLine);
  const shards: DatasetShard[] = [];
  const described: DatasetSource[] = [];
  const bytesOf = (files: FoundSource["files"]) => files.reduce((sum, { bytes }) => sum + bytes, 0);
  const totalBytes = sources.reduce((sum, { files }) => sum + bytesOf(files), 0);
  let doneBytes = 0;
  /** Shards of the earlier build that have not been passed yet. */
  const waiting = [...folder.earlier];
  let kept = 0;
  let newTokens = 0;
  const start = base?.shards.length ?? 0;
  const bytesOfPrints = (entries: readonly DatasetShard[]) =>
    entries.reduce((sum, { prints }) => sum + (prints?.bytes ?? 0), 0);
  const basePrintsBytes = bytesOfPrints(base?.description.shards ?? []);

  for (const source of sources) {
    const statistics = emptyStatistics();
    /** Text without an id in the shard under way. */
    let unknown = 0;
    let writer: ShardWriter = createShardWriter(source.name, vocabSize);
    let prints = createPrintsWriter();
    let inShard = 0;

    const close = async () => {
      if (inShard === 0) return;
      const earlier = waiting.shift();
      const room = options.duplicates.keptBytes - basePrintsBytes - bytesOfPrints(shards);
      if (earlier !== undefined) {
        const { entry } = earlier;
        if (entry.documents !== inShard) throw changedInput(output, entry.file);
        // Made again with the judgements, so they need no checking.
        shards.push({ ...entry, prints: await prints.finish(output, entry.file, room) });
      } else {
        const number = String(start + shards.length).padStart(5, "0");
        const file = `${number}-${source.name.replace(/[^\w.-]+/g, "_")}.cpmtok`;
        const path = join(output, shardFolder, file);
        const summary = await writer.finish(path);
        const { sha256 } = await fingerprint(path);
        const kept = await prints.finish(output, file, room);
        // Parsed, so that its keys come in the order in which a later build will read them.
        shards.push(shardSchema.parse({ file, source: source.name, ...summary, unknown, sha256, prints: kept }));
        await folder.save(shards);
      }
      writer = createShardWriter(source.name, vocabSize);
      prints = createPrintsWriter();
      inShard = 0;
      unknown = 0;
    };

    const take = async ({ texts, result, tokenized }: Task<WorkerResult>) => {
      let idAt = 0;
      let paragraphAt = 0;
      for (const [i, { text, file, line }] of texts.entries()) {
        const hash = result.hashes[i]!;
        let ids = result.ids.subarray(idAt, (idAt += result.idCounts[i]!));
        const paragraphs = result.paragraphs.subarray(paragraphAt, (paragraphAt += result.paragraphCounts[i]!));
        const signature = result.signatures.subarray(i * signatureLength, (result.signed[i]! + i) * signatureLength);
        let reason: string | undefined = finder.check({ hash, paragraphs, signature });
        if (reason === undefined && (leakage?.matches(text) ?? 0) > 0) {
          statistics.leaking++;
          input.onLeak?.({ file, line });
          if (options.leakage.action === "drop") reason = "leakage";
        }
        if (reason !== undefined) {
          statistics.removed[reason] = (statistics.removed[reason] ?? 0) + 1;
          continue;
        }
        inShard++;
        prints.add({ paragraphs, signature });
        const earlier = waiting[0];
        if (earlier !== undefined) {
          const { shard, entry } = earlier;
          if (shard.source !== source.name || shard.hashOf(inShard - 1) !== hash)
            throw changedInput(output, entry.file);
          kept++;
          if (inShard === entry.documents) await close();
          continue;
        }
        unknown += result.unknownCounts[i]!;
        if (!tokenized) {
          // Sent out before it was known that the earlier shards end here.
          const again = await workers.run({ texts: [text], tokenize: true });
          ids = again.ids;
          unknown += again.unknownCounts[0]!;
        }
        newTokens += ids.length;
        writer.add({ ids, hash, characters: result.characters[i]!, file, line });
        if (writer.tokens >= options.shardTokens) await close();
      }
    };

    const standardInput = input.stdin === undefined ? undefined : fingerprinted(input.stdin);
    const reading: ReadOptions = {
      ...(source.field === undefined ? {} : { field: source.field }),
      format: options.format,
      encoding: options.encoding,
      strict: input.strict ?? false,
      stdin: standardInput?.stream,
      onBadLine: (bad: BadLine) => {
        statistics.badLines++;
        input.onBadLine?.(bad);
      },
    };
    const before = shards.length;
    const context = { source, reading, options, statistics, workers, ahead: tasksAhead(input.workers) };
    for await (const task of tasksInOrder(context, () => waiting.length === 0)) {
      signal?.throwIfAborted();
      await take(task);
      const sum = (key: "documents" | "tokens") => shards.reduce((total, shard) => total + shard[key], 0);
      input.onProgress?.({
        done: totalBytes === 0 ? 0 : Math.min(1, (doneBytes + task.readBytes) / totalBytes),
        source: source.name,
        documents: sum("documents") + inShard,
        tokens: sum("tokens") + writer.tokens,
        newTokens,
        kept,
      });
    }
    await close();
    doneBytes += bytesOf(source.files);
    await describeShards(output, shards.slice(before), statistics, options.unknown === "keep");
    described.push({
      name: source.name,
      ...(source.licence === undefined ? {} : { licence: source.licence }),
      ...(source.url === undefined ? {} : { url: source.url }),
      files: source.files.map(({ path, name, bytes, sha256 }) =>
        path === stdinName && standardInput ? { name, ...standardInput.print() } : { name, bytes, sha256 },
      ),
      statistics,
    });
  }
  if (waiting.length > 0) throw changedInput(output, waiting[0]!.entry.file);
  return { shards, sources: described };
}

/** What the data set to be added to has, as far as it was kept. */
async function rememberShards(
  finder: DuplicateFinder,
  { folder, shards, description }: Dataset,
  { options: { duplicates }, onHashesAlone }: BuildInput,
): Promise<void> {
  const comparesMore = duplicates.paragraphShare > 0 || duplicates.similarity > 0;
  let hashesAlone = 0;
  for (const [i, entry] of description.shards.entries()) {
    const shard = shards[i]!;
    const prints = comparesMore && entry.prints !== undefined ? await readPrints(folder, entry) : undefined;
    if (comparesMore && prints === undefined) hashesAlone += shard.documents;
    for (let document = 0; document < shard.documents; document++) {
      finder.remember({ hash: shard.hashOf(document), ...(prints?.[document] ?? noPrints) });
    }
  }
  if (hashesAlone > 0) onHashesAlone?.(hashesAlone);
}

const noPrints = { paragraphs: new Float64Array(0), signature: new Uint16Array(0) };

function changedInput(output: string, file: string): ConfigError {
  return new ConfigError("CPM_DATA_BUILD_OUTPUT", "An interrupted build cannot go on: its input is another one now", {
    where: join(output, shardFolder, file),
    expected: "the same documents in the same order",
    hint: "Remove the output folder and build again.",
  });
}

/** Statistics of a source are those of its shards: an interrupted build counts like one that was not. */
async function describeShards(
  output: string,
  shards: readonly DatasetShard[],
  statistics: DatasetStatistics,
  unknownHasId: boolean,
): Promise<void> {
  for (const { file, unknown } of shards) {
    statistics.unknown += unknown;
    const shard = openShard(join(output, shardFolder, file));
    for (let i = 0; i < shard.documents; i++) countLength(statistics.lengthHistogram, shard.lengthOf(i));
    statistics.documents += shard.documents;
    statistics.characters += shard.characters;
    statistics.tokens += shard.tokens;
    shard.close();
  }
  const pieces = statistics.tokens + (unknownHasId ? 0 : statistics.unknown);
  statistics.tokensPerCharacter = statistics.characters === 0 ? 0 : statistics.tokens / statistics.characters;
  statistics.unknownShare = statistics.unknown / Math.max(1, pieces);
}

interface Judged {
  readonly text: string;
  readonly file: string;
  readonly line: number;
}

interface Task<R> {
  readonly texts: readonly Judged[];
  readonly result: R;
  readonly tokenized: boolean;
  /** Bytes of the source that were read when the task was sent. */
  readonly readBytes: number;
}

/** Documents of a source that the filters let pass, with the workers' results, in order; some tasks run ahead. */
async function* tasksInOrder(
  context: {
    readonly source: FoundSource;
    readonly reading: ReadOptions;
    readonly options: BuildOptions;
    readonly statistics: DatasetStatistics;
    readonly workers: TextWorkers;
    readonly ahead: number;
  },
  tokenize: () => boolean,
): AsyncGenerator<Task<WorkerResult>> {
  const { source, reading, options, statistics, workers, ahead } = context;
  const running: Task<Promise<WorkerResult>>[] = [];
  let texts: Judged[] = [];
  let size = 0;
  let passedBytes = 0;
  let fileBytes = 0;
  const send = () => {
    const tokenized = tokenize();
    const result = workers.run({ texts: texts.map(({ text }) => text), tokenize: tokenized });
    result.catch(() => {}); // seen where it is awaited
    running.push({ texts, result, tokenized, readBytes: passedBytes + fileBytes });
    texts = [];
    size = 0;
  };
  const first = async () => {
    const task = running.shift()!;
    return { ...task, result: await task.result };
  };
  for (const { path, name, bytes } of source.files) {
    const limit = source.documentsOf?.get(path) ?? Number.POSITIVE_INFINITY;
    let documents = 0;
    for await (const document of readDocuments([path], { ...reading, onBytes: (read) => void (fileBytes = read) })) {
      if (++documents > limit) break;
      const text = normalizeText(document.text, options.normalize);
      const reason = filterReason(text, options.filters);
      if (reason !== undefined) {
        statistics.removed[reason] = (statistics.removed[reason] ?? 0) + 1;
        continue;
      }
      texts.push({ text, file: name, line: document.line });
      size += text.length;
      if (size < taskCharacters) continue;
      send();
      while (running.length >= ahead) yield await first();
    }
    passedBytes += bytes;
    fileBytes = 0;
  }
  if (texts.length > 0) send();
  while (running.length > 0) yield await first();
}
