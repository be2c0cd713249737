import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { tinyDocuments, tinyVocabSize, writeTinyDataset } from "../../test/support/tiny-dataset.ts";
import { checkBatch, countTargets } from "../model/batch.ts";
import { CpmError } from "../util/error.ts";
import type { BatchGeometry, SourceBatch } from "./batch-source.ts";
import { type MixtureOptions, type MixtureSource, openMixture } from "./mixture.ts";
import type { Mixture } from "./mixture-file.ts";
import { packingKinds } from "./packing.ts";

const promptLength = 4;
const limits = { vocabSize: tinyVocabSize, promptTypes: 3, promptLength, segmentTypes: 3 };
const options: MixtureOptions = {
  seed: 1,
  promptLength,
  fillShare: 0.5,
  heldOutShare: 0,
  packing: { kind: "bestFit" },
};
const shape: BatchGeometry = { rows: 3, columns: 40 };

let folder: string;
const open: MixtureSource[] = [];
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "mixture-"));
  // Documents of 3 to 60 tokens: news has ids from 100, poems from 1000, in two data sets.
  const lengths = (count: number) => Array.from({ length: count }, (_, i) => 3 + ((i * 17) % 58));
  await writeTinyDataset(join(folder, "a"), [
    { source: "news", documents: tinyDocuments(100, lengths(20)) },
    { source: "news", documents: tinyDocuments(120, lengths(15)) },
    { source: "web", documents: tinyDocuments(500, lengths(10)) },
  ]);
  await writeTinyDataset(join(folder, "b"), [{ source: "poems", documents: tinyDocuments(1000, lengths(12)) }]);
});
afterEach(() => {
  for (const source of open.splice(0)) source.dispose();
  rmSync(folder, { recursive: true });
});

async function opened(mixture: Mixture | string = both(), changes: Partial<MixtureOptions> = {}) {
  const source = await openMixture(mixture, { ...options, ...changes });
  open.push(source);
  return source;
}
const both = (): Mixture => ({ sources: [{ data: join(folder, "a") }, { data: join(folder, "b") }] });
async function take(source: MixtureSource, count: number, geometry = shape): Promise<SourceBatch[]> {
  const batches: SourceBatch[] = [];
  for (let i = 0; i < count; i++) {
    const batch = await source.next(geometry);
    if (batch === undefined) break;
    batches.push(batch);
  }
  return batches;
}
/** How often each text token (not prompt, `<s>`, `</s>`) was given. */
function idsOf(batches: readonly SourceBatch[]): Map<number, number> {
  const counts = new Map<number, number>();
  for (const { batch } of batches) {
    for (const [i, id] of batch.input.entries()) {
      if (id < 100 || batch.segment[i] === 0) continue;
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
  }
  return counts;
}
const roundTrip = (state: unknown) => JSON.parse(JSON.stringify(state));
const code = (expected: string) => (error: unknown) => error instanceof CpmError && error.code === expected;

for (const kind of packingKinds) {
  for (const join of [false, true]) {
    const packing = { kind, join };
    test(`${kind}, join ${join}: batches are valid; a restored source goes on exactly, at any batch`, async () => {
      const source = await opened(both(), { packing });
      assert.equal(source.packed, kind !== "none");
      const shapes: BatchGeometry[] = [shape, shape, { rows: 2, columns: 24 }, { rows: 5, columns: 64 }, shape];
      let tokens = 0;
      for (let i = 0; i < 30; i++) {
        const geometry = shapes[i % shapes.length]!;
        const state = roundTrip(source.state());
        const batch = (await source.next(geometry))!;
        checkBatch(batch.batch, limits);
        assert.equal(batch.targets, countTargets(batch.batch));
        assert.equal(
          batch.tokens,
          batch.samples.reduce((sum, { length }) => sum + length - promptLength, 0),
        );
        tokens += batch.tokens;
        if (i % 4 !== 0) continue;
        const resumed = await opened(both(), { packing });
        await resumed.restore(state);
        assert.deepEqual(roundTrip(resumed.state()), state);
        assert.deepEqual(await resumed.next(geometry), batch);
        assert.deepEqual(resumed.state(), source.state());
        assert.deepEqual([resumed.tokens, resumed.batches], [source.tokens, source.batches]);
      }
      assert.equal(source.tokens, tokens);
    });

    test(`${kind}, join ${join}: every token of an epoch comes once, whatever the row length does`, async () => {
      const source = await opened(both(), { packing, minimumTokens: 1 });
      const mixture = both();
      const once: Mixture = { sources: mixture.sources.map((part) => ({ ...part, epochs: 1 })) };
      const bounded = await opened(once, { packing, minimumTokens: 1 });
      const batches: SourceBatch[] = [];
      for (let i = 0; ; i++) {
        const next = await bounded.next({ rows: 2, columns: [40, 17, 64, 9][i % 4]! });
        if (next === undefined) break;
        batches.push(next);
      }
      const counts = idsOf(batches);
      const lengthOf = (i: number) => 3 + ((i * 17) % 58);
      const expected = new Map<number, number>();
      for (const [first, count] of [
        [100, 20],
        [120, 15],
        [500, 10],
        [1000, 12],
      ] as const) {
        for (let i = 0; i < count; i++) expected.set(first + i, lengthOf(i));
      }
      assert.deepEqual(new Map([...counts].sort()), new Map([...expected].sort()));
      assert.equal(await bounded.next(shape), undefined);
      assert.ok(await source.next(shape), "without a limit it goes on");
    });
  }
}

test("tails of cut documents shorter than the minimum are left out, whole short documents are not", async () => {
  const path = join(folder, "c");
  await writeTinyDataset(path, [{ source: "s", documents: tinyDocuments(100, [3, 34, 44]) }]);
  // Rows have room for 34 tokens: 44 leaves a tail of 10, longer than a quarter of the room.
  const counted = async (columns: number, minimumTokens: number) => {
    const source = await opened(
      { sources: [{ data: path, epochs: 1 }] },
      { packing: { kind: "none", join: false }, minimumTokens },
    );
    return [...idsOf(await take(source, 9, { rows: 1, columns }))].sort();
  };
  assert.deepEqual(await counted(40, 10), [
    [100, 3],
    [101, 34],
    [102, 44],
  ]);
  assert.deepEqual(await counted(46, 32), [
    [100, 3],
    [101, 34],
    [102, 40],
  ]);
});

test("joined documents: separators between, never across sources, rows fuller than alone", async () => {
  const used = async (join: boolean) => {
    const source = await opened(both(), { packing: { kind: "none", join } });
    const batches = await take(source, 30, { rows: 4, columns: 128 });
    let length = 0;
    for (const { batch } of batches) {
      for (const each of batch.length) length += each;
      for (let row = 0; row < 4; row++) {
        const ids = [...batch.input.subarray(row * 128 + promptLength, row * 128 + batch.length[row]!)];
        assert.deepEqual([ids[0], ids.at(-1)], [0, 1]);
        for (const [i, id] of ids.entries()) if (id === 0 && i > 0) assert.equal(ids[i - 1], 1);
        const kinds = new Set(
          ids.filter((id) => id > 1).map((id) => (id >= 1000 ? "poems" : id >= 500 ? "web" : "news")),
        );
        assert.equal(kinds.size, 1);
      }
    }
    return length / (30 * 4 * 128);
  };
  const [joined, alone] = [await used(true), await used(false)];
  assert.ok(joined > 0.85 && alone < 0.4, `${joined} ${alone}`);
});

test("weights are shares of the tokens; without them all is read evenly", async () => {
  const share = async (mixture: Mixture) => {
    const source = await opened(mixture);
    const batches = await take(source, 200);
    const tokens = new Map<string, number>();
    for (const { source: label, length } of batches.flatMap(({ samples }) => samples)) {
      tokens.set(label, (tokens.get(label) ?? 0) + length - promptLength);
    }
    const all = [...tokens.values()].reduce((sum, each) => sum + each, 0);
    return { share: (label: string) => (tokens.get(label) ?? 0) / all, source };
  };
  const weighted = await share({
    sources: [
      { data: join(folder, "a"), source: "news", weight: 1 },
      { data: join(folder, "b"), weight: 3, name: "classics" },
    ],
  });
  assert.ok(Math.abs(weighted.share("classics/poems") - 0.75) < 0.02);
  const even = await share(both());
  const epochs = even.source.sources.map(({ epoch }) => epoch);
  assert.ok(Math.max(...epochs) - Math.min(...epochs) < 0.5, `${epochs}`);
});

test("epochs of a source end it, the others go on; a part of an epoch is part of its documents", async () => {
  const source = await opened({
    sources: [
      { data: join(folder, "a"), source: "web", epochs: 2, weight: 1 },
      { data: join(folder, "b"), epochs: 4.5, weight: 1 },
    ],
  });
  const batches = await take(source, 1000);
  assert.ok(batches.length < 1000);
  const counts = idsOf(batches);
  assert.ok(
    [...counts].filter(([id]) => id < 1000).every(([id, n]) => n === 2 * (3 + (((id - 500) * 17) % 58)) || n > 0),
  );
  const poems = Array.from({ length: 12 }, (_, i) => counts.get(1000 + i)! / (3 + ((i * 17) % 58)));
  assert.equal(poems.filter((n) => n > 4.2).length, 6, `${poems}`);
  assert.equal(source.epoch, 4.5);
});

test("objectives: shares by source, all tokens as targets where asked", async () => {
  const source = await opened({
    sources: [
      { data: join(folder, "a"), source: "news", fillShare: 1 },
      { data: join(folder, "a"), source: "web", fillShare: 0, wholeShare: 1 },
      { data: join(folder, "b") },
    ],
  });
  const seen = new Map<string, Set<string>>();
  for (const { batch, samples } of await take(source, 60)) {
    for (const { row, start, length, source: label, objective } of samples) {
      seen.set(label, (seen.get(label) ?? new Set()).add(objective));
      const at = row * batch.columns + start;
      assert.equal(batch.input[at], objective === "fill" ? 4 : 8);
      assert.equal(batch.prompt![at], 1);
      if (label !== "a/web") continue;
      const targets = batch.target.subarray(at + promptLength, at + length).filter((id) => id >= 0).length;
      assert.equal(targets, length - promptLength - 1);
    }
  }
  assert.deepEqual(Object.fromEntries([...seen].map(([label, kinds]) => [label, [...kinds].sort()])), {
    "a/news": ["fill"],
    "a/web": ["lm"],
    "b/poems": ["fill", "lm"],
  });
});

test("a seed decides everything, epochs differ", async () => {
  const [one, same, other] = [await opened(), await opened(), await opened(both(), { seed: 2 })];
  const batches = await take(one, 6);
  assert.deepEqual(batches, await take(same, 6));
  assert.notDeepEqual(batches, await take(other, 6));
  const documents = async () => {
    const source = await opened({ sources: [{ data: join(folder, "b") }] }, { packing: { kind: "none", join: false } });
    const samples = (await take(source, 24, { rows: 1, columns: 80 })).flatMap((batch) => batch.samples);
    return [samples.slice(0, 12), samples.slice(12)].map((epoch) => epoch.map(({ document }) => document));
  };
  const [first, second] = (await documents()) as [number[], number[]];
  assert.deepEqual(first.toSorted(), second.toSorted());
  assert.notDeepEqual(first, second);
});

test("rows go to processes by turns; the position is the same in all and for any number", async () => {
  const whole = await opened();
  const parts = await Promise.all([0, 1].map((rank) => opened(both(), { rank, world: 2 })));
  for (let i = 0; i < 5; i++) {
    const all = (await whole.next({ rows: 6, columns: 40 }))!;
    const halves = [(await parts[0]!.next(shape))!, (await parts[1]!.next(shape))!];
    for (let row = 0; row < 6; row++) {
      const half = halves[row % 2]!.batch;
      const at = Math.floor(row / 2) * 40;
      assert.deepEqual(half.input.subarray(at, at + 40), all.batch.input.subarray(row * 40, row * 40 + 40));
      assert.deepEqual(half.target.subarray(at, at + 40), all.batch.target.subarray(row * 40, row * 40 + 40));
    }
  }
  assert.deepEqual(parts[0]!.state(), whole.state());
  assert.deepEqual(parts[1]!.state(), whole.state());
  const three = await opened(both(), { rank: 1, world: 3 });
  await three.restore(whole.state());
  const [all, third] = [await whole.next({ rows: 6, columns: 40 }), await three.next({ rows: 2, columns: 40 })];
  assert.deepEqual(third!.batch.input.subarray(40), all!.batch.input.subarray(4 * 40, 5 * 40));
});

test("skipping leaves out what would have come", async () => {
  const [whole, skipping] = [await opened(), await opened()];
  await take(whole, 5);
  await skipping.skip(5, shape);
  assert.deepEqual((await skipping.next(shape))!.samples, (await whole.next(shape))!.samples);
  assert.equal(skipping.batches, 6);
});

test("a mixture's file may change between two batches, and the position holds the one in force", async () => {
  const file = join(folder, "mixture.yaml");
  const write = (text: string) => {
    writeFileSync(`${file}.new`, text);
    renameSync(`${file}.new`, file);
  };
  write("sources:\n  - { data: a, source: news }\n  - { data: a, source: web }\n");
  const source = await opened(file);
  await take(source, 3);
  const before = roundTrip(source.state());
  write("sources:\n  - { data: a, source: news, weight: 1 }\n  - { data: b, weight: 3, fillShare: 0 }\n");
  const changed = (await source.next(shape))!;
  assert.deepEqual(changed.changes, [{ what: "mixture", text: "a/news 25.0 %, b/poems 75.0 %" }]);
  const state = roundTrip(source.state());
  const later = await take(source, 5);
  assert.ok(later.every(({ changes, samples }) => changes.length === 0 && samples.every((s) => s.source !== "a/web")));
  assert.ok(later.some(({ samples }) => samples.some((s) => s.source === "b/poems")));

  // Resumed at a position after the change: exactly the same. Before it: the change comes with the next batch.
  const resumed = await opened(file);
  await resumed.restore(state);
  assert.deepEqual(await take(resumed, 5), later);
  const earlier = await opened(file);
  await earlier.restore(before);
  assert.deepEqual(await earlier.next(shape), changed);

  // The file may even say something else at the time of the resume.
  write("sources:\n  - { data: a, source: web }\n");
  const elsewhere = await opened(file);
  await elsewhere.restore(state);
  assert.equal(elsewhere.mixture.sources.length, 2);
  const next = (await elsewhere.next(shape))!;
  assert.deepEqual(next.changes, [{ what: "mixture", text: "a/web 100.0 %" }]);
  assert.ok(next.samples.every((sample) => sample.source === "a/web"));

  // A file that cannot be used changes nothing, and is reported once.
  for (const text of [
    "sources: [",
    "sources: []",
    "sources: [{ data: nowhere }]",
    "sources: [{ data: a, source: x }]",
  ]) {
    write(text);
    const { changes, samples } = (await elsewhere.next(shape))!;
    assert.match(changes[0]!.text, /^unchanged: /);
    assert.ok(samples.every((sample) => sample.source === "a/web"));
    assert.deepEqual((await elsewhere.next(shape))!.changes, []);
  }
});

test("new weights count from the change on: nothing is made up for", async () => {
  const file = join(folder, "mixture.yaml");
  const write = (weight: number) =>
    writeFileSync(file, `sources: [{ data: a, source: news, weight: 1 }, { data: a, source: web, weight: ${weight} }]`);
  write(1);
  const source = await opened(file, { packing: { kind: "none", join: false } }); // no samples of the old weights wait
  await take(source, 60);
  write(4.0001);
  const samples = (await take(source, 60)).flatMap((batch) => batch.samples);
  const tokens = (label: string) =>
    samples.filter((sample) => sample.source === label).reduce((sum, { length }) => sum + length - promptLength, 0);
  const share = tokens("a/web") / (tokens("a/web") + tokens("a/news"));
  assert.ok(Math.abs(share - 0.8) < 0.03, `${share}`);
});

test("a source that comes back goes on where it was", async () => {
  const file = join(folder, "mixture.yaml");
  const parts = { poems: "{ data: b, epochs: 1 }", news: "{ data: a, source: news }" };
  writeFileSync(file, `sources: [${parts.poems}, ${parts.news}]`);
  const source = await opened(file, { packing: { kind: "none", join: false }, minimumTokens: 1 });
  const one = { rows: 1, columns: 80 };
  const batches = await take(source, 7, one);
  for (const text of [parts.news, `${parts.news}, ${parts.poems}`]) {
    writeFileSync(file, `sources: [${text}] # ${text.length}`);
    batches.push(...(await take(source, 100, one)));
  }
  const poems = [...idsOf(batches)].filter(([id]) => id >= 1000);
  assert.deepEqual(
    poems.sort(([a], [b]) => a - b),
    Array.from({ length: 12 }, (_, i) => [1000 + i, 3 + ((i * 17) % 58)]),
  );
});

test("shards that are appended come at the end of the epoch under way, and are part of the position", async () => {
  const mixture = (epochs: number): Mixture => ({ sources: [{ data: join(folder, "b"), epochs }] });
  const single = { packing: { kind: "none" as const, join: false }, minimumTokens: 1 };
  const source = await opened(mixture(2), single);
  const one = { rows: 1, columns: 80 };
  const batches = await take(source, 4, one);
  const before = roundTrip(source.state());
  await writeTinyDataset(join(folder, "b"), [{ source: "poems", documents: tinyDocuments(2000, [5, 6, 7]) }]);
  const [next] = (await take(source, 1, one)) as [SourceBatch];
  assert.deepEqual(next.changes, [{ what: "shards", text: "b/poems: +1, 3 documents" }]);
  const state = roundTrip(source.state());
  const rest = await take(source, 100, one);
  batches.push(next, ...rest);
  assert.equal(batches.length, 2 * 15);
  assert.ok(batches.slice(0, 12).every(({ samples }) => samples[0]!.shard === "poems-0.cpmtok"));
  assert.ok(batches.slice(12, 15).every(({ samples }) => samples[0]!.shard === "poems-1.cpmtok"));
  assert.ok([...idsOf(batches)].every(([id, n]) => n === 2 * (id >= 2000 ? id - 1995 : 3 + (((id - 1000) * 17) % 58))));

  const resumed = await opened(mixture(2), single);
  await resumed.restore(state);
  assert.deepEqual(await take(resumed, 100, one), rest);
  const earlier = await opened(mixture(2), single);
  await earlier.restore(before);
  assert.deepEqual(await take(earlier, 1, one), [next]);
});

test("what comes to a data set begins level with the rest, also where it came between stop and resume", async () => {
  const alone = { packing: { kind: "none" as const, join: false } };
  const one = { rows: 1, columns: 80 };
  const mixture: Mixture = {
    sources: [
      { data: join(folder, "b"), epochs: 1 },
      { data: join(folder, "a"), source: "news" },
      { data: join(folder, "a"), source: "web" },
    ],
  };
  const [source, stopped] = [await opened(mixture, alone), await opened(mixture, alone)];
  await take(source, 200, one); // the poems are over
  await take(stopped, 200, one);
  const state = roundTrip(stopped.state());
  const lengths = new Array<number>(40).fill(30);
  await writeTinyDataset(join(folder, "b"), [
    { source: "poems", documents: tinyDocuments(2000, lengths) },
    { source: "songs", documents: tinyDocuments(3000, lengths) },
  ]);
  const [first] = await take(source, 1, one);
  assert.deepEqual(
    first!.changes.map(({ text }) => text),
    ["b/poems: +1, 40 documents", "b/songs: +1, 40 documents"],
  );
  const counts = new Map<string, number>();
  for (const { samples } of await take(source, 99, one)) {
    counts.set(samples[0]!.source, (counts.get(samples[0]!.source) ?? 0) + 1);
  }
  // By tokens: news 1200, web 290, poems 390 + 1200, songs 1200.
  assert.ok([...counts.values()].every((n) => n < 50) && counts.size === 4, JSON.stringify([...counts]));
  const resumed = await opened(mixture, alone);
  await resumed.restore(state);
  assert.deepEqual(await resumed.next(one), first);
});

test("a description that is out of reach for a while stops nothing", async () => {
  const source = await opened();
  await take(source, 2);
  const path = join(folder, "b", "dataset.json");
  renameSync(path, `${path}.away`);
  const [first, second] = await take(source, 2);
  assert.match(first!.changes[0]!.text, /^unchanged: CPM_DATA_SET/);
  assert.deepEqual(second!.changes, []);
  renameSync(`${path}.away`, path);
  assert.deepEqual((await source.next(shape))!.changes, []);
});

test("shards that were there must stay as they are", async () => {
  const source = await opened();
  await take(source, 2);
  const state = source.state();
  const path = join(folder, "b", "dataset.json");
  const description = JSON.parse(readFileSync(path, "utf8"));
  description.shards[0].sha256 = "0".repeat(64);
  writeFileSync(path, JSON.stringify(description));
  await assert.rejects(source.next(shape), code("CPM_DATA_SET_CHANGED"));
  await assert.rejects((await opened()).restore(state), code("CPM_DATA_SET_CHANGED"));
  rmSync(join(folder, "a", "shards", "news-0.cpmtok"));
  await assert.rejects(take(await opened({ sources: [{ data: join(folder, "a") }] }), 9), code("CPM_DATA_FILE"));
});

test("a data set that has moved is found by its name", async () => {
  const source = await opened();
  await take(source, 3);
  const state = source.state();
  const expected = await take(source, 3);
  mkdirSync(join(folder, "elsewhere"));
  renameSync(join(folder, "b"), join(folder, "elsewhere", "b"));
  const resumed = await opened({ sources: [{ data: join(folder, "a") }, { data: join(folder, "elsewhere", "b") }] });
  await resumed.restore(state);
  assert.deepEqual(await take(resumed, 3), expected);
});

test("held-out documents never come, and are what validation reads, with their characters", async () => {
  const heldOut = await opened(both(), { heldOutShare: 0.3, packing: { kind: "none" } });
  const batches = await take(heldOut, 120);
  const trained = new Set(idsOf(batches).keys());
  const sets = [...heldOut.heldOut(shape, 100)];
  const validated = new Set<number>();
  for (const { batch, source, tokensPerCharacter } of sets) {
    checkBatch(batch, limits);
    assert.equal(tokensPerCharacter, 0.5);
    assert.match(source, /^(a\/news|a\/web|b\/poems)$/);
    for (const [i, id] of batch.input.entries()) if (id >= 100 && batch.segment[i] !== 0) validated.add(id);
  }
  assert.ok(validated.size > 8 && trained.size > 20, `${validated.size} ${trained.size}`);
  assert.equal(trained.size + validated.size, 57);
  assert.ok([...validated].every((id) => !trained.has(id)));
  assert.deepEqual([...heldOut.heldOut(shape, 100)], sets);
  const few = [...heldOut.heldOut(shape, 2)];
  assert.deepEqual(
    few.map(({ batch }) => [...batch.length].filter((length) => length > 0).length),
    few.map(() => 2),
  );
  // Packed rows hold the same text in fewer batches.
  const packed = await opened(both(), { heldOutShare: 0.3 });
  const fewer = [...packed.heldOut(shape, 100)];
  const targets = (all: typeof sets) => all.reduce((sum, { batch }) => sum + countTargets(batch), 0);
  assert.equal(targets(fewer), targets(sets));
  assert.ok(fewer.length < sets.length);
});

test("positions of other options, hostile positions and mixtures that cannot be are refused", async () => {
  const source = await opened();
  await take(source, 2);
  const state = roundTrip(source.state());
  for (const changes of [{ seed: 2 }, { heldOutShare: 0.1 }, { packing: { kind: "firstFit" as const } }]) {
    await assert.rejects((await opened(both(), changes)).restore(state), code("CPM_DATA_STATE"));
  }
  const sample = { source: "b/poems", epoch: 0, parts: [[0, 99, 0, 2]] };
  for (const bad of [
    null,
    {},
    { ...state, version: 1 },
    { ...state, batches: -1 },
    { ...state, waiting: [sample] },
    { ...state, waiting: [{ ...sample, parts: [[7, 0, 0, 2]] }] },
    { ...state, streams: {} },
  ]) {
    await assert.rejects(source.restore(bad), code("CPM_DATA_STATE"));
  }
  assert.deepEqual(roundTrip(source.state()), state);
  const a = join(folder, "a");
  await assert.rejects(opened({ sources: [{ data: a }, { data: a, source: "web" }] }), code("CPM_DATA_MIXTURE"));
  await assert.rejects(opened({ sources: [{ data: a, source: "sport" }] }), code("CPM_DATA_MIXTURE"));
  await assert.rejects(opened({ sources: [{ data: join(folder, "none") }] }), code("CPM_DATA_SET"));
  await assert.rejects(opened(join(folder, "none.yaml")), code("CPM_DATA_FILE"));
  await assert.rejects(source.next({ rows: 1, columns: promptLength + 2 }), code("CPM_DATA_CORPUS_OPTIONS"));
  const all = await opened(both(), { heldOutShare: 0.999999 });
  await assert.rejects(all.next(shape), code("CPM_DATA_EMPTY"));
});
