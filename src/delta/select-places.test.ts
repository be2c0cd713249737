import assert from "node:assert/strict";
import { suite, test } from "node:test";
import type { ModelConfig } from "../model/config.ts";
import { preset } from "../model/presets.ts";
import { type PlaceKind, placesOf } from "./places.ts";
import { selectPlaces } from "./select-places.ts";

const config: ModelConfig = { ...preset("tiny"), layers: 12 };
const all = placesOf(config);

function chosen(
  places: string | readonly string[],
  kinds: readonly PlaceKind[] = ["linear"],
  exclude?: readonly string[],
) {
  const patterns = typeof places === "string" ? [places] : places;
  return selectPlaces(all, { places: patterns, exclude }, kinds).map(({ name }) => name);
}

const layers = (names: (layer: number) => readonly string[], from = 0, to = 11) =>
  Array.from({ length: to - from + 1 }, (_, i) => names(from + i)).flat();

suite("places", () => {
  test("every parameter is one place, every sub-layer one more", () => {
    assert.equal(all.length, 4 + 12 * (9 + 2) + 1);
    assert.equal(new Set(all.map(({ name }) => name)).size, all.length);
  });

  test("unified names, their synonyms and the original ones name the same", () => {
    const q = layers((l) => [`layers.${l}.attn.q`]);
    for (const pattern of ["attn.q", "project_q", "q", "attention.q", "self_attention.project_q.weight"]) {
      assert.deepEqual(chosen(pattern), q, pattern);
    }
    assert.deepEqual(chosen("w_0"), chosen("ffn.gate"));
    assert.deepEqual(chosen("ff.w2"), chosen("ffn.w_out"));
    assert.deepEqual(chosen("attn.proj"), chosen("attention_out"));
  });

  test("whole parts only: layers.1 is not layers.11", () => {
    assert.deepEqual(chosen("layers.1.attn.q"), ["layers.1.attn.q"]);
    assert.throws(() => chosen("ttn.q"), { code: "CPM_DELTA_PLACES" });
  });

  test("ranges of layers, open ones too; what holds places stands for all in it", () => {
    const ffn = (l: number) => ["gate", "value", "out"].map((part) => `layers.${l}.ffn.${part}`);
    assert.deepEqual(chosen("layers.0-3.ffn"), layers(ffn, 0, 3));
    assert.deepEqual(chosen("layers.10-.ffn"), layers(ffn, 10));
    assert.deepEqual(chosen("layers.{0,11}.attn.q"), ["layers.0.attn.q", "layers.11.attn.q"]);
  });

  test("where the method can go to the thing itself, only that is meant", () => {
    assert.deepEqual(chosen("layers.2.ffn", ["sublayer", "linear"]), ["layers.2.ffn"]);
    assert.equal(chosen("ffn", ["linear"]).length, 36);
  });

  test("globs, regular expressions and exclusions", () => {
    assert.deepEqual(
      chosen("layers.*.attn.{q,v}"),
      layers((l) => [`layers.${l}.attn.q`, `layers.${l}.attn.v`]),
    );
    assert.deepEqual(chosen("[r]project_[qv]$"), chosen("/attn\\.[qv]$/"));
    assert.equal(chosen("**", ["linear", "norm", "table"]).length, 4 + 12 * 9 + 1);
    assert.deepEqual(
      chosen("attn.q", ["linear"], ["layers.0-9"]),
      layers((l) => [`layers.${l}.attn.q`], 10),
    );
    assert.deepEqual(chosen("layers.?.attn.k").length, 10);
  });

  test("patterns that cannot be, name nothing, or leave nothing", () => {
    for (const pattern of ["", "a..b", "{a", "[r](", "x".repeat(301), "nothing"]) {
      assert.throws(() => chosen(pattern), { code: "CPM_DELTA_PLACES" }, pattern);
    }
    assert.throws(() => chosen("attn.q", ["linear"], ["attn.z"]), { code: "CPM_DELTA_PLACES", where: "exclude" });
    assert.throws(() => chosen("attn.q", ["linear"], ["attn.q"]), { code: "CPM_DELTA_PLACES", where: "exclude" });
    assert.throws(() => chosen("embed.token"), { code: "CPM_DELTA_PLACES" });
  });

  test("absent sub-layers have no places", () => {
    const pruned = placesOf({
      ...config,
      layers: 2,
      maskModules: [
        [true, false],
        [false, true],
      ],
    });
    const names = selectPlaces(pruned, { places: ["attn.q", "ffn.gate"] }, ["linear"]).map(({ name }) => name);
    assert.deepEqual(names, ["layers.0.ffn.gate", "layers.1.attn.q"]);
  });
});
