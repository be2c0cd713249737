/** Decoding on the WebGPU provider, over whatever Vulkan driver there is: a software one serves. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { fileURLToPath } from "node:url";
import { runCli } from "./support/cli-world.ts";
import { temporaryFolder } from "./support/text-model.ts";

/** SwiftShader as Debian's chromium brings it. */
const softwareDriver = "/usr/lib/chromium/vk_swiftshader_icd.json";
const cpm = fileURLToPath(new URL("../bin/cpm.js", import.meta.url));

function generate(model: string, device: string, ...more: string[]) {
  return generateWith(
    process.env.VK_ICD_FILENAMES ?? (existsSync(softwareDriver) ? softwareDriver : undefined),
    model,
    device,
    more,
  );
}

function generateWith(driver: string | undefined, model: string, device: string, more: readonly string[]) {
  const asked = ["--device", device, "--mode", "greedy", "--max-tokens", "3", "--json", ...more];
  const words = [cpm, "generate", model, "春天来了", ...asked];
  const env = { ...process.env, ...(driver !== undefined && { VK_ICD_FILENAMES: driver }) };
  return spawnSync(process.execPath, words, { env, encoding: "utf8", timeout: 240_000 });
}

suite("WebGPU provider", () => {
  for (const precision of ["float32", "int4"]) {
    test(`${precision} weights: the tokens of the processor, and about their probabilities`, async (t) => {
      const folder = temporaryFolder("cpm-webgpu-");
      const model = join(folder, "model");
      const made = await runCli(["init", model, "--preset", "tiny", "--layers", "2", "--precision", precision]);
      assert.equal(made.code, 0, made.stderr);
      const there = generate(model, "webgpu");
      if (there.stderr.includes("CPM_RUNTIME_UNSUPPORTED")) {
        assert.match(there.stderr, /驱动|driver/, "the message says what is missing");
        t.skip("SKIPPED: no Vulkan driver here (Debian: libvulkan1 and chromium's SwiftShader)");
        return;
      }
      assert.equal(there.status, 0, there.stderr);
      const here = generate(model, "cpu");
      const text = ({ stdout }: { stdout: string }) => JSON.parse(stdout.trim().split("\n")[0]!);
      const [a, b] = [text(there), text(here)];
      assert.deepEqual(a.ids, b.ids);
      assert.equal(a.text, b.text);
      const logprobs: number[] = a.logprobs ?? [];
      for (const [i, logprob] of logprobs.entries()) {
        assert.ok(
          Math.abs(logprob - b.logprobs[i]) < (precision === "int4" ? 0.1 : 1e-3),
          `${logprob} and ${b.logprobs[i]}`,
        );
      }
    });
  }

  test("a stage of the model on the device, the rest on the processor", async (t) => {
    const model = join(temporaryFolder("cpm-webgpu-stage-"), "model");
    const made = await runCli(["init", model, "--preset", "tiny", "--layers", "3"]);
    assert.equal(made.code, 0, made.stderr);
    const there = generate(model, "webgpu", "--device-layers", "1-1");
    if (there.stderr.includes("CPM_RUNTIME_UNSUPPORTED")) {
      t.skip("SKIPPED: no Vulkan driver here (Debian: libvulkan1 and chromium's SwiftShader)");
      return;
    }
    assert.equal(there.status, 0, there.stderr);
    const ids = ({ stdout }: { stdout: string }) => JSON.parse(stdout.trim().split("\n")[0]!).ids;
    assert.deepEqual(ids(there), ids(generate(model, "cpu")));
    // Without a driver the stage has nowhere to run: so it did run there.
    const nowhere = generateWith("/nowhere.json", model, "webgpu", ["--device-layers", "1-1"]);
    assert.match(nowhere.stderr, /CPM_RUNTIME_UNSUPPORTED/);
    assert.equal(
      generateWith("/nowhere.json", model, "webgpu", ["--device-layers", "7-9"]).status,
      0,
      "no such layers",
    );
  });

  test("a provider that is not there is a clear error", () => {
    const { status, stderr } = generate("/nowhere", "cuda");
    assert.notEqual(status, 0);
    assert.match(stderr, /CPM_RUNTIME_UNSUPPORTED/);
  });
});
