/** `cpm generate`: texts in, what a model makes of them out, as it appears or as JSON Lines. */
import { readFile, stat } from "node:fs/promises";
import { z } from "zod";
import type { DeltaUse, OpenedMixedModel, OpenedTunedModel } from "../../delta/index.ts";
import type { ResponseFormat } from "../../infer/constraint/response-format.ts";
import type { OpenTextModelOptions, TextGenerator, TextResult, TokenEvent } from "../../infer/index.ts";
import { GenerateOptionsSchema } from "../../infer/options.ts";
import type { Runtime } from "../../runtime/index.ts";
import { fileErrorOf } from "../../util/atomic-file.ts";
import { userCacheFolder } from "../../util/cache-folder.ts";
import { ConfigError } from "../../util/error.ts";
import { defineCommand } from "../command.ts";
import { type CommandContext, note, print, say } from "../context.ts";
import { freeMemoryBytes } from "../machine.ts";
import { generateMessages as messages } from "../messages/generate.ts";
import { tuneMessages } from "../messages/tune.ts";
import {
  devicesOf,
  hardwareFields,
  memoryBudgetBytes,
  modelFields,
  peakResidentBytes,
  shownText,
} from "../model-options.ts";
import { formatDuration, formatInteger, formatNumber } from "../quantity.ts";
import { fileLines, linesOf } from "../text-input.ts";
import { truncateColumns } from "../text-width.ts";

const { responseFormat: _, ...settings } = GenerateOptionsSchema.shape;

export default defineCommand({
  name: "generate",
  summary: messages.summary,
  description: messages.description,
  json: true,
  examples: [
    { line: 'generate model/ "春天来了，"', ...messages.exampleOne },
    { line: "generate model/ --file prompts.txt --samples 2 --seed 7 --json", ...messages.exampleBatch },
  ],
  schema: z.object({
    model: z
      .string()
      .describe(messages.model.en)
      .meta({ zh: messages.model.zh, positional: true, placeholder: "MODEL" }),
    prompt: z
      .array(z.string())
      .default([])
      .describe(messages.prompt.en)
      .meta({ zh: messages.prompt.zh, positional: true, placeholder: "PROMPT" }),
    file: z
      .string()
      .min(1)
      .optional()
      .describe(messages.file.en)
      .meta({ zh: messages.file.zh, placeholder: "FILE", alias: "f" }),
    ...modelFields,
    ...hardwareFields,
    ...settings,
    jsonObject: z.boolean().default(false).describe(messages.jsonObject.en).meta({ zh: messages.jsonObject.zh }),
    schema: z
      .string()
      .min(1)
      .optional()
      .describe(messages.schema.en)
      .meta({ zh: messages.schema.zh, placeholder: "FILE" }),
    grammar: z
      .string()
      .min(1)
      .optional()
      .describe(messages.grammar.en)
      .meta({ zh: messages.grammar.zh, placeholder: "FILE" }),
    regex: z
      .string()
      .min(1)
      .optional()
      .describe(messages.regex.en)
      .meta({ zh: messages.regex.zh, placeholder: "PATTERN" }),
    draft: z
      .string()
      .min(1)
      .optional()
      .describe(messages.draft.en)
      .meta({ zh: messages.draft.zh, placeholder: "MODEL" }),
    lookup: z.boolean().default(false).describe(messages.lookup.en).meta({ zh: messages.lookup.zh }),
    draftTokens: z
      .int()
      .min(1)
      .max(64)
      .default(8)
      .describe(messages.draftTokens.en)
      .meta({ zh: messages.draftTokens.zh }),
    logitBias: settings.logitBias
      .describe(messages.logitBias.en)
      .meta({ zh: messages.logitBias.zh, placeholder: "MAP" }),
    delta: z
      .array(z.string().min(1))
      .default([])
      .describe(tuneMessages.deltaOption.en)
      .meta({ zh: tuneMessages.deltaOption.zh, placeholder: "PATH" }),
    mix: z
      .string()
      .regex(/^-?[\d.]+(,-?[\d.]+)*(;-?[\d.]+(,-?[\d.]+)*)*$/)
      .optional()
      .describe(tuneMessages.mix.en)
      .meta({ zh: tuneMessages.mix.zh, placeholder: "1,0;0,1" }),
    template: z
      .string()
      .min(1)
      .max(100_000)
      .optional()
      .describe(messages.template.en)
      .meta({ zh: messages.template.zh, placeholder: "TEXT" }),
    promptTask: z.int().min(0).optional().describe(messages.promptTask.en).meta({ zh: messages.promptTask.zh }),
    segment: z.int().min(1).optional().describe(messages.segment.en).meta({ zh: messages.segment.zh }),
  }),
  async run(
    {
      model,
      prompt,
      file,
      vocab,
      config,
      delta,
      mix,
      template,
      promptTask,
      segment,
      threads,
      cache,
      memory,
      device,
      deviceLayers,
      jsonObject,
      schema,
      grammar,
      regex,
      draft,
      lookup,
      draftTokens,
      kvCache,
      ...given
    },
    context,
  ) {
    const startMs = context.now();
    const responseFormat = await formatOf({ jsonObject, schema, grammar, regex }, context);
    const options = { ...given, responseFormat };
    if (draft !== undefined && lookup) throw new ConfigError("CPM_CLI_USAGE", say(context, messages.bothDrafts));
    const texts = await promptsOf(prompt, file, context);
    const [{ createNativeRuntime }, { createTextGenerator, findVocabulary, openTextModel }] = await Promise.all([
      import("../../runtime/index.ts"),
      import("../../infer/index.ts"),
    ]);
    const devices = devicesOf({ device, deviceLayers });
    using runtime = createNativeRuntime({ device: devices.device, ...(threads !== undefined && { threads }) });
    const opening = {
      configPath: config,
      vocabularyPath: vocab,
      ...(cache && { cacheFolder: userCacheFolder(context.env), alwaysCache: memory !== undefined }),
    };
    const isMixed = delta.length > 1 || mix !== undefined;
    const mixed = isMixed ? await openMixed(runtime, model, delta, opening, context) : undefined;
    const mixes = mixed && mixesOf(mix, delta.length, texts.length, context).map((weights) => mixed.mix(weights));
    const tuned =
      mixed !== undefined || delta[0] === undefined
        ? undefined
        : await openWith(runtime, model, delta[0], opening, context);
    const opened = mixed ?? tuned ?? (await openTextModel(runtime, model, opening));
    const use = tuned?.delta.use ?? mixed?.deltas[0]?.use;
    const prompts = await asTuned(texts, template, use, context);
    const drafting =
      draft === undefined
        ? undefined
        : await openTextModel(runtime, draft, {
            vocabularyPath: (await findVocabulary(draft)) ?? opened.vocabularyPath,
          });
    if (opened.assumptions.length > 0)
      note(context, say(context, messages.assumed, { what: opened.assumptions.join("; ") }));
    const generator = createTextGenerator(runtime, opened, {
      // A delta was tuned under a soft prompt and in a segment: it is used under the same.
      promptTask: promptTask ?? use?.promptTask ?? 2,
      segment: segment ?? use?.segment ?? 2,
      placement: devices.placement,
      memoryLimitBytes: freeMemoryBytes(),
      draft: drafting ?? (lookup ? "lookup" : undefined),
      maxDraftTokens: draftTokens,
      cacheType: kvCache,
      memoryBudgetBytes: memoryBudgetBytes(memory),
    });
    context.signal.throwIfAborted();
    const live = !context.json && prompts.length === 1 && options.samples === 1 && options.mode !== "beam";
    try {
      const { result, firstMs } = await follow(generator, prompts, options, { live, mixes }, context);
      reportUnknown(result, context);
      if (context.json) printJsonLines(result, context);
      else if (!live) printTexts(result, context);
      reportTiming(result, startMs, firstMs, context);
    } finally {
      generator.dispose();
      drafting?.dispose();
      opened.dispose();
    }
    // What there is has been written; the exit code still says that it was cut off.
    context.signal.throwIfAborted();
  },
});

/** Larger files are no schema and no grammar. */
const maxFormatBytes = 2 ** 20;

async function readFormat(path: string): Promise<string> {
  try {
    const { size } = await stat(path);
    if (size <= maxFormatBytes) return await readFile(path, "utf8");
    throw new ConfigError("CPM_INFER_GRAMMAR", "the file is too large for a format", {
      where: path,
      got: `${size} bytes`,
      expected: `at most ${maxFormatBytes}`,
    });
  } catch (error) {
    throw fileErrorOf(error, "read", path);
  }
}

async function readSchema(path: string): Promise<Record<string, unknown>> {
  const content = await readFormat(path);
  let cause: unknown;
  try {
    const schema = JSON.parse(content) as unknown;
    if (typeof schema === "object" && schema !== null && !Array.isArray(schema))
      return schema as Record<string, unknown>;
  } catch (error) {
    cause = error;
  }
  throw new ConfigError("CPM_INFER_SCHEMA", "the file holds no JSON Schema", {
    where: path,
    expected: "a JSON object",
    cause,
  });
}

/** What the texts must keep to: at most one of the ways to say it. */
async function formatOf(
  {
    jsonObject,
    schema,
    grammar,
    regex,
  }: {
    readonly jsonObject: boolean;
    readonly schema: string | undefined;
    readonly grammar: string | undefined;
    readonly regex: string | undefined;
  },
  context: CommandContext,
): Promise<ResponseFormat> {
  const formats: ResponseFormat[] = [];
  if (jsonObject) formats.push({ type: "json_object" });
  if (regex !== undefined) formats.push({ type: "regex", regex });
  if (grammar !== undefined) formats.push({ type: "grammar", grammar: await readFormat(grammar) });
  if (schema !== undefined) formats.push({ type: "json_schema", schema: await readSchema(schema) });
  if (formats.length > 1) throw new ConfigError("CPM_CLI_USAGE", say(context, messages.severalFormats));
  return formats[0] ?? { type: "text" };
}

async function openWith(
  runtime: Runtime,
  model: string,
  path: string,
  opening: OpenTextModelOptions,
  context: CommandContext,
): Promise<OpenedTunedModel> {
  const { openTunedModel } = await import("../../delta/index.ts");
  const opened = await openTunedModel(runtime, model, path, opening);
  const methods = opened.delta.delta.parts.map(({ method }) => method.name).join(", ");
  note(context, say(context, tuneMessages.deltaUsed, { methods }));
  return opened;
}

async function openMixed(
  runtime: Runtime,
  model: string,
  paths: readonly string[],
  opening: OpenTextModelOptions,
  context: CommandContext,
): Promise<OpenedMixedModel> {
  const { openMixedModel } = await import("../../delta/index.ts");
  const opened = await openMixedModel(runtime, model, paths, opening);
  const methods = opened.deltas.flatMap(({ delta }) => delta.parts.map(({ method }) => method.name)).join(" + ");
  note(context, say(context, tuneMessages.deltaUsed, { methods }));
  return opened;
}

/** Weights of each delta for each prompt: one list for all, or a list each; without any, all of them in full. */
function mixesOf(mix: string | undefined, deltas: number, prompts: number, context: CommandContext): number[][] {
  const rows = mix?.split(";").map((row) => row.split(",").map(Number)) ?? [Array<number>(deltas).fill(1)];
  const fits = rows.every((row) => row.length === deltas && row.every(Number.isFinite));
  if (!fits || (rows.length !== 1 && rows.length !== prompts)) {
    throw new ConfigError("CPM_CLI_USAGE", say(context, tuneMessages.mixWrong), {
      where: "--mix",
      got: mix,
      expected: `1 | ${prompts} × ${deltas}`,
    });
  }
  return Array.from({ length: prompts }, (_, prompt) => rows[prompt] ?? rows[0]!);
}

/** `--template none`: prompts are what the model reads, whatever a delta was tuned with. */
const noTemplate = "none";

/**
 * The prompts as the delta was taught to read them: in the template's one place. A template that takes several texts, or an
 * option, cannot be made of a prompt; prompts stay as they are then.
 */
async function asTuned(
  texts: readonly string[],
  given: string | undefined,
  use: DeltaUse | undefined,
  context: CommandContext,
): Promise<readonly string[]> {
  if (given === noTemplate || (given === undefined && use?.template === undefined)) return texts;
  const { fillTemplate, placesOf, templateSchema } = await import("../../data/tasks/template.ts");
  const kept = templateSchema.safeParse(use?.template);
  if (given === undefined && (!kept.success || kept.data.method !== "generate")) return texts;
  const input = given ?? kept.data!.input;
  const places = new Set(placesOf(input));
  if (places.size === 1) {
    const [place] = places;
    if (given === undefined)
      note(context, say(context, tuneMessages.templateUsed, { template: JSON.stringify(input) }));
    return texts.map((text) => fillTemplate(input, { [place!]: text }));
  }
  if (given === undefined) {
    note(context, say(context, tuneMessages.templateNotUsed, { template: JSON.stringify(input) }));
    return texts;
  }
  throw new ConfigError("CPM_TASK_TEMPLATE", "a template for prompts has one place", {
    where: "--template",
    got: given,
    expected: "{text} once, or none",
  });
}

async function promptsOf(
  given: readonly string[],
  file: string | undefined,
  context: CommandContext,
): Promise<readonly string[]> {
  if (given.length > 0 && file !== undefined)
    throw new ConfigError("CPM_CLI_USAGE", say(context, messages.bothSources));
  if (given.length > 0) return given;
  const prompts: string[] = [];
  if (file !== undefined || !context.stdin.isTTY) {
    const lines = file === undefined ? linesOf(context.stdin, "stdin") : fileLines(file);
    for await (const line of lines) if (line.trim() !== "") prompts.push(line);
  }
  context.signal.throwIfAborted();
  if (prompts.length > 0) return prompts;
  throw new ConfigError("CPM_CLI_USAGE", say(context, messages.noPrompt), { hint: say(context, messages.givePrompt) });
}

/** Generates; with `live`, text is written as it appears. `firstMs` is the moment of the first token. */
async function follow(
  generator: TextGenerator,
  prompts: readonly string[],
  options: z.output<typeof GenerateOptionsSchema>,
  { live, mixes }: { readonly live: boolean; readonly mixes: readonly Float32Array[] | undefined },
  context: CommandContext,
): Promise<{ result: TextResult; firstMs: number | undefined }> {
  const run = { signal: context.signal, clock: context.now, mixes };
  const events: AsyncGenerator<TokenEvent, TextResult, void> = generator.stream(prompts, options, run);
  let firstMs: number | undefined;
  for (;;) {
    const next = await events.next();
    firstMs ??= context.now();
    if (next.done === true) {
      if (live) context.stdout.write("\n");
      return { result: next.value, firstMs };
    }
    if (live && next.value.text !== "") {
      context.stdout.write(shownText(next.value.text, context));
      await context.stdout.flush();
    }
  }
}

function reportUnknown({ prompts }: TextResult, context: CommandContext): void {
  for (const { text, unknownCount } of prompts) {
    if (unknownCount === 0) continue;
    note(
      context,
      say(context, messages.unknown, { count: formatInteger(unknownCount), prompt: excerpt(text, context) }),
    );
  }
}

function excerpt(text: string, context: CommandContext): string {
  return truncateColumns(shownText(text.replaceAll(/\s+/g, " ").trim(), context), 60);
}

/** Texts under a heading each: the number of the prompt, of the sample where there are several, and the prompt. */
function printTexts({ texts, prompts }: TextResult, context: CommandContext): void {
  const blocks = texts.map(({ row, sample, text }) => {
    const several = texts.some((other) => other.sample > 0);
    const which = several ? `${row + 1}.${sample + 1}` : String(row + 1);
    const heading = say(context, messages.heading, { which, prompt: excerpt(prompts[row]!.text, context) });
    return `${heading}\n${shownText(text, context)}`;
  });
  print(context, blocks.join("\n\n"));
}

function printJsonLines({ texts, prompts, timing, speculation }: TextResult, context: CommandContext): void {
  for (const { row, sample, text, ids, finish, logprobs, top, score } of texts) {
    const { text: prompt, ids: promptIds, unknownCount } = prompts[row]!;
    const line = {
      prompt,
      row,
      sample,
      text,
      ids,
      finish,
      logprob: logprobs.reduce((sum, value) => sum + value, 0),
      logprobs,
      ...(score === null ? {} : { score }),
      ...(top.some((entries) => entries.length > 0) ? { top } : {}),
      usage: { promptTokens: promptIds.length, unknown: unknownCount, generatedTokens: ids.length },
      timing,
      peakResidentBytes: peakResidentBytes(),
      ...(speculation === null ? {} : { speculation }),
    };
    print(context, JSON.stringify(line));
  }
}

function reportTiming(
  { usage, timing, speculation }: TextResult,
  startMs: number,
  firstMs: number | undefined,
  context: CommandContext,
): void {
  if (timing === null || firstMs === undefined) return;
  const decodeMs = timing.stepMs + timing.chooseMs;
  note(
    context,
    say(context, messages.timing, {
      tokens: formatInteger(usage.generatedTokens),
      rate: decodeMs > 0 ? formatNumber(Number(((usage.generatedTokens * 1000) / decodeMs).toPrecision(3))) : "–",
      first: formatDuration(firstMs - startMs),
      prefill: formatDuration(timing.prefillMs),
      promptTokens: formatInteger(usage.promptTokens),
      load: formatDuration(Math.max(0, firstMs - startMs - timing.prefillMs)),
    }),
  );
  if (speculation !== null && speculation.draftedTokens > 0) {
    const { draftedTokens, acceptedTokens } = speculation;
    const share = formatInteger(Math.round((100 * acceptedTokens) / draftedTokens));
    const counts = { drafted: formatInteger(draftedTokens), accepted: formatInteger(acceptedTokens), share };
    note(context, say(context, messages.drafted, counts));
  }
}
