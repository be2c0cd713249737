/** Compiled programs kept on disk: the same numbers when they are mapped, rebuilt where they are damaged or stale. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { openCheckpoint } from "../src/checkpoint/index.ts";
import { createCpmAntSession, loadWeights } from "../src/infer/index.ts";
import { openProgramCache } from "../src/infer/program-cache.ts";
import { createNativeRuntime } from "../src/runtime/index.ts";
import { userCacheFolder } from "../src/util/cache-folder.ts";
import { runCli } from "./support/cli-world.ts";
import { temporaryFolder } from "./support/text-model.ts";

const folder = temporaryFolder("cpm-program-cache-");
const model = join(folder, "model");
const kept = join(folder, "cache");
const cpm = fileURLToPath(new URL("../bin/cpm.js", import.meta.url));

/** Logits of a prompt and a step through the cache. */
async function logits(): Promise<number[]> {
  using runtime = createNativeRuntime({ threads: 1 });
  await using checkpoint = await openCheckpoint(model);
  const cache = await openProgramCache(kept, checkpoint.files);
  const weights = await loadWeights(runtime, checkpoint);
  const session = await createCpmAntSession(runtime, checkpoint.config, weights.tensors, { capacityTokens: 16, cache });
  const found = [...(await session.prefill([[7, 20, 33]])), ...(await session.step(Int32Array.of(9)))];
  session.dispose();
  weights.dispose();
  return found;
}

const files = () =>
  readdirSync(kept, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".data"))
    .map((name) => join(kept, name));

suite("program cache", () => {
  test("what is mapped gives the numbers of what was compiled; damage is found and repaired", async () => {
    const made = await runCli(["init", model, "--preset", "tiny", "--precision", "int4", "--layers", "2"]);
    assert.equal(made.code, 0, made.stderr);
    const first = await logits();
    const times = () => files().map((file) => statSync(file).mtimeMs);
    assert.equal(files().length, 5, "two programs a layer, and the head");
    const written = times();
    assert.deepEqual(await logits(), first);
    assert.deepEqual(times(), written, "nothing was written again");

    const damaged = files().find((file) => file.includes("1-finish"))!;
    const bytes = readFileSync(damaged);
    bytes[bytes.length >> 1]! ^= 0x55;
    writeFileSync(damaged, bytes);
    assert.deepEqual(await logits(), first);
    assert.notDeepEqual(times(), written, "the damaged one was made again");
  });

  test("other weights have another folder, and hashes are remembered by size, time and inode", async () => {
    const weights = join(model, "model.safetensors");
    const { key } = await openProgramCache(kept, [weights]);
    const bytes = readFileSync(weights);
    bytes[bytes.length - 9]! ^= 1;
    const { atime, mtime } = statSync(weights);
    writeFileSync(weights, bytes);
    utimesSync(weights, atime, new Date(mtime.getTime() + 5000));
    const other = await openProgramCache(kept, [weights]);
    assert.notEqual(other.key, key);
    // A note that cannot be read is no harm.
    for (const note of readdirSync(join(kept, "digests"))) writeFileSync(join(kept, "digests", note), "{");
    assert.equal((await openProgramCache(kept, [weights])).key, other.key);
  });

  test("the folder is the platform's, or the one that is named", () => {
    assert.equal(userCacheFolder({ CPM_LIVE_CACHE: "/c" }), "/c");
    assert.equal(userCacheFolder({ HOME: "/h", XDG_CACHE_HOME: "/x" }, "linux"), join("/x", "cpm-live"));
    assert.equal(userCacheFolder({ HOME: "/h" }, "linux"), join("/h", ".cache", "cpm-live"));
    assert.equal(userCacheFolder({ HOME: "/h" }, "darwin"), join("/h", "Library", "Caches", "cpm-live"));
  });
});

suite("two processes", () => {
  test("that make the same cache at once both get it right, and leave it whole", async () => {
    const env = { ...process.env, CPM_LIVE_CACHE: join(folder, "shared-cache") };
    const words = [
      cpm,
      "generate",
      model,
      "春天",
      "--mode",
      "greedy",
      "--max-tokens",
      "3",
      "--json",
      "--memory",
      "8GiB",
    ];
    const start = () => promisify(execFile)(process.execPath, words, { env, timeout: 120_000 });
    const runs = await Promise.all([start(), start(), start()]);
    const ids = runs.map(({ stdout }) => JSON.stringify(JSON.parse(stdout.trim()).ids));
    assert.equal(new Set(ids).size, 1, ids.join(" "));
    const kept = readdirSync(env.CPM_LIVE_CACHE, { recursive: true, encoding: "utf8" });
    assert.deepEqual(
      kept.filter((name) => name.includes(".new-")),
      [],
      "nothing is left half made",
    );
    const { stdout } = await start();
    assert.equal(JSON.stringify(JSON.parse(stdout.trim()).ids), ids[0]);
  });
});

suite("memory budget", () => {
  test("layers that do not fit are read in their turn, with the same numbers; pages are asked for and let go", async () => {
    const model = join(folder, "deep");
    const made = await runCli(["init", model, "--preset", "tiny", "--precision", "int8"]);
    assert.equal(made.code, 0, made.stderr);
    const cacheFolder = join(folder, "deep-cache");
    const run = async (layerLimitBytes?: () => number) => {
      using runtime = createNativeRuntime({ threads: 1 });
      await using checkpoint = await openCheckpoint(model);
      const cache = await openProgramCache(cacheFolder, checkpoint.files);
      const weights = await loadWeights(runtime, checkpoint);
      const options = { capacityTokens: 16, cache, layerLimitBytes };
      const opened = createCpmAntSession(runtime, checkpoint.config, weights.tensors, options);
      try {
        const session = await opened;
        const logits = [...(await session.prefill([[7, 20, 33]])), ...(await session.step(Int32Array.of(9)))];
        logits.push(...(await session.extend([[4, 5, 6]])));
        session.dispose();
        return logits;
      } finally {
        weights.dispose();
      }
    };
    const all = await run();
    if (process.platform !== "linux") return;
    assert.deepEqual(await run(() => 1.2 * 2 ** 20), all, "three of four layers in turns");
    await assert.rejects(
      run(() => 2 ** 18),
      { code: "CPM_INFER_MEMORY" },
    );
  });
});
