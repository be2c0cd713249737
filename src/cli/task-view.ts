/** Samples of a task for `cpm data view --task`: the rows that tuning would take, and what evaluation would ask. */
import { readFile } from "node:fs/promises";
import type { EncodedSample, SourceBatch, TaskName } from "../data/index.ts";
import type { Tokenizer } from "../tokenizer/index.ts";
import { fileErrorOf } from "../util/atomic-file.ts";
import { ConfigError, DataError } from "../util/error.ts";
import type { CommandContext } from "./context.ts";
import { note, say } from "./context.ts";
import { dataViewMessages as messages } from "./messages/data-view.ts";
import { visibleText } from "./visible-text.ts";

export interface TaskViewOptions {
  readonly task: TaskName;
  readonly template?: string | undefined;
  /** Which samples, from 1: `rows` of them, those of this batch. */
  readonly batch: number;
  readonly rows: number;
  /** Columns of a row at most; the task's own length where there is none. */
  readonly length?: number | undefined;
  readonly promptLength: number;
  readonly seed: number;
  readonly vocab?: string | undefined;
}

export interface TaskView {
  readonly source: SourceBatch;
  readonly samples: readonly EncodedSample[];
  readonly tokenizer: Tokenizer;
}

/** Vocabulary that is trained on the samples where none is given. */
const trainedVocabulary = 8192;
const trainingSamples = 2000;

export async function viewTask(
  files: readonly string[],
  options: TaskViewOptions,
  context: CommandContext,
): Promise<TaskView> {
  const { tasks, readTaskSamples, encodeSample, trainingExamples, taskSourceBatch } = await import("../data/index.ts");
  const { createRandom } = await import("../util/random.ts");
  const task = tasks[options.task];
  const { signal } = context;
  const first = (options.batch - 1) * options.rows;
  const read = await Array.fromAsync(readTaskSamples(task, files, { limit: first + options.rows, signal }));
  const chosen = read.slice(first);
  if (chosen.length === 0) {
    throw new DataError("CPM_DATA_EMPTY", say(context, messages.ended, { batch: options.batch }), {
      where: files.join(", "),
    });
  }
  const name = options.template ?? Object.keys(task.templates)[0]!;
  const template = Object.hasOwn(task.templates, name) ? task.templates[name] : undefined;
  if (template === undefined) {
    throw new ConfigError("CPM_TASK_TEMPLATE", "the task has no such template", {
      got: name,
      expected: Object.keys(task.templates).join(", "),
    });
  }
  const tokenizer = await tokenizerFor(files, options, context);
  const limits = {
    lengthTokens: options.length === undefined ? task.lengthTokens : options.length - options.promptLength,
    answerTokens: task.answerTokens,
  };
  const samples = chosen.map((sample) => encodeSample(sample, template, tokenizer, limits));
  const random = createRandom(options.seed, "tasks");
  const examples = samples.flatMap((sample) => trainingExamples(sample, tokenizer, random.fork(sample.sample.id)));
  return { source: taskSourceBatch(examples, options.task, options.promptLength), samples, tokenizer };
}

async function tokenizerFor(
  files: readonly string[],
  { vocab, task }: TaskViewOptions,
  context: CommandContext,
): Promise<Tokenizer> {
  const [{ createAntTokenizer, parseVocabulary, trainVocabulary }, { tasks, readTaskSamples, optionsOf }] =
    await Promise.all([import("../tokenizer/index.ts"), import("../data/index.ts")]);
  if (vocab !== undefined) {
    const bytes = await readFile(vocab).catch((error) => {
      throw fileErrorOf(error, "read", vocab);
    });
    return createAntTokenizer(parseVocabulary(bytes));
  }
  note(context, say(context, messages.taskVocabulary));
  const texts: string[] = ["是否"];
  const limits = { limit: trainingSamples, signal: context.signal };
  for await (const sample of readTaskSamples(tasks[task], files, limits)) {
    texts.push(sample.fields.input!, ...optionsOf(sample), ...(sample.kind === "generation" ? sample.references : []));
  }
  return createAntTokenizer((await trainVocabulary(texts, { size: trainedVocabulary })).vocabulary);
}

/** What a sample is and what is right, one line, and what evaluation would show the model, with the answers it may give. */
export function taskLines(samples: readonly EncodedSample[], context: CommandContext): string[] {
  return samples.flatMap(({ sample, template, prompts, cut }) => {
    const right =
      sample.kind === "generation"
        ? sample.references.join(" / ")
        : sample.kind === "choice"
          ? sample.options[sample.answer]!
          : sample.options.filter((_, index) => sample.relevance[index]! > 0).join(" / ");
    const lines = [
      say(context, messages.taskSample, {
        id: visibleText(sample.id),
        kind: say(context, messages[sample.kind]),
        method: template.method,
        right: visibleText(right),
      }) + (cut ? say(context, messages.taskCut) : ""),
    ];
    for (const { text, answers } of prompts) {
      lines.push(`  ${visibleText(text)} ▸ ${answers.map((answer) => visibleText(answer.text)).join(" | ")}`);
    }
    return lines;
  });
}
