/**
 * A worker process without a model, for tests of what is around workers. Its text is a function of prompt and seed. The
 * prompt's first id says what happens: 100 ends the process after three tokens, 101 does so only the first time it is asked
 * in this folder (given as the model's path), 102 never makes a step, 103 fails, 104 goes slowly, 105 says other tokens
 * after a restart; else it answers at once.
 */
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import type { TokenEvent } from "../../src/infer/generated-row.ts";
import type { FromWorker, ToWorker } from "../../src/serve/worker-protocol.ts";

const cancelled = new Set<number>();
let rows = 0;
let steps = 0;
let folder = "";

const send = (message: FromWorker) => process.connected && process.send!(message, undefined, undefined, () => {});
const first = (name: string) => {
  const path = join(folder, name);
  if (existsSync(path)) return false;
  writeFileSync(path, "");
  return true;
};

async function run({ job, task }: Extract<ToWorker, { type: "run" }>): Promise<void> {
  if (task.kind !== "generate") {
    send({
      type: "done",
      job,
      answer: { kind: "score", logprobs: [], top: [] },
      work: { promptTokens: 1, cachedTokens: 0, generatedTokens: 0, computeMs: 1 },
    });
    return;
  }
  const [kind = 0] = task.prompt;
  const { maxTokens, samples, seed } = task.settings;
  if (kind === 103) {
    send({ type: "failed", job, error: { code: "CPM_INFER_CAPACITY", message: "no room" } });
    return;
  }
  rows += samples;
  const ending = kind === 100 || (kind === 101 && first("ended"));
  const changed = kind === 105 && !first("changed") ? 1 : 0;
  const texts = Array.from({ length: samples }, (_, sample) => ({ sample, ids: [] as number[], text: "" }));
  while (kind === 102) await wait(50);
  for (let at = 0; at < maxTokens && !cancelled.has(job); at++) {
    if (kind === 104) await wait(20);
    for (const { sample, ids } of texts) {
      const id = ((seed + sample + at) % 50) + changed;
      ids.push(id);
      const finish = at === maxTokens - 1 ? ("length" as const) : null;
      const event: TokenEvent = { row: 0, sample, id, text: `${id},`, logprob: -1, top: [], finish };
      send({ type: "events", events: [[job, event]] });
    }
    steps++;
    if (at === 2 && (ending || (kind === 105 && changed === 0))) {
      await wait(50); // what was said gets there
      process.kill(process.pid, "SIGKILL");
      await wait(1000);
    }
  }
  rows -= samples;
  const answer = {
    kind: "generate" as const,
    texts: texts.map(({ sample, ids }) => ({
      row: 0,
      sample,
      ids,
      logprobs: ids.map(() => -1),
      top: ids.map(() => []),
      text: ids.map((id) => `${id},`).join(""),
      finish: cancelled.has(job) ? ("cancelled" as const) : ("length" as const),
      score: null,
    })),
  };
  const work = {
    promptTokens: task.prompt.length,
    cachedTokens: 0,
    generatedTokens: maxTokens * samples,
    computeMs: 1,
  };
  send({ type: "done", job, answer, work });
}

process.on("message", (message: ToWorker) => {
  if (message.type === "run") void run(message);
  else if (message.type === "cancel") cancelled.add(message.job);
  else if (message.path === "unusable") {
    send({ type: "unusable", error: { code: "CPM_X", message: "the weights are damaged" } });
  } else {
    folder = message.path;
    const counts = { cachedTokens: 0, promptCacheBytes: 0, draftedTokens: 0, acceptedTokens: 0 };
    setInterval(() => send({ type: "state", rows, steps, residentBytes: process.memoryUsage.rss(), counts }), 50);
    send({ type: "ready" });
  }
});
process.on("disconnect", () => process.exit(0));
