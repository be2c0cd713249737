import assert from "node:assert/strict";
import { test } from "node:test";
import { ConfigError } from "../util/error.ts";
import { learningRateAt, parseSchedule } from "./schedule.ts";

const near = (actual: number, expected: number) =>
  assert.ok(Math.abs(actual - expected) <= 1e-12 + 1e-9 * expected, `${actual} ${expected}`);

test("noam as CPM-Ant was pretrained: 0 at first, peak 0.1/√2000 at the end of the warm-up, then 1/√step", () => {
  const noam = parseSchedule({ kind: "noam", start: 0.1, warmup: 2000 });
  assert.equal(learningRateAt(noam, 0), 0);
  near(learningRateAt(noam, 1), 0.1 / 2000 ** 1.5);
  near(learningRateAt(noam, 1000), 0.05 / Math.sqrt(2000));
  near(learningRateAt(noam, 1999), (0.1 * 1999) / 2000 ** 1.5);
  near(learningRateAt(noam, 2000), 0.1 / Math.sqrt(2000));
  assert.equal(learningRateAt(noam, 2000).toPrecision(4), "0.002236");
  assert.equal(learningRateAt(noam, 200_000).toPrecision(4), "0.0002236");
});

test("cosine: ramp, half a wave, floor", () => {
  const cosine = parseSchedule({ kind: "cosine", peak: 1, warmup: 10, total: 110, floor: 0.1 });
  near(learningRateAt(cosine, 0), 0.1);
  near(learningRateAt(cosine, 9), 1);
  near(learningRateAt(cosine, 10), 1);
  near(learningRateAt(cosine, 35), 0.1 + (0.9 * (1 + Math.SQRT1_2)) / 2);
  near(learningRateAt(cosine, 60), 0.55);
  near(learningRateAt(cosine, 110), 0.1);
  near(learningRateAt(cosine, 5000), 0.1);
});

test("linear: ramp, line, floor", () => {
  const linear = parseSchedule({ kind: "linear", peak: 2, warmup: 4, total: 14 });
  assert.deepEqual(
    [0, 1, 3, 4, 9, 14, 15].map((step) => learningRateAt(linear, step)),
    [0.5, 1, 2, 2, 1, 0, 0],
  );
});

test("wsd: ramp, held, down over the last updates; what is held does not depend on the total", () => {
  const wsd = { kind: "wsd", peak: 2, warmup: 4, total: 20, decay: 8, floor: 0.4 };
  const rates = (settings: unknown, at: readonly number[]) =>
    at.map((step) => learningRateAt(parseSchedule(settings), step));
  assert.deepEqual(rates(wsd, [0, 1, 3, 4, 11, 12]), [0.5, 1, 2, 2, 2, 2]);
  rates(wsd, [14, 16, 20, 400]).forEach((found, i) => {
    near(found, [1.6, 1.2, 0.4, 0.4][i]!);
  });
  rates({ ...wsd, shape: "sqrt" }, [12, 14, 20]).forEach((found, i) => {
    near(found, [2, 1.2, 0.4][i]!);
  });
  assert.deepEqual(rates({ ...wsd, total: 2000 }, [0, 3, 4, 12, 1000]), [0.5, 2, 2, 2, 2]);
});

test("constant, with and without a ramp", () => {
  assert.deepEqual(
    [0, 1, 2, 1000].map((step) => learningRateAt(parseSchedule({ kind: "constant", peak: 3, warmup: 2 }), step)),
    [1.5, 3, 3, 3],
  );
  assert.equal(learningRateAt(parseSchedule({ kind: "constant", peak: 3 }), 0), 3);
});

test("settings that are no schedule are refused by name", () => {
  const refused: readonly [unknown, RegExp][] = [
    [{ kind: "step", peak: 1 }, /schedule\.kind/],
    [{ kind: "noam", start: 0.1, warmup: 0 }, /schedule\.warmup/],
    [{ kind: "noam", start: -1, warmup: 10 }, /schedule\.start/],
    [{ kind: "noam", start: 0.1, warmup: 10, peak: 1 }, /peak/],
    [{ kind: "cosine", peak: 1, warmup: 10, total: 10 }, /schedule\.warmup[\s\S]*less than the total of 10/],
    [{ kind: "linear", peak: 1, total: 10, floor: 2 }, /schedule\.floor/],
    [{ kind: "wsd", peak: 1, warmup: 5, total: 10, decay: 6 }, /schedule\.decay[\s\S]*at most the 5 updates/],
    [{ kind: "constant", peak: Number.NaN }, /schedule\.peak/],
    [undefined, /schedule/],
  ];
  for (const [settings, message] of refused) {
    assert.throws(
      () => parseSchedule(settings),
      (error) => error instanceof ConfigError && error.code === "CPM_TRAIN_SCHEDULE" && message.test(error.message),
    );
  }
});
