/** `cpm data view`: a batch as training would take it, drawn in colours, as an HTML page or as JSON. */
import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { z } from "zod";
import type { BatchSource, BatchView, Mixture, SourceBatch, TaskName } from "../../data/index.ts";
import { packingKinds } from "../../data/packing.ts";
import { taskNames } from "../../data/tasks/names.ts";
import { fileErrorOf, writeFileAtomic } from "../../util/atomic-file.ts";
import { ConfigError, DataError } from "../../util/error.ts";
import { defineCommand } from "../command.ts";
import { type CommandContext, note, print, printJson, say } from "../context.ts";
import { dataViewMessages as messages } from "../messages/data-view.ts";

/** Cells of a mask's side in a page; in a terminal as many as it is wide. */
const pageCells = 128;
/** Vocabulary that is trained where text files come without one. */
const trainedVocabulary = 8192;

const schema = z.object({
  paths: z
    .array(z.string().min(1))
    .default([])
    .describe(messages.paths.en)
    .meta({ zh: messages.paths.zh, positional: true, placeholder: "PATH" }),
  batch: z.int().min(1).max(1_000_000).default(1).describe(messages.batch.en).meta({ zh: messages.batch.zh }),
  rows: z.int().min(1).max(4096).optional().describe(messages.rows.en).meta({ zh: messages.rows.zh }),
  length: z.int().min(8).max(65536).optional().describe(messages.length.en).meta({ zh: messages.length.zh }),
  promptLength: z
    .int()
    .min(1)
    .max(4096)
    .optional()
    .describe(messages.promptLength.en)
    .meta({ zh: messages.promptLength.zh }),
  seed: z.int().min(0).optional().describe(messages.seed.en).meta({ zh: messages.seed.zh }),
  packing: z.enum(packingKinds).optional().describe(messages.packing.en).meta({ zh: messages.packing.zh }),
  compat: z.boolean().optional().describe(messages.compat.en).meta({ zh: messages.compat.zh }),
  fillShare: z.number().min(0).max(1).optional().describe(messages.fillShare.en).meta({ zh: messages.fillShare.zh }),
  vocab: z.string().min(1).optional().describe(messages.vocab.en).meta({ zh: messages.vocab.zh, placeholder: "FILE" }),
  task: z.enum(taskNames).optional().describe(messages.task.en).meta({ zh: messages.task.zh }),
  template: z.string().min(1).optional().describe(messages.template.en).meta({ zh: messages.template.zh }),
  mask: z.boolean().default(false).describe(messages.mask.en).meta({ zh: messages.mask.zh }),
  html: z.string().min(1).optional().describe(messages.html.en).meta({ zh: messages.html.zh, placeholder: "FILE" }),
});
type Options = z.output<typeof schema>;

/** What decides a batch: the recipe's, where flags say nothing else. */
interface Reading {
  readonly geometry: { readonly rows: number; readonly columns: number };
  readonly promptLength: number;
  readonly seed: number;
  readonly packing: { readonly kind: (typeof packingKinds)[number]; readonly compat: boolean; readonly join?: boolean };
  readonly fillShare: number;
  readonly wholeShare: number;
  readonly heldOutShare: number;
  readonly mixture: Mixture | string | undefined;
  readonly texts: readonly string[];
}

export default defineCommand({
  name: "data view",
  summary: messages.summary,
  description: messages.description,
  json: true,
  examples: [
    { line: "data view data/zh --mask", ...messages.exampleFolder },
    { line: "data view data/zh recipes/pretrain-15m.yaml --html batch.html", ...messages.exampleHtml },
    { line: "data view --task headline dev.jsonl --vocab model/vocab.txt", ...messages.exampleTask },
  ],
  schema,
  async run(options, context) {
    if (options.task !== undefined) return await runTask({ ...options, task: options.task }, context);
    const reading = await readingOf(options, context);
    const { source, tokenOf } = await openSource(reading, options, context);
    try {
      await source.skip(options.batch - 1, reading.geometry);
      const batch = await source.next(reading.geometry);
      if (batch === undefined) {
        throw new DataError("CPM_DATA_EMPTY", say(context, messages.ended, { batch: options.batch }), {
          where: options.paths.join(", "),
        });
      }
      const { viewBatch } = await import("../../data/index.ts");
      await show(batch, viewBatch(batch, reading.promptLength, tokenOf), tokenOf, options, context);
    } finally {
      source.dispose();
    }
  },
});

/** With `--task`, files are rows of a task, and a batch is so many samples. */
async function runTask(options: Options & { readonly task: TaskName }, context: CommandContext): Promise<void> {
  const { paths, batch, rows = 4, promptLength = 8, seed = 1, length, task, template, vocab } = options;
  if (options.packing !== undefined || options.compat !== undefined || options.fillShare !== undefined) {
    throw new ConfigError("CPM_CLI_USAGE", say(context, messages.taskData));
  }
  if (paths.length === 0) throw new ConfigError("CPM_CLI_USAGE", say(context, messages.needPath), { where: "paths" });
  const [{ viewTask, taskLines }, { expandPaths, viewBatch }] = await Promise.all([
    import("../task-view.ts"),
    import("../../data/index.ts"),
  ]);
  const view = await viewTask(
    await expandPaths(paths),
    { batch, rows, promptLength, seed, length, task, template, vocab },
    context,
  );
  const tokenOf = (id: number) => view.tokenizer.tokenOf(id);
  const notes = taskLines(view.samples, context);
  if (!context.json && options.html === undefined) for (const line of notes) print(context, line);
  const json = {
    task: view.samples.map(({ sample, prompts, cut, unknownCount }) => ({
      ...sample,
      cut,
      unknownCount,
      prompts: prompts.map(({ text, answers }) => ({ text, answers: answers.map((answer) => answer.text) })),
    })),
  };
  const shown = viewBatch(view.source, promptLength, tokenOf);
  await show(view.source, shown, tokenOf, options, context, { json, notes });
}

async function show(
  batch: SourceBatch,
  view: BatchView,
  tokenOf: (id: number) => string,
  { batch: number, mask, html }: Options,
  context: CommandContext,
  more: { readonly json?: object; readonly notes?: readonly string[] } = {},
): Promise<void> {
  const { viewMask } = await import("../../data/index.ts");
  const masks = (cells: number) => (mask ? view.rows.map(({ row }) => viewMask(batch, row, cells)) : undefined);
  if (html !== undefined) {
    const { batchPage } = await import("../batch-html.ts");
    const page = batchPage(
      view,
      { batch: number, tokenText: tokenOf, masks: masks(pageCells), notes: more.notes },
      context,
    );
    await writeFileAtomic(html, page);
    note(context, say(context, messages.written, { path: html }));
  }
  if (context.json) {
    const drawn = masks(pageCells)?.map((lines) => lines.map((line) => [...line].map((share) => Number(share >= 0.5))));
    printJson(context, { batch: number, ...more.json, ...view, ...(drawn && { masks: drawn }) });
    return;
  }
  if (html !== undefined) return;
  const { batchLines } = await import("../batch-terminal.ts");
  const width = context.stdout.columns;
  const color = context.stdout.isTTY && (context.env.NO_COLOR ?? "") === "";
  const lines = batchLines(
    view,
    { batch: number, color, width, tokenText: tokenOf, masks: masks(Math.max(16, width - 4)) },
    context,
  );
  print(context, lines.join("\n"));
}

/** Paths that end in .yaml or .yml are recipes or mixtures, all others data. */
async function readingOf(options: Options, context: CommandContext): Promise<Reading> {
  const isYaml = (path: string) => /\.ya?ml$/i.test(path);
  const [{ isDataset }, { recipe, mixtureFile }] = await Promise.all([
    import("../../data/index.ts"),
    readYaml(options.paths.filter(isYaml), context),
  ]);
  const data = options.paths.filter((path) => !isYaml(path));
  const folders = data.filter((path) => isDataset(path));
  if (folders.length > 0 && folders.length < data.length) {
    throw new ConfigError("CPM_CLI_USAGE", say(context, messages.mixedPaths), { got: data.join(", ") });
  }
  const given = folders.length > 0 ? { sources: folders.map((folder) => ({ data: resolve(folder) })) } : undefined;
  const reading: Reading = {
    geometry: { rows: options.rows ?? recipe?.rows ?? 4, columns: options.length ?? recipe?.length ?? 128 },
    promptLength: options.promptLength ?? recipe?.promptLength ?? 8,
    seed: options.seed ?? recipe?.seed ?? 1,
    packing: {
      ...recipe?.packing,
      kind: options.packing ?? recipe?.packing.kind ?? "bestFit",
      compat: options.compat ?? recipe?.packing.compat ?? false,
    },
    fillShare: options.fillShare ?? recipe?.fillShare ?? 0.5,
    wholeShare: recipe?.wholeShare ?? 0,
    heldOutShare: recipe?.heldOutShare ?? 0,
    mixture: given ?? mixtureFile ?? recipe?.mixture,
    texts: folders.length > 0 ? [] : data,
  };
  if (reading.mixture === undefined && reading.texts.length === 0) {
    throw new ConfigError("CPM_CLI_USAGE", say(context, messages.needPath), { where: "paths" });
  }
  return reading;
}

/** A training recipe's part that decides batches, and the path of a mixture's file. */
async function readYaml(paths: readonly string[], context: CommandContext) {
  const [{ readRecipe }, { trainingFields }, { pretrainFields }, { preset }] = await Promise.all([
    import("../recipe.ts"),
    import("../training.ts"),
    import("../run-recipe.ts"),
    import("../../model/index.ts"),
  ]);
  let recipe:
    | (Partial<Omit<Reading, "packing">> & { rows: number; length: number; packing: Reading["packing"] })
    | undefined;
  let mixtureFile: string | undefined;
  for (const path of paths) {
    const tree = readRecipe(path, context.locale);
    if ("sources" in tree) {
      mixtureFile = path;
      continue;
    }
    const parsed = z.object({ ...trainingFields, ...pretrainFields }).safeParse(tree);
    if (!parsed.success) {
      const [issue] = parsed.error.issues;
      throw new ConfigError("CPM_CLI_RECIPE", issue?.message ?? "", { where: `${path}: ${issue?.path.join(".")}` });
    }
    const { rows, length, seed, packing, fillShare, wholeShare, heldOutShare, model, ...rest } = parsed.data;
    const { join } = packing;
    const data = rest.data.map((each) => ({ data: resolve(dirname(path), each) }));
    const file = rest.mixtureFile === undefined ? undefined : resolve(dirname(path), rest.mixtureFile);
    recipe = {
      rows,
      length,
      seed,
      packing: { kind: packing.kind, compat: packing.compat, ...(join !== undefined && { join }) },
      fillShare,
      wholeShare,
      heldOutShare,
      promptLength: model.promptLength ?? preset(rest.preset).promptLength,
      mixture: file ?? rest.mixture ?? (data.length > 0 ? { sources: data } : undefined),
    };
  }
  return { recipe, mixtureFile };
}

async function openSource(
  reading: Reading,
  options: Options,
  context: CommandContext,
): Promise<{ source: BatchSource; tokenOf: (id: number) => string }> {
  const { promptLength, seed, fillShare, wholeShare, heldOutShare, packing, mixture } = reading;
  const [{ openMixture, createBatchSource, expandPaths }, { createAntTokenizer, parseVocabulary }] = await Promise.all([
    import("../../data/index.ts"),
    import("../../tokenizer/index.ts"),
  ]);
  if (mixture !== undefined && reading.texts.length === 0) {
    const shares = { fillShare, wholeShare, heldOutShare };
    const source = await openMixture(mixture, { seed, promptLength, packing, ...shares });
    const vocabulary = parseVocabulary(new TextEncoder().encode(await source.vocabularyText()));
    const tokenizer = createAntTokenizer(vocabulary);
    return { source, tokenOf: (id) => tokenizer.tokenOf(id) };
  }
  const { readTextCorpus } = await import("../../train/index.ts");
  const files = await expandPaths(reading.texts);
  const corpus = await readTextCorpus(files, {
    length: reading.geometry.columns,
    promptLength,
    vocabulary:
      options.vocab === undefined ? undefined : await readFile(options.vocab, "utf8").catch(unreadable(options.vocab)),
    vocabSize: trainedVocabulary,
    heldOutShare: 0,
    maxCharacters: 2_000_000,
    signal: context.signal,
  });
  const source = createBatchSource(corpus.train, { seed, fillShare });
  return { source, tokenOf: (id) => corpus.tokenizer.tokenOf(id) };
}

function unreadable(path: string): (error: unknown) => never {
  return (error) => {
    throw fileErrorOf(error, "read", path);
  };
}
