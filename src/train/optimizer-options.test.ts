import assert from "node:assert/strict";
import { test } from "node:test";
import { parameterTable } from "../model/parameters.ts";
import { preset } from "../model/presets.ts";
import { ConfigError } from "../util/error.ts";
import { arenaLayout } from "./arena.ts";
import { emaDecayAt, groupOf } from "./optimizer-options.ts";

const parameters = parameterTable({ ...preset("tiny"), layers: 2 });

test("a parameter is in the first group that fits its name, or in the rest", () => {
  const of = groupOf([{ match: "*layernorm*" }, { match: "encoder.*.w_out.weight" }, { match: "*" }], parameters);
  const indexOf = (name: string) => of(parameters.find((each) => each.name === name)!);
  assert.equal(indexOf("encoder.output_layernorm.weight"), 0);
  assert.equal(indexOf("encoder.layers.1.ffn.layernorm_before_ffn.weight"), 0);
  assert.equal(indexOf("encoder.layers.1.ffn.ffn.w_out.weight"), 1);
  assert.equal(indexOf("input_embedding.weight"), 2);
  const rest = groupOf([{ match: "input_embedding.weight" }], parameters);
  assert.deepEqual(
    parameters.filter((each) => rest(each) === 0).map(({ name }) => name),
    ["input_embedding.weight"],
  );
  assert.equal(rest(parameters.at(-1)!), 1);
});

test("a group without parameters is refused by its place", () => {
  for (const [groups, where] of [
    [[{ match: "encoder" }], "optimizer.groups.0"],
    [[{ match: "*norm*norm*norm*" }], "optimizer.groups.0"],
    [[{ match: "*" }, { match: "*layernorm*" }], "optimizer.groups.1"],
  ] as const) {
    assert.throws(
      () => groupOf(groups, parameters),
      (error) => error instanceof ConfigError && error.code === "CPM_TRAIN_GROUP" && error.where === where,
    );
  }
});

test("groups lie one after the other in whole runs, and every parameter within its own", () => {
  const of = groupOf([{ match: "*layernorm*" }], parameters);
  const layout = arenaLayout(parameters, of);
  assert.deepEqual(
    layout.groups.map(({ index }) => index),
    [0, 1],
  );
  let end = 0;
  for (const { start, elements, runElements } of layout.groups) {
    assert.equal(start, end);
    assert.equal(elements % runElements, 0);
    end = start + elements;
  }
  assert.equal(layout.elements, end);
  for (const parameter of parameters) {
    const group = layout.groups.find(({ index }) => index === of(parameter))!;
    const at = layout.offsets.get(parameter.name)!;
    assert.ok(at >= group.start && at < group.start + group.elements, parameter.name);
  }
});

test("the average's decay starts short and ends as asked", () => {
  assert.equal(emaDecayAt({ decay: 0.999, warmup: true }, 1), 2 / 11);
  assert.equal(emaDecayAt({ decay: 0.999, warmup: true }, 100_000), 0.999);
  assert.equal(emaDecayAt({ decay: 0.999, warmup: false }, 1), 0.999);
});
