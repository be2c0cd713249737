/**
 * What sharing a context saves: options of reading comprehension scored with all options of a question in one row, and in rows
 * of their own. Random weights, made-up ids with lengths as C3's; both ways in turns, best of some rounds. Processor time
 * beside wall time, which says little on a machine that does other things too.
 *
 *     node bench/scoring.ts [threads]
 */
import { createScorer, type ScoreRequest } from "../src/evaluate/scorer.ts";
import { parameterElements, parameterTable } from "../src/model/parameters.ts";
import { preset } from "../src/model/presets.ts";
import { createNativeRuntime } from "../src/runtime/index.ts";
import { createRandom, fillNormal } from "../src/util/random.ts";

const questions = 12;
const rounds = 2;
const threads = Number(process.argv[2] ?? 1);

const config = { ...preset("mini"), vocabSize: 10_240, layers: 6, dimModel: 384, dimFf: 1024, heads: 3, dimHead: 128 };
const random = createRandom(1, "scoring");
const ids = (length: number) => Int32Array.from({ length }, () => random.integer(config.vocabSize));
const shared = Array.from({ length: questions }, (): ScoreRequest => {
  const continuations = Array.from({ length: 4 }, () => ids(2 + random.integer(9)));
  return { context: ids(80 + random.integer(160)), continuations, promptTask: 2, segment: 2 };
});
const alone = shared.flatMap(({ continuations, ...rest }) =>
  continuations.map((continuation): ScoreRequest => ({ ...rest, continuations: [continuation] })),
);

using runtime = createNativeRuntime({ threads });
const parameters = new Map(
  parameterTable(config).map((parameter) => {
    const data = new Float32Array(parameterElements(parameter));
    fillNormal(data, 1, parameter.name, parameter.kind === "norm" ? 1 : 0, parameter.kind === "norm" ? 0 : 0.5);
    return [parameter.name, runtime.upload(data, "float32", parameter.shape)];
  }),
);
const scorer = await createScorer(runtime, config, parameters);
const ways = { "one row a question": shared, "one row an option": alone };
const best = new Map<string, { readonly cpuMs: number; readonly wallMs: number }>();
for (let round = 0; round <= rounds; round++) {
  for (const [name, requests] of Object.entries(ways)) {
    const start = process.cpuUsage();
    const startMs = performance.now();
    await scorer.score(requests);
    const wallMs = performance.now() - startMs;
    const { user, system } = process.cpuUsage(start);
    const before = best.get(name) ?? { cpuMs: Number.POSITIVE_INFINITY, wallMs: Number.POSITIVE_INFINITY };
    if (round === 0) continue;
    best.set(name, { cpuMs: Math.min(before.cpuMs, (user + system) / 1000), wallMs: Math.min(before.wallMs, wallMs) });
  }
}
for (const [name, { cpuMs, wallMs }] of best) {
  const perSecond = (questions * 1000) / cpuMs;
  console.log(
    `${name.padEnd(20)} ${cpuMs.toFixed(0).padStart(6)} ms of processor, ${wallMs.toFixed(0).padStart(6)} ms; ` +
      `${perSecond.toFixed(1)} questions for each second of processor`,
  );
}
const [one, each] = Object.keys(ways).map((name) => best.get(name)!.cpuMs);
console.log(`ratio ${(each! / one!).toFixed(2)} (${threads} threads, ${questions} questions of four options)`);
