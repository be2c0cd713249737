/**
 * Peer of bench/small-hardware.ts: llama.cpp through node-llama-cpp, one measurement for each line on standard input.
 *
 *     node bench/peers/llama-worker.js NODE_LLAMA_CPP_FOLDER MODEL.gguf THREADS
 *
 * Lines: `decode N` generates N tokens one by one, `prefill N` reads N tokens; each answers with one line of JSON.
 * node-llama-cpp is no dependency of the project: install it anywhere and name its folder.
 */
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [folder, model, threads] = process.argv.slice(2);
const { getLlama } = await import(pathToFileURL(`${folder}/dist/index.js`).href);
const llama = await getLlama({ gpu: false, build: "never", maxThreads: Number(threads), logLevel: "error" });
const loaded = await llama.loadModel({ modelPath: model, gpuLayers: 0, useMmap: true });
const context = await loaded.createContext({ contextSize: 1024, batchSize: 512, threads: Number(threads) });
const sequence = context.getSequence();
const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
say({ ready: true, threads: context.currentThreads, system: llama.systemInfo });
for await (const line of createInterface({ input: process.stdin })) {
  const [what, count] = line.split(" ");
  const n = Number(count);
  await sequence.clearHistory();
  const prompt = Array.from({ length: what === "prefill" ? n : 32 }, (_, i) => 100 + ((i * 37) % 900));
  if (what === "prefill") {
    const began = performance.now();
    await sequence.evaluateWithoutGeneratingNewTokens(prompt);
    say({ ms: performance.now() - began });
    continue;
  }
  await sequence.evaluateWithoutGeneratingNewTokens(prompt);
  const times = [];
  let token = 500;
  for (let i = 0; i < n; i++) {
    const began = performance.now();
    // One token in, the next token's choice out: greedy.
    for await (const next of sequence.evaluate([token], { temperature: 0, yieldEogToken: true })) {
      token = next > 2 ? next : 500;
      break;
    }
    times.push(performance.now() - began);
  }
  times.sort((a, b) => a - b);
  say({ ms: times[times.length >> 1] });
}
process.exit(0);
