/** What an evaluation is asked for: one schema for recipes and flags. */
import { z } from "zod";
import { taskNames, templateSchema } from "../data/tasks/index.ts";

/** Beside the tasks: bits per character of any text. */
export const evaluationNames = [...taskNames, "perplexity"] as const;
export type EvaluationName = (typeof evaluationNames)[number];

/**
 * Which figure of an option decides where likelihoods are compared: the sum of ln p, its mean over tokens or characters, or
 * `pmi`, how much likelier the sample makes it: Σ ln p(option | input) − Σ ln p(option | input without the sample). The last
 * is domain-conditional pointwise mutual information (Holtzman et al. 2021, "Surface Form Competition") and does not go by how
 * usual an option is by itself.
 */
export const normalizations = ["sum", "tokens", "characters", "pmi"] as const;
export type Normalization = (typeof normalizations)[number];

export const shotsSchema = z.strictObject({
  count: z.int().min(1).max(64),
  /** Where they are drawn from: other samples than those that are evaluated. */
  data: z.string().min(1),
  seed: z.int().min(0).default(1),
  /** Stands after each; a line feed where none is given. */
  separator: z.string().max(1000).optional(),
});

export const decodingSchema = z.strictObject({
  /** The original's inference is beam search of three. */
  mode: z.enum(["greedy", "sample", "beam"]).default("beam"),
  beamSize: z.int().min(1).max(64).default(3),
  lengthPenalty: z.number().min(0).default(1),
  temperature: z.number().min(0).default(0.9),
  topK: z.int().min(0).default(0),
  topP: z.number().gt(0).max(1).default(0.9),
  repetitionPenalty: z.number().min(1).default(1),
  repetitionWindow: z.int().min(0).default(0),
  minTokens: z.int().min(0).default(0),
  seed: z.int().min(0).default(0),
  stop: z.array(z.string().min(1)).default([]),
});

const named = z
  .string()
  .regex(/^[\p{L}\p{N}][\p{L}\p{N}._-]{0,63}$/u, "letters, digits, dots, underscores and hyphens, at most 64");

const filesSchema = z.union([
  z
    .string()
    .min(1)
    .transform((path) => [path]),
  z.array(z.string().min(1)).min(1),
]);

export const evaluationSchema = z.strictObject({
  task: z.enum(evaluationNames),
  /** Of the files and in tables; the task's where it is not given. */
  name: named.optional(),
  data: filesSchema,
  /** The training split: the majority baseline is counted on it, and not on the samples that are evaluated. */
  train: filesSchema.optional(),
  /** One of the task's, by name, or a template of one's own. */
  template: z.union([z.string().min(1), templateSchema]).optional(),
  /** So many samples, drawn by `seed`; more of the same seed are these and others. */
  limit: z.int().min(1).optional(),
  seed: z.int().min(0).default(1),
  /** Longest row in tokens, without the soft prompt; by default as the original tuned the task. */
  lengthTokens: z.int().min(8).max(65536).optional(),
  answerTokens: z.int().min(1).max(4096).optional(),
  shots: shotsSchema.optional(),
  normalize: z.enum(normalizations).default("tokens"),
  decoding: decodingSchema.prefault({}),
  /** Perplexity: tokens of a window, and how far the next one is moved. */
  window: z.int().min(8).max(65536).default(512),
  stride: z.int().min(1).max(65536).default(256),
});
export type EvaluationSettings = z.output<typeof evaluationSchema>;

export const resamplingSchema = z.strictObject({
  seed: z.int().min(0).default(1),
  draws: z.int().min(100).max(100_000).default(1000),
  level: z.number().gt(0.5).lt(1).default(0.95),
});
