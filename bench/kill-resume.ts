/**
 * Kills a small run with SIGKILL at random moments, resumes it each time, and compares the weights at the end, byte for
 * byte, with those of a run that was never interrupted.
 *
 *     node bench/kill-resume.ts [--kills 20] [--steps 120]
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { finalWeights, runCpm, smallDataset, smallRun, startCpm } from "../test/support/small-run.ts";
import { machine } from "./report.ts";

const { values } = parseArgs({
  options: { kills: { type: "string", default: "20" }, steps: { type: "string", default: "120" } },
});
const [wanted, steps] = [Number(values.kills), Number(values.steps)];
const folder = mkdtempSync(join(tmpdir(), "cpm-kill-bench-"));
try {
  const data = await smallDataset(folder);
  const whole = join(folder, "whole");
  const first = await runCpm(smallRun(data, whole, steps));
  if (first.code !== 0) throw new Error(first.stderr);
  const run = join(folder, "killed");
  const events = join(run, "events.jsonl");
  const size = () => (existsSync(events) ? readFileSync(events).length : 0);
  let kills = 0;
  let saving = 0;
  let done = false;
  while (!done) {
    const words = existsSync(join(run, "run.json"))
      ? ["train", "--resume", run, "--lang", "en"]
      : smallRun(data, run, steps);
    const { child, ended } = startCpm(words);
    if (kills < wanted) {
      const before = size();
      while (size() === before && child.exitCode === null) await sleep(2);
      await sleep(Math.random() * 400);
      const names = existsSync(join(run, "checkpoints"))
        ? (await import("node:fs")).readdirSync(join(run, "checkpoints"))
        : [];
      if (child.exitCode === null && names.some((name) => name.startsWith(".step-"))) saving++;
      child.kill("SIGKILL");
    }
    const { code, signal, stderr } = await ended;
    if (signal === "SIGKILL") kills++;
    else if (code === 0) done = true;
    else throw new Error(stderr);
  }
  const same = finalWeights(run, steps).equals(finalWeights(whole, steps));
  console.log(machine());
  console.log(
    `${kills} kills (${saving} of them with a checkpoint half written), ${steps} steps: weights and moments ${same ? "identical to the last bit" : "DIFFER"}`,
  );
  if (!same) process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true });
}
