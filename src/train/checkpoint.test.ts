import assert from "node:assert/strict";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { openCheckpoint } from "../checkpoint/index.ts";
import { parameterTable } from "../model/parameters.ts";
import { preset } from "../model/presets.ts";
import { CpmError } from "../util/error.ts";
import { fillNormal } from "../util/random.ts";
import { arenaLayout } from "./arena.ts";
import {
  type CheckpointContent,
  checkpointName,
  expendable,
  listCheckpoints,
  readCheckpoint,
  retentionSchema,
  type TrainState,
  writeCheckpoint,
} from "./checkpoint.ts";

const folder = mkdtempSync(join(tmpdir(), "cpm-checkpoint-"));
after(() => rmSync(folder, { recursive: true }));

const config = {
  ...preset("tiny"),
  vocabSize: 64,
  layers: 1,
  dimModel: 32,
  heads: 2,
  dimHead: 16,
  dimFf: 48,
  half: false,
};
const layout = arenaLayout(parameterTable(config));
/** Numbers in every parameter, zeros in the padding, as an arena has them. */
function filled(stream: string): Float32Array {
  const flat = new Float32Array(layout.elements);
  for (const { name, shape } of layout.parameters) {
    const start = layout.offsets.get(name)!;
    fillNormal(flat.subarray(start, start + shape.reduce((a, b) => a * b, 1)), 1, `${stream} ${name}`);
  }
  return flat;
}
const state = (step: number): TrainState => ({
  format: 1,
  step,
  tokens: step * 100,
  updates: step - 1,
  trainedMs: 12.5,
  data: { position: [1, 2, { deep: "字" }] },
  guard: { losses: [3.25] },
  rateFactor: 0.5,
  lossScale: null,
  best: { step: 1, nats: 3 },
  sinceBest: 0,
});
const content = (step: number, ema = false): CheckpointContent => ({
  config,
  layout,
  snapshot: { parameters: filled("p"), first: filled("m"), second: filled("v"), ...(ema && { ema: filled("e") }) },
  state: state(step),
  vocabularyText: "<pad>\n",
});
const code = (error: unknown) => error instanceof CpmError && error.code === "CPM_TRAIN_CHECKPOINT";
let number = 0;
const place = () => {
  const path = join(folder, String(number++));
  mkdirSync(path);
  return path;
};

test("what is written is read back to the last bit, with and without averaged weights", async () => {
  for (const ema of [false, true]) {
    const at = place();
    const written = content(7, ema);
    const { path, bytes } = await writeCheckpoint(at, written);
    assert.equal(path, join(at, "step-00000007"));
    const found = await readCheckpoint(path, layout);
    assert.deepEqual(found.state, state(7));
    assert.deepEqual(found.snapshot, { ema: undefined, ...written.snapshot });
    const sizes = readdirSync(path)
      .filter((name) => name !== "manifest.json")
      .map((name) => readFileSync(join(path, name)).length);
    assert.equal(
      bytes,
      sizes.reduce((a, b) => a + b, 0),
    );
    assert.deepEqual(readdirSync(at), ["step-00000007"]);
  }
});

test("its weights open like any model", async () => {
  const { path } = await writeCheckpoint(place(), content(3));
  const opened = await openCheckpoint(path);
  assert.equal(opened.config.dimModel, 32);
  await opened.close();
});

test("a second one at the same step replaces the first", async () => {
  const at = place();
  await writeCheckpoint(at, content(5));
  const { path } = await writeCheckpoint(at, { ...content(5), state: { ...state(5), tokens: 999 } });
  assert.equal((await readCheckpoint(path, layout)).state.tokens, 999);
});

test("every way of being damaged is told, and where", async () => {
  const damages: Readonly<Record<string, (path: string) => void>> = {
    "cut off": (path) => truncateSync(join(path, "optimizer.safetensors"), 1000),
    "a byte more": (path) => appendFileSync(join(path, "state.json"), " "),
    "a flipped bit": (path) => {
      const file = join(path, "model.safetensors");
      const bytes = readFileSync(file);
      bytes[bytes.length - 5]! ^= 1;
      writeFileSync(file, bytes);
    },
    "a missing file": (path) => rmSync(join(path, "vocab.txt")),
    "no manifest": (path) => rmSync(join(path, "manifest.json")),
    "a manifest that is no JSON": (path) => writeFileSync(join(path, "manifest.json"), "{"),
    "a manifest that leads outside": (path) =>
      writeFileSync(join(path, "manifest.json"), '{"../../x":{"bytes":1,"sha256":""}}'),
    "a manifest that lacks files": (path) => writeFileSync(join(path, "manifest.json"), "{}"),
  };
  for (const [name, damage] of Object.entries(damages)) {
    const { path } = await writeCheckpoint(place(), content(9));
    damage(path);
    await assert.rejects(
      readCheckpoint(path, layout),
      (error) => code(error) && String((error as CpmError).where).startsWith(path),
      name,
    );
  }
});

test("a checkpoint of another model is refused", async () => {
  const { path } = await writeCheckpoint(place(), content(2));
  const other = arenaLayout(parameterTable({ ...config, dimFf: 64 }));
  await assert.rejects(readCheckpoint(path, other), (error) => code(error) && /another model/.test(String(error)));
});

test("a folder that cannot be written gives an error and leaves what was there", async () => {
  const at = place();
  const { path } = await writeCheckpoint(at, content(1));
  writeFileSync(join(at, "file"), "");
  await assert.rejects(writeCheckpoint(join(at, "file"), content(2)), (error) => error instanceof CpmError);
  assert.deepEqual((await readCheckpoint(path, layout)).state, state(1));
  assert.deepEqual(readdirSync(at).sort(), ["file", "step-00000001"]);
});

test("checkpoints are listed by step; half-written ones and others are not", async () => {
  const at = place();
  for (const name of [checkpointName(300), checkpointName(20), ".step-00000400.partial-1-1", "step-1", "notes"])
    mkdirSync(join(at, name));
  assert.deepEqual(
    (await listCheckpoints(at)).map(({ step }) => step),
    [20, 300],
  );
  assert.deepEqual(await listCheckpoints(join(at, "absent")), []);
  assert.ok(existsSync(join(at, "notes")));
});

test("retention: the last ones, every so many, the best; the newest always stays", () => {
  const steps = [100, 200, 300, 400, 500, 600];
  const rule = (changes: object) => retentionSchema.parse(changes);
  assert.deepEqual(expendable(steps, rule({ last: 2, best: false })), [100, 200, 300, 400]);
  assert.deepEqual(expendable(steps, rule({ last: 1, every: 300, best: false })), [100, 200, 400, 500]);
  assert.deepEqual(expendable(steps, rule({ last: 1 }), 200), [100, 300, 400, 500]);
  assert.deepEqual(expendable([5], rule({ last: 1, best: false })), []);
  assert.deepEqual(expendable([], rule({})), []);
});
