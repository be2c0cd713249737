/** A run that begins with text files: they become a data set inside the run's folder, and the run goes on as any other. */
import { existsSync } from "node:fs";
import { readdir, readFile, rm } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { fileErrorOf } from "../util/atomic-file.ts";
import { type CommandContext, note, say } from "./context.ts";
import { trainMessages as messages } from "./messages/train.ts";
import { requireNewFolder } from "./model-output.ts";
import { type RunOptions, startRun } from "./pretraining.ts";
import { startProgress } from "./progress.ts";
import { formatInteger } from "./quantity.ts";
import { ownData, ownDataOf, runBeside } from "./run-paths.ts";

/** More bad lines than these are only counted. */
const shownBadLines = 10;
/** Threads that cut text into tokens beside this one: a small corpus is done before more of them have started. */
const mostWorkers = 4;

/** Trains on files: `output` is the model's folder, `run` the record, one of which must be given. */
export async function trainOnTexts(
  paths: readonly string[],
  options: RunOptions,
  context: CommandContext,
): Promise<void> {
  const { output } = options;
  const run = options.run ?? runBeside(output!);
  if (output !== undefined) requireNewFolder(output, context);
  await refuseOldRun(run);
  await rm(ownDataOf(run), { recursive: true, force: true });
  try {
    await buildData(paths, run, options, context);
  } catch (error) {
    await rm(ownDataOf(run), { recursive: true, force: true });
    if ((await readdir(run).catch(() => ["unknown"])).length === 0) await rm(run, { recursive: true });
    throw error;
  }
  const pace = options.pace ?? (options.for === undefined ? "steps" : "time");
  await startRun({ ...options, run, pace, data: [ownDataOf(run)] }, context);
}

/** A folder that holds more than data that a beginning left behind is somebody's. Errors: those of `createRun`. */
async function refuseOldRun(run: string): Promise<void> {
  if (!existsSync(run)) return;
  const { requireEmptyRun } = await import("../live/run-folder.ts");
  requireEmptyRun(run, await readdir(run), [ownData]);
}

async function buildData(
  paths: readonly string[],
  run: string,
  options: RunOptions,
  context: CommandContext,
): Promise<void> {
  const [{ buildFromTexts, expandPaths }, { preset }] = await Promise.all([
    import("../data/index.ts"),
    import("../model/index.ts"),
  ]);
  const { vocab, maxCharacters } = options;
  const files = await expandPaths(paths);
  note(context, say(context, messages.reading, { count: formatInteger(files.length) }));
  const vocabulary =
    vocab === undefined
      ? undefined
      : await readFile(vocab, "utf8").catch((error) => {
          throw fileErrorOf(error, "read", vocab);
        });
  const progress = startProgress(context);
  let badLines = 0;
  const { dataset, cut } = await buildFromTexts({
    paths,
    output: ownDataOf(run),
    vocabulary,
    vocabSize: preset(options.preset).vocabSize,
    heldOutShare: options.heldOutShare,
    maxCharacters,
    field: options.field,
    encoding: options.encoding,
    workers: Math.min(mostWorkers, availableParallelism() - 1),
    signal: context.signal,
    onBadLine: ({ source, line, reason }) => {
      if (++badLines > shownBadLines) return;
      progress.note(say(context, messages.badLine, { where: `${source}:${line}`, reason }));
    },
    onProgress: ({ done, source, tokens }) =>
      progress.update({ done, extra: [source, `${formatInteger(tokens)} token`] }),
  }).finally(() => progress.finish());
  if (badLines > shownBadLines) note(context, say(context, messages.badLines, { count: formatInteger(badLines) }));
  const { documents, characters, tokens } = dataset.statistics;
  note(
    context,
    say(context, messages.corpus, {
      documents: formatInteger(documents),
      characters: formatInteger(characters),
      tokens: formatInteger(tokens),
      vocab: formatInteger(dataset.tokenizer.vocabSize),
      source: say(context, vocab === undefined ? messages.trainedVocabulary : messages.givenVocabulary),
    }),
  );
  if (cut) note(context, say(context, messages.cut, { characters: formatInteger(maxCharacters) }));
}
