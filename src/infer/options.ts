/**
 * The settings of generation: one schema gives the types, the checks, the command line's help and an API's parameters.
 * Defaults are those of CPM-Live's own generation (100 tokens, temperature 0.9, top-p 0.9, no top-k, beam of 3).
 * Descriptions are English; `zh` in the metadata is the Chinese wording.
 */
import { z } from "zod";
import { ConfigError } from "../util/error.ts";
import { ResponseFormatSchema } from "./constraint/response-format.ts";

const described = (description: string, zh: string) => ({ description, zh });

export const GenerateOptionsSchema = z
  .strictObject({
    mode: z
      .enum(["greedy", "sample", "beam"])
      .default("sample")
      .meta(
        described(
          "How the next token is chosen: the most probable one, a draw, or beam search",
          "选词方式：取概率最大者、随机采样或束搜索",
        ),
      ),
    maxTokens: z.int().min(1).default(100).meta(described("Longest text to generate, in tokens", "最多生成的词元数")),
    minTokens: z
      .int()
      .min(0)
      .default(0)
      .meta(described("End tokens are forbidden before this many tokens", "生成满这么多词元之前不许结束")),
    temperature: z
      .number()
      .min(0)
      .max(100)
      .default(0.9)
      .meta(
        described(
          "Sampling: logits are divided by it; 0 takes the most probable token",
          "采样温度：对数几率除以它；0 表示取概率最大者",
        ),
      ),
    topK: z
      .int()
      .min(0)
      .default(0)
      .meta(
        described(
          "Sampling: only the k most probable tokens; 0 means all",
          "采样时只留概率最大的 k 个词元；0 表示不限",
        ),
      ),
    topP: z
      .number()
      .gt(0)
      .max(1)
      .default(0.9)
      .meta(
        described(
          "Sampling: only the most probable tokens until their probabilities add up to more than this",
          "采样时从最可能的词元取起，直到概率之和超过此值",
        ),
      ),
    repetitionPenalty: z
      .number()
      .min(1)
      .default(1)
      .meta(
        described(
          "Logits of tokens already generated are divided by it if positive and multiplied if negative; 1 means none",
          "重复惩罚：已生成词元的对数几率，正的除以它，负的乘以它；1 表示不惩罚",
        ),
      ),
    repetitionWindow: z
      .int()
      .min(0)
      .default(0)
      .meta(
        described(
          "The penalty looks at this many last generated tokens; 0 means all of them",
          "重复惩罚只看最近生成的这么多词元；0 表示全部",
        ),
      ),
    presencePenalty: z
      .number()
      .min(-2)
      .max(2)
      .default(0)
      .meta(
        described(
          "Subtracted from the logits of tokens already generated; negative values favour them",
          "从已生成词元的对数几率中减去此数；负数反而鼓励重复",
        ),
      ),
    frequencyPenalty: z
      .number()
      .min(-2)
      .max(2)
      .default(0)
      .meta(
        described(
          "Subtracted from the logits of tokens already generated, as often as each was",
          "从已生成词元的对数几率中减去此数乘以它已出现的次数",
        ),
      ),
    beamSize: z
      .int()
      .min(1)
      .max(1024)
      .default(3)
      .meta(described("Beam search: hypotheses kept at each step", "束搜索的宽度")),
    lengthPenalty: z
      .number()
      .min(0)
      .default(1)
      .meta(
        described(
          "Beam search: a hypothesis scores its summed log probability divided by its length to this power",
          "束搜索的长度惩罚：得分为对数概率之和除以长度的这个次方",
        ),
      ),
    samples: z
      .int()
      .min(1)
      .max(1024)
      .default(1)
      .meta(
        described(
          "Texts for each prompt (with beam search: the best so many, at most beamSize)",
          "每个输入生成几篇（束搜索时为最好的几篇，不超过束宽）",
        ),
      ),
    seed: z
      .int()
      .min(0)
      .default(0)
      .meta(
        described(
          "Seed of sampling: the same seed, prompt and settings give the same text",
          "采样的随机种子：种子、输入与设置相同则结果相同",
        ),
      ),
    stop: z
      .array(z.string().min(1))
      .default([])
      .meta(
        described(
          "Generation of a text ends before any of these strings; they are not shown",
          "遇到其中任一字符串即停止，且不显示它",
        ),
      ),
    stopIds: z
      .array(z.int().min(0))
      .default([])
      .meta(described("Token ids that end a text, beside the end token", "除结束符外，遇到这些词元编号也停止")),
    forbiddenIds: z
      .array(z.int().min(0))
      .default([])
      .meta(described("Token ids that are never generated", "绝不生成的词元编号")),
    allowEmpty: z
      .boolean()
      .default(false)
      .meta(
        described(
          "Let the first token be an end token or a newline, which the original forbids",
          "允许第一个词元就是结束符或换行（原实现不允许）",
        ),
      ),
    logitBias: z
      .record(z.string().regex(/^\d+$/, "a key is a token id"), z.number().min(-100).max(100))
      .default({})
      .meta(described("Token id to a number added to its logit", "词元编号到其对数几率增量的映射")),
    responseFormat: ResponseFormatSchema.default({ type: "text" }).meta(
      described(
        "What the text must keep to: free text, a JSON object, a JSON Schema, a grammar or a regular expression",
        "文本须遵守的格式：自由文本、JSON 对象、JSON Schema、文法或正则表达式",
      ),
    ),
    topLogprobs: z
      .int()
      .min(0)
      .max(100)
      .default(0)
      .meta(
        described(
          "Report this many most probable tokens of each step (not with beam search)",
          "每一步附带最可能的这么多个词元及其对数概率（束搜索不支持）",
        ),
      ),
  })
  .check((context) => {
    const { mode, minTokens, maxTokens, samples, beamSize, topLogprobs } = context.value;
    const refuse = (key: string, message: string, input: unknown) =>
      context.issues.push({ code: "custom", path: [key], message, input });
    if (minTokens > maxTokens) refuse("minTokens", `must not exceed maxTokens (${maxTokens})`, minTokens);
    if (mode === "beam" && samples > beamSize) refuse("samples", `must not exceed beamSize (${beamSize})`, samples);
    if (mode === "beam" && topLogprobs > 0) refuse("topLogprobs", "is not available with beam search", topLogprobs);
  });

/** Settings as a caller writes them: everything has a default. */
export type GenerateOptionsInput = z.input<typeof GenerateOptionsSchema>;
/** Settings, complete and checked. */
export type GenerateOptions = z.output<typeof GenerateOptionsSchema>;

/** Checks settings and fills in the defaults. Throws CPM_INFER_OPTIONS naming every setting that is wrong. */
export function parseGenerateOptions(input: unknown): GenerateOptions {
  const parsed = GenerateOptionsSchema.safeParse(input);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.map((issue) => `${issue.path.join(".") || "(the settings)"}: ${issue.message}`);
  throw new ConfigError("CPM_INFER_OPTIONS", "generation settings are wrong", { got: issues.join("; ") });
}
