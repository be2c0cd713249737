/**
 * Speculative decoding beside plain decoding: tokens a second, share of guesses that were accepted.
 *
 *     node bench/speculative.ts --model LARGE --draft SMALL [--tokens 200] [--threads 1] [--rounds 5] [--rows 1]
 *                                [--clock wall|processor]
 *
 * Checkpoints with one vocabulary. Each prompt is continued in each way in turn, round after round, so that other load falls
 * on all of them; the figures are of the median round. Prefill is left out, as it is the same with and without. Greedy
 * texts must be equal, else the benchmark fails.
 */
import { parseArgs } from "node:util";
import {
  createCpmAntSession,
  createLookupDrafter,
  createModelDrafter,
  type Drafter,
  type GenerateOptionsInput,
  generate,
  guessCost,
  openTextModel,
} from "../src/infer/index.ts";
import { parameterCount } from "../src/model/parameters.ts";
import { createNativeRuntime } from "../src/runtime/index.ts";
import { machine, median } from "./report.ts";

const { values } = parseArgs({
  options: {
    model: { type: "string" },
    draft: { type: "string" },
    tokens: { type: "string", default: "200" },
    threads: { type: "string", default: "1" },
    rounds: { type: "string", default: "5" },
    rows: { type: "string", default: "1" },
    "draft-tokens": { type: "string", default: "8" },
    clock: { type: "string", default: "wall" },
  },
});
if (values.model === undefined || values.draft === undefined) throw new Error("give --model and --draft");
const maxTokens = Number(values.tokens);
const rows = Number(values.rows);
const texts = ["春天来了，", "第一条　为了", "却说那日，", "豆腐切块，放入锅中，", "孔子曰：", "中华人民共和国"];

/** Processor time leaves out what other processes take; it is that of the clock with one thread. */
const processorMs = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};
const clock = values.clock === "processor" ? processorMs : () => performance.now();

const runtime = createNativeRuntime({ threads: Number(values.threads) });
const large = await openTextModel(runtime, values.model);
const small = await openTextModel(runtime, values.draft);
const { tokenizer } = large;
const capacityTokens = 64 + maxTokens;
const session = await createCpmAntSession(runtime, large.config, large.parameters, { capacityTokens });
const draftSession = await createCpmAntSession(runtime, small.config, small.parameters, { capacityTokens });
const ratio = parameterCount(large.config) / parameterCount(small.config);
const bytesOf = (model: typeof large) => [...model.parameters.values()].reduce((sum, each) => sum + each.byteLength, 0);
const cost = (draftBytes: number) => guessCost(large.config.vocabSize, bytesOf(large), draftBytes);
const ways: Readonly<Record<string, Drafter | undefined>> = {
  plain: undefined,
  draft: createModelDrafter(draftSession, cost(bytesOf(small))),
  lookup: createLookupDrafter(cost(0)),
};
const idTokenizer = {
  eosId: tokenizer.eosId,
  newlineId: tokenizer.newlineId,
  createDetokenizer: () => ({ push: () => "", flush: () => "" }),
};
const prompts = texts.map((text) => [tokenizer.bosId, ...tokenizer.encode(text).ids]);
const batches = Array.from({ length: Math.ceil(prompts.length / rows) }, (_, i) =>
  prompts.slice(i * rows, (i + 1) * rows),
);

console.log(machine(runtime.info));
const millions = (count: number) => `${(count / 1e6).toFixed(2)} M`;
console.log(
  `${millions(parameterCount(large.config))} parameters, draft ${millions(parameterCount(small.config))} (1/${ratio.toFixed(1)}), ` +
    `${rows} rows, ${maxTokens} tokens, most guesses ${values["draft-tokens"]}`,
);

const settings: Readonly<Record<string, GenerateOptionsInput>> = {
  greedy: { mode: "greedy" },
  "temperature 0.9, top-p 0.9": { temperature: 0.9, topP: 0.9 },
  "temperature 0.5": { temperature: 0.5, topP: 1 },
};
for (const [name, options] of Object.entries(settings)) {
  const rates = new Map<string, number[]>();
  const counts = new Map<string, { drafted: number; accepted: number }>();
  const results = new Map<string, string>();
  for (let round = -1; round < Number(values.rounds); round++) {
    for (const [way, drafter] of Object.entries(ways)) {
      let tokens = 0;
      let ms = 0;
      const ids: (readonly number[])[] = [];
      const count = { drafted: 0, accepted: 0 };
      for (const batch of batches) {
        const given = { ...options, maxTokens, forbiddenIds: [tokenizer.eosId] };
        const run = { drafter, maxDraftTokens: Number(values["draft-tokens"]), clock };
        const { texts: found, usage, timing, speculation } = await generate(session, idTokenizer, batch, given, run);
        tokens += usage.generatedTokens;
        ms += timing!.stepMs + timing!.chooseMs;
        count.drafted += speculation?.draftedTokens ?? 0;
        count.accepted += speculation?.acceptedTokens ?? 0;
        ids.push(...found.map((text) => text.ids));
      }
      // The first round warms up.
      if (round < 0) continue;
      rates.set(way, [...(rates.get(way) ?? []), (1000 * tokens) / ms]);
      counts.set(way, count);
      results.set(way, JSON.stringify(ids));
    }
  }
  if (options.mode === "greedy" && new Set(results.values()).size > 1) throw new Error("greedy texts differ");
  const plain = median(rates.get("plain")!);
  console.log(name);
  for (const [way, found] of rates) {
    const { drafted, accepted } = counts.get(way)!;
    const rate = median(found);
    const acceptance =
      drafted === 0
        ? ""
        : `, ${accepted} of ${drafted} guesses accepted (${((100 * accepted) / drafted).toFixed(0)} %)`;
    console.log(`  ${way.padEnd(6)} ${rate.toFixed(1)} tokens/s, ${(rate / plain).toFixed(2)} ×${acceptance}`);
  }
}
session.dispose();
draftSession.dispose();
small.dispose();
large.dispose();
runtime.dispose();
