/** `cpm run`: a model that is loaded once and written with, line by line. */
import { z } from "zod";
import type { TextGenerator } from "../../infer/index.ts";
import { type GenerateOptionsInput, parseGenerateOptions } from "../../infer/options.ts";
import { parameterCount } from "../../model/parameters.ts";
import { userCacheFolder } from "../../util/cache-folder.ts";
import { CpmError } from "../../util/error.ts";
import { defineCommand } from "../command.ts";
import { type CommandContext, note, print, say } from "../context.ts";
import { freeMemoryBytes } from "../machine.ts";
import { runMessages as messages } from "../messages/run.ts";
import { devicesOf, hardwareFields, memoryBudgetBytes, modelFields, shownText } from "../model-options.ts";
import { formatInteger, formatNumber } from "../quantity.ts";
import { renderError } from "../render-error.ts";
import { renderFacts } from "../table.ts";
import { linesOf } from "../text-input.ts";

/** What `/set` changes. */
const settable = ["mode", "temperature", "topP", "topK", "maxTokens", "repetitionPenalty", "seed"] as const;

export default defineCommand({
  name: "run",
  summary: messages.summary,
  description: messages.description,
  examples: [{ line: "run models/10b --memory 4GiB", ...messages.example }],
  schema: z.object({
    model: z
      .string()
      .describe(messages.model.en)
      .meta({ zh: messages.model.zh, positional: true, placeholder: "MODEL" }),
    ...modelFields,
    ...hardwareFields,
  }),
  async run({ model, vocab, config, memory, device, deviceLayers, kvCache, threads, cache }, context) {
    const [{ createNativeRuntime }, { createTextGenerator, openTextModel }] = await Promise.all([
      import("../../runtime/index.ts"),
      import("../../infer/index.ts"),
    ]);
    const devices = devicesOf({ device, deviceLayers });
    using runtime = createNativeRuntime({ device: devices.device, ...(threads !== undefined && { threads }) });
    const opened = await openTextModel(runtime, model, {
      configPath: config,
      vocabularyPath: vocab,
      ...(cache && { cacheFolder: userCacheFolder(context.env), alwaysCache: memory !== undefined }),
    });
    const generator = createTextGenerator(runtime, opened, {
      placement: devices.placement,
      cacheType: kvCache,
      memoryLimitBytes: freeMemoryBytes(),
      memoryBudgetBytes: memoryBudgetBytes(memory),
    });
    const parameters = formatInteger(parameterCount(opened.config));
    note(context, say(context, messages.ready, { model, parameters }));
    try {
      await converse(generator, context);
    } finally {
      generator.dispose();
      opened.dispose();
    }
  },
});

/** Reads lines until there are none, or until `/quit`. What goes wrong with one is told, and the next is read. */
async function converse(generator: TextGenerator, context: CommandContext): Promise<void> {
  const settings: Record<string, unknown> = {};
  let beginning = "";
  let written = "";
  let seed = 0;
  const ask = () => {
    if (context.stdin.isTTY) context.stderr.write("› ");
  };
  const write = async (text: string) => {
    written = text + (await continueText(generator, text, { seed, ...settings } as GenerateOptionsInput, context));
  };
  ask();
  for await (const line of linesOf(context.stdin, "stdin")) {
    if (line === "/quit") return;
    try {
      if (line.startsWith("/") && line !== "/again") command(line, settings, context);
      else if ((line === "" || line === "/again") && beginning === "") note(context, say(context, messages.nothing));
      else if (line === "/again") {
        seed++;
        await write(beginning);
      } else if (line === "") await write(written);
      else {
        beginning = line.startsWith("+") ? written + line.slice(1) : line;
        await write(beginning);
      }
    } catch (error) {
      if (!(error instanceof CpmError) || context.signal.aborted) throw error;
      note(context, renderError(error, context.locale));
    }
    ask();
  }
}

function command(line: string, settings: Record<string, unknown>, context: CommandContext): void {
  const [name, key, ...rest] = line.split(/\s+/) as [string, string | undefined, ...string[]];
  const value = rest.join(" ");
  if (name === "/set" && key !== undefined && (settable as readonly string[]).includes(key) && value !== "") {
    const number = Number(value);
    const changed = { ...settings, [key]: Number.isNaN(number) ? value : number };
    parseGenerateOptions(changed as GenerateOptionsInput);
    Object.assign(settings, changed);
  } else if (name === "/show") {
    const all = parseGenerateOptions(settings as GenerateOptionsInput) as unknown as Record<string, unknown>;
    print(context, settable.map((setting) => `${setting} ${all[setting]}`).join("\n"));
  } else if (name === "/help" || name === "/set") {
    print(context, renderFacts(helpLines(context)));
  } else note(context, say(context, messages.unknownCommand, { command: name }));
}

function helpLines(context: CommandContext): [string, string][] {
  return [
    [say(context, messages.lineText), say(context, messages.continues)],
    [say(context, messages.lineEmpty), say(context, messages.goesOn)],
    [say(context, messages.linePlus), say(context, messages.appends)],
    ["/again", say(context, messages.again)],
    ["/set", say(context, messages.sets, { names: settable.join(", ") })],
    ["/show", say(context, messages.shows)],
    ["/quit", say(context, messages.quits)],
  ];
}

/** Writes what the model adds as it appears; resolves to it. */
async function continueText(
  generator: TextGenerator,
  text: string,
  settings: GenerateOptionsInput,
  context: CommandContext,
): Promise<string> {
  let added = "";
  const events = generator.stream([text], settings, { signal: context.signal, clock: context.now });
  for (;;) {
    const next = await events.next();
    if (next.done !== true) {
      added += next.value.text;
      context.stdout.write(shownText(next.value.text, context));
      await context.stdout.flush();
      continue;
    }
    context.stdout.write("\n");
    const { usage, timing } = next.value;
    if (timing !== null && timing.steps > 0) {
      const rate = formatNumber(1000 / timing.msPerStep);
      note(context, say(context, messages.speed, { tokens: usage.generatedTokens, rate }));
    }
    context.signal.throwIfAborted();
    return added;
  }
}
