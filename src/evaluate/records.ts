/**
 * Per-sample outputs: JSON Lines, a header and then a record for each sample, written as they come. Metrics are computed from
 * these alone, so they can be computed again, otherwise or elsewhere, without model or data.
 *
 * The header's key stands for everything that an output depends on. A file of the same key goes on where it ended: a record
 * that a stopped process left half written is cut off.
 */
import { appendFile, readFile, truncate } from "node:fs/promises";
import { z } from "zod";
import { fileErrorOf, writeFileAtomic } from "../util/atomic-file.ts";
import { DataError } from "../util/error.ts";
import { evaluationNames, normalizations } from "./options.ts";

const base = { index: z.int().min(0), id: z.string().max(400), group: z.string().max(100).optional() };

export const optionScoreSchema = z.object({
  text: z.string(),
  /** Σ ln p of its tokens. */
  logprob: z.number(),
  /** The same behind an input that says nothing of the sample, where options are compared by what it adds. */
  domainLogprob: z.number().optional(),
  /** Of its first token: what `yes` and `letter` go by. */
  logit: z.number(),
  tokens: z.int().min(1),
});
export type OptionScore = z.output<typeof optionScoreSchema>;

const choiceSchema = z
  .object({ ...base, kind: z.literal("choice"), answer: z.int().min(0), options: z.array(optionScoreSchema).min(1) })
  .refine(({ answer, options }) => answer < options.length, "the answer is no option");
const rankingSchema = z
  .object({
    ...base,
    kind: z.literal("ranking"),
    relevance: z.array(z.int().min(0).max(30)).min(1),
    options: z.array(optionScoreSchema).min(1),
  })
  .refine(({ relevance, options }) => relevance.length === options.length, "not as many grades as options");
const generationSchema = z.object({
  ...base,
  kind: z.literal("generation"),
  references: z.array(z.string()).min(1),
  text: z.string(),
  tokens: z.int().min(0),
  finish: z.string().max(20),
  /** −Σ ln p of the first reference and `</s>`, and its tokens with it. */
  answerNats: z.number().optional(),
  answerTokens: z.int().min(1).optional(),
  /** −Σ ln of those tokens' shares of the training split's answers. */
  answerUnigramNats: z.number().optional(),
  /** The first sentence of what was given: the baseline of headlines. */
  lead: z.string().optional(),
});
const textSchema = z.object({
  ...base,
  kind: z.literal("text"),
  nats: z.number(),
  /** −Σ ln of each token's share of the training split's tokens, or of all texts' where there is none. */
  unigramNats: z.number().optional(),
  tokens: z.int().min(0),
  characters: z.int().min(0),
  unknown: z.int().min(0),
});

export const recordSchema = z.discriminatedUnion("kind", [choiceSchema, rankingSchema, generationSchema, textSchema]);
export type EvaluationRecord = z.output<typeof recordSchema>;
export type ChoiceRecord = z.output<typeof choiceSchema>;
export type RankingRecord = z.output<typeof rankingSchema>;
export type GenerationRecord = z.output<typeof generationSchema>;
export type TextRecord = z.output<typeof textSchema>;

const majoritySchema = z.object({
  samples: z.int().min(0),
  option: z.int().min(0).optional(),
  answer: z.string().optional(),
});
/** What is right most often in a training split of so many samples. */
export type Majority = z.output<typeof majoritySchema>;

export const headerSchema = z.object({
  format: z.literal(1),
  /** Digest of all that outputs depend on. */
  key: z.string(),
  name: z.string(),
  task: z.enum(evaluationNames),
  /** What was evaluated, as the reports call it. */
  model: z.string().max(4000).optional(),
  /** Of perplexity none. */
  method: z.string().optional(),
  /** How likelihoods were to be compared; the records may be compared otherwise. */
  normalize: z.enum(normalizations).optional(),
  /** Counted on a training split; without one it is counted on the records. */
  majority: majoritySchema.optional(),
  /** Tokens of the vocabulary, for the baselines. */
  vocabSize: z.int().min(1),
  /** What `key` was made of, for people. */
  settings: z.unknown(),
});
export type RecordsHeader = z.output<typeof headerSchema>;

export interface RecordFile {
  readonly header: RecordsHeader;
  readonly records: readonly EvaluationRecord[];
}

/** Bytes of a file of records at most: it is read whole. */
const maxBytes = 1024 * 1024 * 1024;

/**
 * Reads a file of records; undefined where there is none.
 *
 * @param mend cut off a last line that is not whole; without it such a line is passed over
 * @throws DataError CPM_EVAL_RECORDS where it is not one, or a line other than the last is damaged
 */
export async function readRecords(path: string, mend = false): Promise<RecordFile | undefined> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (error) {
    if ((error as { code?: string }).code === "ENOENT") return undefined;
    throw fileErrorOf(error, "read", path);
  }
  if (bytes.length > maxBytes) throw damaged(path, 1, `${bytes.length} bytes`);
  const whole = bytes.lastIndexOf(0x0a) + 1;
  if (mend && whole > 0 && whole < bytes.length) await truncate(path, whole);
  const lines = bytes.subarray(0, whole).toString("utf8").split("\n").slice(0, -1);
  const header = parseLine(headerSchema, lines[0] ?? "", path, 1);
  const records = new Map<number, EvaluationRecord>();
  for (const [index, line] of lines.slice(1).entries()) {
    const record = parseLine(recordSchema, line, path, index + 2);
    records.set(record.index, record);
  }
  return { header, records: [...records.values()].sort((a, b) => a.index - b.index) };
}

function parseLine<S extends z.ZodType>(schema: S, line: string, path: string, number: number): z.output<S> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw damaged(path, number, "not JSON");
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw damaged(path, number, `${issue?.path.join(".") || "the line"}: ${issue?.message}`);
}

function damaged(path: string, line: number, got: string): DataError {
  return new DataError("CPM_EVAL_RECORDS", "a file of outputs is damaged or not one", {
    where: `${path}, line ${line}`,
    got,
    hint: "Remove the file to have its samples evaluated again.",
  });
}

export interface RecordWriter {
  add(records: readonly EvaluationRecord[]): Promise<void>;
}

/** Starts a file with its header, or goes on with one. */
export async function openRecords(path: string, header: RecordsHeader, exists: boolean): Promise<RecordWriter> {
  if (!exists) await writeFileAtomic(path, `${JSON.stringify(header)}\n`);
  return {
    async add(records) {
      if (records.length === 0) return;
      const lines = records.map((record) => `${JSON.stringify(record)}\n`).join("");
      await appendFile(path, lines).catch((error) => {
        throw fileErrorOf(error, "write", path);
      });
    },
  };
}
