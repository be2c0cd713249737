/**
 * Streams side by side against one alone: tokens a second through the whole server, time to the first token and between
 * tokens.
 *
 *     node bench/serve.ts MODEL [--vocab FILE] [--streams 16] [--tokens 128] [--prompt-tokens 64] [--rounds 5]
 *
 * The server is a process of its own with its worker; the clients are in this one, on the same cores. One stream and many
 * take turns, round by round; the ratio is that of the medians, and of the best rounds where the machine is not quiet.
 * Processor time of server and worker for each token is told as well: other load moves it less.
 */
import { request } from "node:http";
import { parseArgs } from "node:util";
import { createRandom } from "../src/util/random.ts";
import { processorMs, startServeProcess } from "../test/support/serve-process.ts";
import { machine, median } from "./report.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    vocab: { type: "string" },
    streams: { type: "string", default: "16" },
    tokens: { type: "string", default: "128" },
    "prompt-tokens": { type: "string", default: "64" },
    rounds: { type: "string", default: "5" },
    threads: { type: "string" },
  },
});
const [model] = positionals;
if (model === undefined) throw new Error("usage: node bench/serve.ts MODEL");
const streams = Number(values.streams);
const tokens = Number(values.tokens);
const server = await startServeProcess([
  model,
  ...(values.vocab === undefined ? [] : ["--vocab", values.vocab]),
  ...(values.threads === undefined ? [] : ["--threads", values.threads]),
  "--rows",
  values.streams,
  "--context",
  String(Number(values["prompt-tokens"]) + tokens + 8),
  "--quiet",
]);

interface Timing {
  readonly firstMs: number;
  readonly betweenMs: readonly number[];
  readonly tokens: number;
}

/** Ids that are nobody's specials: any prompt of this length costs the same, and none comes twice. */
const promptTokens = Number(values["prompt-tokens"]);
function promptOf(seed: number): number[] {
  const random = createRandom(seed, "prompt");
  return Array.from({ length: promptTokens }, () => 300 + random.integer(900));
}

function stream(seed: number): Promise<Timing> {
  const prompt = promptOf(seed);
  const body = JSON.stringify({ prompt, seed, max_tokens: tokens, min_tokens: tokens, stream: true });
  return new Promise((resolve, reject) => {
    const startMs = performance.now();
    const arrivals: number[] = [];
    let text = "";
    const outgoing = request(`${server.url}/v1/completions`, { method: "POST" }, (incoming) => {
      if (incoming.statusCode !== 200) return reject(new Error(`status ${incoming.statusCode}`));
      incoming.setEncoding("utf8").on("data", (part: string) => {
        const nowMs = performance.now();
        text += part;
        const blocks = text.split("\n\n");
        text = blocks.pop()!;
        for (const block of blocks) if (block.includes('"finish_reason"')) arrivals.push(nowMs);
      });
      incoming.on("end", () => {
        const betweenMs = arrivals.slice(1).map((at, i) => at - arrivals[i]!);
        resolve({ firstMs: arrivals[0]! - startMs, betweenMs, tokens: arrivals.length });
      });
      incoming.on("error", reject);
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

async function round(count: number, seed: number) {
  const startMs = performance.now();
  const usedMs = processorMs(server.pid);
  const timings = await Promise.all(Array.from({ length: count }, (_, i) => stream(seed * 1000 + i)));
  const seconds = (performance.now() - startMs) / 1000;
  const total = timings.reduce((sum, timing) => sum + timing.tokens, 0);
  if (total !== count * tokens) throw new Error(`${total} tokens instead of ${count * tokens}`);
  return { tokensPerSecond: total / seconds, processorMs: (processorMs(server.pid) - usedMs) / total, timings };
}

function quantile(all: readonly number[], share: number): string {
  const sorted = [...all].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!.toFixed(1);
}

console.log(machine());
console.log(`${model}: prompts of ${promptTokens} tokens, ${tokens} tokens a stream, rows ${streams}`);
await round(1, 0);
const alone: Awaited<ReturnType<typeof round>>[] = [];
const together: Awaited<ReturnType<typeof round>>[] = [];
for (let i = 1; i <= Number(values.rounds); i++) {
  alone.push(await round(1, i));
  together.push(await round(streams, i));
  console.log(
    `round ${i}: ${alone.at(-1)!.tokensPerSecond.toFixed(0)} tokens/s alone, ${together.at(-1)!.tokensPerSecond.toFixed(0)} with ${streams}`,
  );
}
const processor = (rounds: typeof alone) => median(rounds.map((each) => each.processorMs));
const speeds = (rounds: typeof alone) => rounds.map(({ tokensPerSecond }) => tokensPerSecond);
for (const [name, rounds] of [
  ["1 stream", alone],
  [`${streams} streams`, together],
] as const) {
  const timings = rounds.flatMap((each) => each.timings);
  const first = timings.map(({ firstMs }) => firstMs);
  const between = timings.flatMap(({ betweenMs }) => betweenMs);
  console.log(
    `${name}: ${median(speeds(rounds)).toFixed(0)} tokens/s (best ${Math.max(...speeds(rounds)).toFixed(0)}); ` +
      `${processor(rounds).toFixed(2)} ms of processor a token; ` +
      `first token p50 ${quantile(first, 0.5)} p95 ${quantile(first, 0.95)} ms; ` +
      `between tokens p50 ${quantile(between, 0.5)} p95 ${quantile(between, 0.95)} ms`,
  );
}
console.log(
  `${streams} streams against one: ${(median(speeds(together)) / median(speeds(alone))).toFixed(2)} × by medians, ` +
    `${(Math.max(...speeds(together)) / Math.max(...speeds(alone))).toFixed(2)} × by best rounds (bar 5), ` +
    `${(processor(alone) / processor(together)).toFixed(2)} × less processor time a token`,
);
server.kill("SIGTERM");
await server.ended;
