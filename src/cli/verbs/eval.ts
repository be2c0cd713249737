/** `cpm eval`: tasks put to a model; results computed again; two results compared. */
import { existsSync } from "node:fs";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { templateSchema } from "../../data/tasks/template.ts";
import type { EvaluationSettings, RecordFile, ResamplingOptions } from "../../evaluate/index.ts";
import { evaluationNames, evaluationSchema, normalizations, resamplingSchema } from "../../evaluate/options.ts";
import type { OpenedTextModel } from "../../infer/index.ts";
import type { Runtime } from "../../runtime/index.ts";
import { fileErrorOf, writeFileAtomic } from "../../util/atomic-file.ts";
import { ConfigError, DataError } from "../../util/error.ts";
import { defineCommand } from "../command.ts";
import { type CommandContext, note, print, printJson, say } from "../context.ts";
import { comparisonDocument, type EvaluatedTask, evaluationDocument } from "../eval-report.ts";
import { evalMessages as messages } from "../messages/eval.ts";
import { modelFields } from "../model-options.ts";
import { startProgress } from "../progress.ts";
import { formatInteger } from "../quantity.ts";
import { htmlReport, markdownReport, type ReportDocument, terminalReport } from "../report-document.ts";

/** Of a folder of results: a file of records for each evaluation. */
const recordsFolder = "records";
const recordsEnding = ".jsonl";

const schema = z.object({
  model: z
    .string()
    .min(1)
    .optional()
    .describe(messages.model.en)
    .meta({ zh: messages.model.zh, positional: true, placeholder: "MODEL" }),
  other: z
    .string()
    .min(1)
    .optional()
    .describe(messages.other.en)
    .meta({ zh: messages.other.zh, positional: true, placeholder: "OTHER" }),
  rescore: z.boolean().default(false).describe(messages.rescore.en).meta({ zh: messages.rescore.zh }),
  compare: z.boolean().default(false).describe(messages.compare.en).meta({ zh: messages.compare.zh }),
  task: z.enum(evaluationNames).optional().describe(messages.task.en).meta({ zh: messages.task.zh }),
  data: z
    .array(z.string().min(1))
    .default([])
    .describe(messages.data.en)
    .meta({ zh: messages.data.zh, placeholder: "FILE" }),
  train: z
    .array(z.string().min(1))
    .default([])
    .describe(messages.train.en)
    .meta({ zh: messages.train.zh, placeholder: "FILE" }),
  template: z.string().min(1).optional().describe(messages.template.en).meta({ zh: messages.template.zh }),
  limit: z.int().min(1).optional().describe(messages.limit.en).meta({ zh: messages.limit.zh }),
  seed: z.int().min(0).default(1).describe(messages.seed.en).meta({ zh: messages.seed.zh }),
  lengthTokens: evaluationSchema.shape.lengthTokens
    .describe(messages.lengthTokens.en)
    .meta({ zh: messages.lengthTokens.zh, flag: "length" }),
  normalize: z.enum(normalizations).optional().describe(messages.normalize.en).meta({ zh: messages.normalize.zh }),
  mode: z.enum(["greedy", "sample", "beam"]).optional().describe(messages.mode.en).meta({ zh: messages.mode.zh }),
  evaluations: z
    .array(evaluationSchema)
    .default([])
    .describe(messages.evaluations.en)
    .meta({ zh: messages.evaluations.zh, flag: false }),
  bootstrap: resamplingSchema
    .prefault({})
    .describe(messages.bootstrap.en)
    .meta({ zh: messages.bootstrap.zh, flag: false }),
  output: z
    .string()
    .min(1)
    .optional()
    .describe(messages.output.en)
    .meta({ zh: messages.output.zh, alias: "o", placeholder: "FOLDER" }),
  delta: z
    .string()
    .min(1)
    .optional()
    .describe(messages.delta.en)
    .meta({ zh: messages.delta.zh, placeholder: "FOLDER" }),
  ...modelFields,
});
type Options = z.output<typeof schema>;

export default defineCommand({
  name: "eval",
  summary: messages.summary,
  description: messages.description,
  json: true,
  examples: [
    { line: "eval model/ --task headline --data test.jsonl.gz --limit 200 -o results/a", ...messages.exampleTask },
    { line: "eval model/ -c recipes/eval/cuge.yaml -o results/b", ...messages.exampleRecipe },
    { line: "eval --compare results/a results/b", ...messages.exampleCompare },
  ],
  schema,
  async run(options, context) {
    if (options.rescore && options.compare) throw new ConfigError("CPM_CLI_USAGE", say(context, messages.notBoth));
    if (options.compare) await compare(options, context);
    else if (options.rescore) await rescore(options, context);
    else await evaluate(options, context);
  },
});

async function evaluate(options: Options, context: CommandContext): Promise<void> {
  const { model, threads, vocab, config, delta, output = "results" } = options;
  const settings = settingsOf(options, context);
  if (model === undefined) throw new ConfigError("CPM_CLI_USAGE", say(context, messages.needModel), { where: "model" });
  const [{ createNativeRuntime }, { openTextModel }, { evaluatedModel, evaluationName, runEvaluation }] =
    await Promise.all([
      import("../../runtime/index.ts"),
      import("../../infer/index.ts"),
      import("../../evaluate/index.ts"),
    ]);
  const folder = join(output, recordsFolder);
  await mkdir(folder, { recursive: true }).catch((error) => {
    throw fileErrorOf(error, "write", folder);
  });
  using runtime = createNativeRuntime(threads === undefined ? {} : { threads });
  const opened = await openTextModel(runtime, model, { configPath: config, vocabularyPath: vocab });
  if (opened.assumptions.length > 0)
    note(context, say(context, messages.assumed, { what: opened.assumptions.join("; ") }));
  const results: RecordFile[] = [];
  try {
    const tuned = delta === undefined ? undefined : await openTuned(runtime, opened, delta, context);
    const evaluated = await evaluatedModel(
      runtime,
      { ...opened, parameters: tuned?.parameters ?? opened.parameters },
      { name: delta === undefined ? model : `${model} + ${delta}`, grafts: tuned?.grafts },
    );
    for (const each of settings.map((own) => tuned?.settings(own) ?? own)) {
      const name = evaluationName(each);
      const progress = startProgress(context);
      const outcome = await runEvaluation(evaluated, each, join(folder, `${name}${recordsEnding}`), {
        signal: context.signal,
        onProgress: (share, done, all) =>
          progress.update({ done: share, extra: [say(context, messages.running, { name, done, all })] }),
      });
      progress.finish();
      const remark = (
        message: typeof messages.reused | typeof messages.cutSamples | typeof messages.unknown,
        count: number,
      ) => {
        if (count > 0) note(context, say(context, message, { name, count: formatInteger(count) }));
      };
      remark(messages.reused, outcome.reused);
      remark(messages.cutSamples, outcome.cut);
      remark(messages.unknown, outcome.unknownCount);
      results.push(outcome);
    }
  } finally {
    opened.dispose();
  }
  await report(results, output, options, context);
}

/**
 * A base with a delta on it. What the delta was tuned with stands in for a template and lengths that are not given: an answer
 * is asked for as it was taught.
 */
async function openTuned(runtime: Runtime, base: OpenedTextModel, path: string, context: CommandContext) {
  const [{ baseHash, checkBase, openDelta }, { hasPacked }] = await Promise.all([
    import("../../delta/index.ts"),
    import("../../infer/weight-ports.ts"),
  ]);
  const opened = await openDelta(path, base.config);
  // The hash is of float32 numbers, which a packed base does not have any more.
  if (hasPacked(base.parameters)) note(context, say(context, messages.baseNotChecked));
  else {
    const read = async (name: string) => (await runtime.download(base.parameters.get(name)!)) as Float32Array;
    checkBase(opened, await baseHash(base.config, read), path);
  }
  const { grafts, parameters } = opened.delta;
  const own = parameters.map(({ name, shape }) => {
    const tensor = runtime.upload(opened.values.get(name)!, "float32", shape);
    return [name, tensor] as const;
  });
  const use = opened.use;
  const template = templateSchema.safeParse(use?.template);
  return {
    grafts,
    parameters: new Map([...base.parameters, ...own]),
    settings: (settings: EvaluationSettings): EvaluationSettings => {
      if (use === undefined || use.task !== settings.task) return settings;
      return {
        ...settings,
        template: settings.template ?? (template.success ? template.data : undefined),
        lengthTokens: settings.lengthTokens ?? use.lengthTokens,
        answerTokens: settings.answerTokens ?? use.answerTokens,
      };
    },
  };
}

/** What is to be evaluated: the recipe's list, or one evaluation from flags. */
function settingsOf(options: Options, context: CommandContext): readonly EvaluationSettings[] {
  const { task, data, train, template, limit, seed, lengthTokens, normalize, mode, evaluations } = options;
  const settings = [...evaluations];
  if (task !== undefined && data.length > 0) {
    settings.push(
      evaluationSchema.parse({
        task,
        data,
        ...(train.length > 0 && { train }),
        template,
        limit,
        seed,
        lengthTokens,
        normalize,
        ...(mode !== undefined && { decoding: { mode } }),
      }),
    );
  } else if (task !== undefined || data.length > 0 || settings.length === 0) {
    throw new ConfigError("CPM_CLI_USAGE", say(context, messages.needTask));
  }
  const names = settings.map(({ name, task: own }) => name ?? own);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new ConfigError("CPM_CLI_USAGE", say(context, messages.sameName, { name: twice }));
  return settings;
}

async function rescore(options: Options, context: CommandContext): Promise<void> {
  const { model: folder, output } = options;
  if (folder === undefined) throw new ConfigError("CPM_CLI_USAGE", say(context, messages.needFolder));
  await report(await readResults(folder), output ?? folder, options, context);
}

async function report(
  results: readonly RecordFile[],
  output: string,
  { bootstrap, normalize, evaluations }: Options,
  context: CommandContext,
): Promise<void> {
  const model = results.find(({ header }) => header.model !== undefined)?.header.model;
  const { reportOf } = await import("../../evaluate/index.ts");
  const evaluated = results.map((result): EvaluatedTask => {
    const own = evaluations.find(({ name, task }) => (name ?? task) === result.header.name)?.normalize;
    const options = { ...bootstrap, normalize: normalize ?? own ?? result.header.normalize ?? "tokens" };
    return { report: reportOf(result, options), records: result.records };
  });
  const value = {
    format: 1,
    ...(model !== undefined && { model }),
    resampling: bootstrap,
    evaluations: evaluated.map((each) => each.report),
  };
  await write(output, value, evaluationDocument(model, evaluated, bootstrap, context), context);
}

async function compare(options: Options, context: CommandContext): Promise<void> {
  const { model: first, other: second, bootstrap, output } = options;
  if (first === undefined || second === undefined) {
    throw new ConfigError("CPM_CLI_USAGE", say(context, messages.needTwo));
  }
  const { compareRecords } = await import("../../evaluate/index.ts");
  const [mine, theirs] = [await readResults(first), await readResults(second)];
  const comparisons = mine.flatMap((file) => {
    const partner = theirs.find(({ header }) => header.name === file.header.name);
    if (partner === undefined) return [];
    const normalize = options.normalize ?? file.header.normalize ?? "tokens";
    return [compareRecords(file, partner, { ...bootstrap, normalize })];
  });
  if (comparisons.length === 0) {
    throw new DataError("CPM_EVAL_COMPARE", "these results have no evaluation of the same name", {
      got: `${mine.map(({ header }) => header.name).join(", ")}; ${theirs.map(({ header }) => header.name).join(", ")}`,
      expected: "one name at least in both",
    });
  }
  const value = { format: 1, first, second, resampling: bootstrap as ResamplingOptions, comparisons };
  await write(output, value, comparisonDocument({ first, second }, comparisons, bootstrap, context), context);
}

/** The files of records of a folder, by name. */
async function readResults(folder: string): Promise<RecordFile[]> {
  const { readRecords } = await import("../../evaluate/index.ts");
  const inside = join(folder, recordsFolder);
  const names = existsSync(inside) ? (await readdir(inside)).filter((name) => name.endsWith(recordsEnding)).sort() : [];
  const found: RecordFile[] = [];
  for (const name of names) {
    const file = await readRecords(join(inside, name));
    if (file !== undefined && file.records.length > 0) found.push(file);
  }
  if (found.length > 0) return found;
  throw new DataError("CPM_EVAL_RECORDS", "a folder holds no results of an evaluation", {
    where: folder,
    expected: `${recordsFolder}/*${recordsEnding}`,
    hint: "Give the folder that cpm eval --output wrote.",
  });
}

/** Shows a report, and writes it as JSON, Markdown and HTML where there is a folder for it. */
async function write(
  folder: string | undefined,
  value: object,
  document: ReportDocument,
  context: CommandContext,
): Promise<void> {
  if (folder !== undefined) {
    await mkdir(folder, { recursive: true }).catch((error) => {
      throw fileErrorOf(error, "write", folder);
    });
    await writeFileAtomic(join(folder, "report.json"), `${JSON.stringify(value, undefined, 2)}\n`);
    await writeFileAtomic(join(folder, "report.md"), markdownReport(document));
    await writeFileAtomic(join(folder, "report.html"), htmlReport(document));
  }
  if (context.json) printJson(context, value);
  else print(context, terminalReport(document));
  if (folder !== undefined) note(context, say(context, messages.written, { path: join(folder, "report.html") }));
}
