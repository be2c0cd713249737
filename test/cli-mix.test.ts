/** `cpm generate` with several deltas on one base: each prompt is what it is with its own delta alone. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { suite, test } from "node:test";
import type { DeltaSpec } from "../src/delta/methods/index.ts";
import { runCli } from "./support/cli-world.ts";
import { temporaryFolder, writeSmallModel } from "./support/text-model.ts";
import { writeRandomDelta } from "./support/written-delta.ts";

const folder = temporaryFolder("cpm-mix-");
const base = join(folder, "base");

const writeDelta = (name: string, spec: DeltaSpec, seed: number) =>
  writeRandomDelta(base, join(folder, name), spec, { seed });

async function texts(...words: string[]): Promise<string[]> {
  const asked = ["generate", base, ...words, "--mode", "greedy", "--max-tokens", "6", "--json"];
  const { code, stdout, stderr } = await runCli(asked);
  assert.equal(code, 0, stderr);
  return stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line).text);
}

suite("cpm generate with several deltas", () => {
  test("in one batch, by --mix, as each alone; sums, and what does not fit", async () => {
    await writeSmallModel(base);
    const a = await writeDelta("a", { method: "lora", rank: 2 }, 1);
    const b = await writeDelta("b", { method: "lora", rank: 3, places: ["attn.out"] }, 2);
    const prompts = ["春天来了", "学习"];
    const [plain, ofA, ofB] = [
      await texts(...prompts),
      await texts(...prompts, "--delta", a),
      await texts(...prompts, "--delta", b),
    ];
    assert.notDeepEqual(ofA, plain);
    assert.notDeepEqual(ofB, plain);
    const both = ["--delta", a, "--delta", b];
    assert.deepEqual(await texts(...prompts, ...both, "--mix", "1,0;0,1"), [ofA[0], ofB[1]]);
    assert.deepEqual(await texts(...prompts, ...both, "--mix", "0,1"), ofB);
    assert.deepEqual(await texts(...prompts, ...both, "--mix", "0,0"), plain);
    assert.deepEqual(await texts(...prompts, ...both), await texts(...prompts, ...both, "--mix", "1,1"));
    for (const wrong of ["1", "1,0;0,1;1,1", "1,0,0"]) {
      const { code, stderr } = await runCli(["generate", base, ...prompts, ...both, "--mix", wrong]);
      assert.notEqual(code, 0);
      assert.match(stderr, /CPM_CLI_USAGE/);
    }
  });
});
