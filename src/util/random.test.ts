import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { createRandom, fillNormal, fillUniform, philoxAt } from "./random.ts";

const hexWords = (words: readonly number[]) => words.map((word) => word.toString(16).padStart(8, "0")).join(" ");

/** Philox4x32-10 from its definition, in bigints. */
function slowPhilox(key: readonly [number, number], counter: readonly [number, number, number, number]): bigint[] {
  let [c0, c1, c2, c3] = counter.map(BigInt) as [bigint, bigint, bigint, bigint];
  let [k0, k1] = key.map(BigInt) as [bigint, bigint];
  const mask = 0xffffffffn;
  for (let round = 0; round < 10; round++) {
    const p0 = 0xd2511f53n * c0;
    const p1 = 0xcd9e8d57n * c2;
    [c0, c1, c2, c3] = [(p1 >> 32n) ^ c1 ^ k0, p1 & mask, (p0 >> 32n) ^ c3 ^ k1, p0 & mask];
    k0 = (k0 + 0x9e3779b9n) & mask;
    k1 = (k1 + 0xbb67ae85n) & mask;
  }
  return [c0, c1, c2, c3];
}

/** Wilson-Hilferty: how many standard deviations a chi-square statistic lies above its expectation. */
function chiSquareDeviation(statistic: number, freedom: number): number {
  const spread = 2 / (9 * freedom);
  return (Math.cbrt(statistic / freedom) - (1 - spread)) / Math.sqrt(spread);
}

describe("Philox4x32-10", () => {
  test("gives the known answers of Random123", () => {
    const ones = 0xffffffff;
    assert.equal(hexWords(philoxAt([0, 0], [0, 0, 0, 0])), "6627e8d5 e169c58d bc57ac4c 9b00dbd8");
    assert.equal(hexWords(philoxAt([ones, ones], [ones, ones, ones, ones])), "408f276d 41c83b0e a20bc7c6 6d5451fd");
    assert.equal(
      hexWords(philoxAt([0xa4093822, 0x299f31d0], [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344])),
      "d16cfe09 94fdcceb 5001e420 24126ea1",
    );
  });

  test("equals its definition in big integers", () => {
    const word = fc.integer({ min: 0, max: 0xffffffff });
    fc.assert(
      fc.property(fc.tuple(word, word), fc.tuple(word, word, word, word), (key, counter) => {
        assert.deepEqual(philoxAt(key, counter).map(BigInt), slowPhilox(key, counter));
      }),
    );
  });
});

describe("createRandom", () => {
  test("reads the blocks of its stream in order", () => {
    const random = createRandom(0x0123456789abcdefn, 7);
    const words = Array.from({ length: 8 }, () => random.uint32());
    const key = [0x89abcdef, 0x01234567] as const;
    assert.deepEqual(words, [...philoxAt(key, [0, 0, 7, 0]), ...philoxAt(key, [1, 0, 7, 0])]);
  });

  test("continues exactly from a state that went through JSON, at any position and past block 2^32", () => {
    const near = { algorithm: "philox4x32-10", seed: "00000000000000ff", stream: "000000000000002a" } as const;
    fc.assert(
      fc.property(fc.nat(40), fc.constantFrom(0, 2 ** 34 - 21), (taken, position) => {
        const random = createRandom(0);
        random.restore({ ...near, position });
        for (let i = 0; i < taken; i++) random.uint32();
        const resumed = createRandom(1, "elsewhere");
        resumed.restore(JSON.parse(JSON.stringify(random.state())));
        for (let i = 0; i < 10; i++) assert.equal(resumed.uint32(), random.uint32());
        assert.deepEqual(resumed.state(), random.state());
      }),
      { numRuns: 50 },
    );
    const random = createRandom(0);
    random.restore({ ...near, position: 2 ** 34 });
    assert.equal(random.uint32(), philoxAt([255, 0], [0, 1, 42, 0])[0]);
  });

  test("refuses what is not a state, a seed, a stream or a range", () => {
    const random = createRandom(1);
    for (const bad of [null, {}, { ...random.state(), position: -1 }, { ...random.state(), seed: "12" }, "philox"]) {
      assert.throws(() => random.restore(bad as never), { code: "CPM_RANDOM_STATE" });
    }
    for (const bad of [-1, 1.5, Number.NaN, 2 ** 53, -1n, 2n ** 64n]) {
      assert.throws(() => createRandom(bad), { code: "CPM_RANDOM_SEED" });
    }
    assert.throws(() => createRandom(1, -1), { code: "CPM_RANDOM_STREAM" });
    for (const bad of [0, -3, 1.5, Number.NaN, 2 ** 54]) {
      assert.throws(() => random.integer(bad), { code: "CPM_RANDOM_RANGE" });
    }
  });

  test("seeds as number and bigint agree; seeds, streams, names and forks all differ", () => {
    assert.equal(createRandom(5).uint32(), createRandom(5n).uint32());
    const random = createRandom(5);
    const sequences = [
      random,
      createRandom(6),
      createRandom(5n + 2n ** 32n),
      createRandom(5, 1),
      createRandom(5, 2 ** 40),
      createRandom(5, ""),
      createRandom(5, "1"),
      createRandom(5, "\0"),
      createRandom(5, "布局"),
      createRandom(5, "布局一二三四"),
      random.fork(1),
      random.fork("1"),
      random.fork(1).fork(1),
    ];
    const heads = sequences.map((each) => hexWords([each.uint32(), each.uint32()]));
    assert.equal(new Set(heads).size, heads.length);
  });

  test("a fork does not depend on the position", () => {
    const early = createRandom(9, "data");
    const late = createRandom(9, "data");
    for (let i = 0; i < 13; i++) late.uint32();
    assert.equal(early.fork("epoch 3").uint32(), late.fork("epoch 3").uint32());
  });

  test("integers are uniform and in range", () => {
    const random = createRandom(2024);
    for (const max of [1, 3, 10, 1000]) {
      const counts = new Float64Array(max);
      const draws = 200 * max;
      for (let i = 0; i < draws; i++) counts[random.integer(max)]!++;
      const statistic = counts.reduce((sum, count) => sum + (count - 200) ** 2 / 200, 0);
      if (max > 1) assert.ok(Math.abs(chiSquareDeviation(statistic, max - 1)) < 4, `max ${max}: ${statistic}`);
    }
    const wide = 3 * 2 ** 50;
    let above = 0;
    for (let i = 0; i < 3000; i++) if (random.integer(wide) >= 2 ** 51) above++;
    assert.ok(Math.abs(above - 1000) < 4 * Math.sqrt((3000 * 2) / 9), `upper third drawn ${above} times`);
  });

  test("uniforms and normals have their moments", () => {
    const random = createRandom(77);
    const count = 40_000;
    let uniformSum = 0;
    let sum = 0;
    let squares = 0;
    let fourths = 0;
    for (let i = 0; i < count; i++) {
      const u = i % 2 === 0 ? random.uniform() : random.uniformOpen();
      assert.ok(u >= 0 && u < 1 && (i % 2 === 0 || u > 0));
      uniformSum += u;
      const z = random.normal();
      sum += z;
      squares += z * z;
      fourths += z ** 4;
    }
    assert.ok(Math.abs(uniformSum / count - 0.5) < 4 * Math.sqrt(1 / 12 / count));
    assert.ok(Math.abs(sum / count) < 4 / Math.sqrt(count));
    assert.ok(Math.abs(squares / count - 1) < 4 * Math.sqrt(2 / count));
    assert.ok(Math.abs(fourths / count - 3) < 4 * Math.sqrt(96 / count));
  });

  test("a shuffle reaches every order equally often and keeps the elements", () => {
    const random = createRandom(3);
    const counts = new Map<string, number>();
    for (let i = 0; i < 24 * 200; i++) {
      const order = random.shuffle([0, 1, 2, 3]).join("");
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    assert.equal(counts.size, 24);
    const statistic = [...counts.values()].reduce((total, seen) => total + (seen - 200) ** 2 / 200, 0);
    assert.ok(Math.abs(chiSquareDeviation(statistic, 23)) < 4);
    assert.deepEqual([...random.shuffle(new Int32Array([5, 5, 9]))].sort(), [5, 5, 9]);
  });
});

describe("fills", () => {
  test("give the same numbers however the array is split", () => {
    for (const fill of [fillNormal, fillUniform]) {
      const whole = new Float32Array(103);
      fill(whole, 11, "w", 0.25, 2);
      fc.assert(
        fc.property(fc.nat(103), fc.nat(103), (a, b) => {
          const [start, end] = a < b ? [a, b] : [b, a];
          const part = new Float32Array(end - start);
          fill(part, 11, "w", 0.25, 2, start);
          assert.deepEqual(part, whole.slice(start, end));
        }),
      );
    }
  });

  test("normals have their moments and tails; uniforms fill their range evenly", () => {
    const normals = new Float32Array(400_000);
    fillNormal(normals, 1n, "init", 3, 0.5);
    let sum = 0;
    let squares = 0;
    let beyondTwo = 0;
    for (const value of normals) {
      const z = (value - 3) / 0.5;
      sum += z;
      squares += z * z;
      if (Math.abs(z) > 2) beyondTwo++;
    }
    const count = normals.length;
    assert.ok(Math.abs(sum / count) < 4 / Math.sqrt(count));
    assert.ok(Math.abs(squares / count - 1) < 4 * Math.sqrt(2 / count));
    assert.ok(Math.abs(beyondTwo / count - 0.0455003) < 4 * Math.sqrt(0.0455 / count));

    const uniforms = new Float32Array(100_000);
    fillUniform(uniforms, 1n, "init", -2, 2);
    const bins = new Float64Array(100);
    for (const value of uniforms) bins[Math.floor((value + 2) * 25)]!++;
    const statistic = bins.reduce((total, seen) => total + (seen - 1000) ** 2 / 1000, 0);
    assert.ok(Math.abs(chiSquareDeviation(statistic, 99)) < 4);
  });
});
