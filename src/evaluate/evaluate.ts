/**
 * One evaluation from settings to records: samples read and drawn, encoded, and those that the file of records does not have
 * yet put to the model.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import {
  type Document,
  encodeSample,
  expandPaths,
  readDocuments,
  readTaskSamples,
  renderDomain,
  type Task,
  type TaskSample,
  type TaskTemplate,
  tasks,
} from "../data/index.ts";
import { fileErrorOf } from "../util/atomic-file.ts";
import { ConfigError, DataError } from "../util/error.ts";
import { createRandom } from "../util/random.ts";
import type { EvaluatedModel } from "./model.ts";
import type { EvaluationSettings } from "./options.ts";
import { type EvaluationRecord, openRecords, type RecordFile, type RecordsHeader, readRecords } from "./records.ts";
import { type NumberedSample, scoreOptions, writeAnswers } from "./run-samples.ts";
import { scoreTexts } from "./run-texts.ts";
import { answerFrequencies, majorityOf, textFrequencies } from "./training-split.ts";

export interface EvaluationHooks {
  readonly signal?: AbortSignal | undefined;
  /** The share of the work that is done, and samples with outputs of all, those that were there already included. */
  readonly onProgress?: ((share: number, samples: number, all: number) => void) | undefined;
}

export interface EvaluationOutcome extends RecordFile {
  /** Records that were there before. */
  readonly reused: number;
  /** Samples of which something had to be cut, and characters that the vocabulary could not spell; of those run now. */
  readonly cut: number;
  readonly unknownCount: number;
}

/** The settings' name: of files and in tables. */
export function evaluationName({ name, task }: Pick<EvaluationSettings, "name" | "task">): string {
  return name ?? task;
}

/**
 * Runs an evaluation and keeps its records in a file; what the file has already is not run again.
 *
 * @throws DataError CPM_EVAL_EMPTY where there is no sample, CPM_EVAL_SETTINGS where the file is of other settings, weights
 * or data; those of reading, encoding and running
 */
export async function runEvaluation(
  model: EvaluatedModel,
  settings: EvaluationSettings,
  path: string,
  hooks: EvaluationHooks = {},
): Promise<EvaluationOutcome> {
  const files = await expandPaths(settings.data);
  return settings.task === "perplexity"
    ? await runPerplexity(model, settings, files, path, hooks)
    : await runTask(model, settings, tasks[settings.task], files, path, hooks);
}

async function runTask(
  model: EvaluatedModel,
  settings: EvaluationSettings,
  task: Task,
  files: readonly string[],
  path: string,
  hooks: EvaluationHooks,
): Promise<EvaluationOutcome> {
  const { signal } = hooks;
  const template = templateOf(task, settings.template);
  const lengthTokens = settings.lengthTokens ?? task.lengthTokens;
  const answerTokens = settings.answerTokens ?? task.answerTokens;
  const all = await Array.fromAsync(readTaskSamples(task, files, { signal }));
  if (all.length === 0) throw empty(files);
  const { shots, separator } = await drawShots(task, settings, signal);
  // A sample must not stand before itself with its answer, where both come from one file.
  const shown = new Set(shots.map(({ id }) => id));
  const chosen = drawSamples(all, settings).filter(({ sample }) => !shown.has(sample.id));
  const decoding = { ...settings.decoding, maxTokens: answerTokens };
  const comparesLikelihoods = template.method === "likelihood";
  const domain = comparesLikelihoods && settings.normalize === "pmi" ? renderDomain(template) : undefined;
  const described = {
    weights: model.digest,
    task: task.name,
    template,
    lengthTokens,
    answerTokens,
    ...(shots.length > 0 && { shots: shots.map(({ id }) => id), separator }),
    ...(task.kind === "generation" && { decoding }),
    ...(domain !== undefined && { domain }),
    ...(await trainDigests(settings)),
    data: await Promise.all(files.map(fileDigest)),
  };
  const split =
    settings.train && (await Array.fromAsync(readTaskSamples(task, await expandPaths(settings.train), { signal })));
  if (split?.length === 0) throw empty(settings.train!);
  const header = headerOf(settings, template.method, model, described);
  const file = await openFor(path, { ...header, ...(split && { majority: majorityOf(task, split) }) });
  const missing = chosen.filter(({ index }) => !file.known.has(index));
  let cut = 0;
  let unknownCount = 0;
  const limits = { lengthTokens, answerTokens, shots, separator };
  const encoded = missing.map(({ index, sample }): NumberedSample => {
    const one = encodeSample(sample, template, model.tokenizer, limits);
    if (one.cut) cut++;
    unknownCount += one.unknownCount;
    return { index, encoded: one };
  });
  const run = file.collect(chosen.length, hooks);
  if (task.kind === "generation") {
    const withLead = task.name === "headline" || task.name === "lcsts";
    const unigram = split && answerFrequencies(split, template, model.tokenizer, answerTokens);
    await writeAnswers(model, encoded, decoding, { ...run, withLead, unigram });
  } else
    await scoreOptions(model, encoded, { ...run, domain: domain === undefined ? undefined : domainIds(model, domain) });
  const numbers = new Set(chosen.map(({ index }) => index));
  return { ...file.outcome(numbers), reused: chosen.length - missing.length, cut, unknownCount };
}

/** `<s>` and the text of an input without a sample, of which nothing may be left. */
function domainIds({ tokenizer }: EvaluatedModel, text: string): Int32Array {
  return Int32Array.of(tokenizer.bosId, ...tokenizer.encode(text, { unknown: "drop" }).ids);
}

async function runPerplexity(
  model: EvaluatedModel,
  settings: EvaluationSettings,
  files: readonly string[],
  path: string,
  hooks: EvaluationHooks,
): Promise<EvaluationOutcome> {
  const { window, stride, limit, seed } = settings;
  if (stride >= window) {
    throw new ConfigError("CPM_EVAL_WINDOW", "windows of text would leave gaps or have no context", {
      got: `stride ${stride}, window ${window}`,
      expected: "a stride below the window",
    });
  }
  const { signal } = hooks;
  const all = await readTexts(files, signal);
  const chosen = drawSamples(all, settings).map(({ sample }) => sample);
  const described = {
    weights: model.digest,
    task: "perplexity",
    window,
    stride,
    // The unigram baseline is of the texts that were drawn.
    ...(limit !== undefined && limit < all.length && { limit, seed }),
    ...(await trainDigests(settings)),
    data: await Promise.all(files.map(fileDigest)),
  };
  const split = settings.train && (await readTexts(await expandPaths(settings.train), signal));
  const header = headerOf(settings, undefined, model, described);
  const file = await openFor(path, { ...header, ...(split && { majority: { samples: split.length } }) });
  const unigram = split && textFrequencies(split, model.tokenizer);
  await scoreTexts(model, chosen, file.known, { window, stride }, file.collect(chosen.length, hooks), unigram);
  const outcome = file.outcome(new Set(chosen.keys()));
  const unknownCount = outcome.records.reduce((sum, record) => sum + (record.kind === "text" ? record.unknown : 0), 0);
  return { ...outcome, reused: file.known.size, cut: 0, unknownCount };
}

async function readTexts(files: readonly string[], signal: AbortSignal | undefined): Promise<readonly Document[]> {
  const all: Document[] = [];
  for await (const document of readDocuments(files, { strict: true })) {
    signal?.throwIfAborted();
    all.push(document);
  }
  if (all.length === 0) throw empty(files);
  return all;
}

async function trainDigests({ train }: EvaluationSettings): Promise<{ readonly train?: readonly string[] }> {
  return train === undefined ? {} : { train: await Promise.all((await expandPaths(train)).map(fileDigest)) };
}

/** A task's template by name, or a template of one's own; the task's first where none is named. */
export function templateOf(task: Task, wanted: EvaluationSettings["template"]): TaskTemplate {
  if (typeof wanted === "object") return wanted;
  const name = wanted ?? Object.keys(task.templates)[0]!;
  if (Object.hasOwn(task.templates, name)) return task.templates[name]!;
  throw new ConfigError("CPM_TASK_TEMPLATE", "the task has no such template", {
    where: task.name,
    got: name,
    expected: Object.keys(task.templates).join(", "),
  });
}

/** The first `limit` of a shuffle, in the order of the file: of the same seed, a larger limit gives these and others. */
function drawSamples<S>(
  all: readonly S[],
  { limit, seed }: Pick<EvaluationSettings, "limit" | "seed">,
): { readonly index: number; readonly sample: S }[] {
  let numbers = Int32Array.from({ length: all.length }, (_, index) => index);
  if (limit !== undefined && limit < all.length) {
    numbers = createRandom(seed, "samples").shuffle(numbers).slice(0, limit).sort();
  }
  return Array.from(numbers, (index) => ({ index, sample: all[index]! }));
}

async function drawShots(
  task: Task,
  { shots }: EvaluationSettings,
  signal: AbortSignal | undefined,
): Promise<{ readonly shots: readonly TaskSample[]; readonly separator?: string }> {
  if (shots === undefined) return { shots: [] };
  const all = await Array.fromAsync(readTaskSamples(task, await expandPaths([shots.data]), { signal }));
  if (all.length < shots.count) {
    throw new DataError("CPM_EVAL_EMPTY", "there are not as many solved examples", {
      where: shots.data,
      got: String(all.length),
      expected: String(shots.count),
    });
  }
  const order = createRandom(shots.seed, "shots").shuffle(Int32Array.from({ length: all.length }, (_, index) => index));
  return { shots: Array.from(order.slice(0, shots.count), (index) => all[index]!), separator: shots.separator ?? "\n" };
}

function headerOf(
  settings: EvaluationSettings,
  method: string | undefined,
  model: EvaluatedModel,
  described: object,
): RecordsHeader {
  const key = createHash("sha256").update(JSON.stringify(described)).digest("hex");
  return {
    format: 1,
    key,
    name: evaluationName(settings),
    task: settings.task,
    model: model.name,
    ...(method !== undefined && { method }),
    ...(method === "likelihood" && { normalize: settings.normalize }),
    vocabSize: model.config.vocabSize,
    settings: described,
  };
}

/** The file of records: what it has, and where the rest goes. */
async function openFor(path: string, header: RecordsHeader) {
  const found = await readRecords(path, true);
  if (found !== undefined && found.header.key !== header.key) {
    throw new ConfigError("CPM_EVAL_SETTINGS", "outputs of other settings, weights or data are kept here", {
      where: path,
      got: changed(found.header.settings, header.settings),
      hint: "Give another --output, or remove this file.",
    });
  }
  const records = new Map<number, EvaluationRecord>(found?.records.map((record) => [record.index, record]));
  const known: ReadonlySet<number> = new Set(records.keys());
  const writer = await openRecords(path, header, found !== undefined);
  return {
    known,
    collect: (all: number, { signal, onProgress }: EvaluationHooks) => ({
      signal,
      async onRecords(added: readonly EvaluationRecord[]) {
        await writer.add(added);
        for (const record of added) records.set(record.index, record);
      },
      onShare: (share: number) => onProgress?.(share, Math.min(all, records.size), all),
    }),
    outcome: (numbers: ReadonlySet<number>): RecordFile => ({
      header,
      records: [...records.values()].filter(({ index }) => numbers.has(index)).sort((a, b) => a.index - b.index),
    }),
  };
}

/** The names of what differs. */
function changed(before: unknown, now: unknown): string {
  const [a, b] = [before ?? {}, now ?? {}] as [Record<string, unknown>, Record<string, unknown>];
  const names = [...new Set([...Object.keys(a), ...Object.keys(b)])];
  return names.filter((name) => JSON.stringify(a[name]) !== JSON.stringify(b[name])).join(", ") || "another format";
}

async function fileDigest(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash).catch((error) => {
    throw fileErrorOf(error, "read", path);
  });
  return hash.digest("hex");
}

function empty(files: readonly string[]): DataError {
  return new DataError("CPM_EVAL_EMPTY", "there is nothing to evaluate", { where: files.join(", ") });
}
