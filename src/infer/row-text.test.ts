import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { createRowText, type StreamingDetokenizer } from "./row-text.ts";

/** Each id shows a piece of a text at once. */
function pieces(texts: readonly string[], flushed = ""): StreamingDetokenizer {
  return { push: (id) => texts[id]!, flush: () => flushed };
}

function read(texts: readonly string[], stops: readonly string[], flushed = "") {
  const rowText = createRowText(pieces(texts, flushed), stops);
  const shown: string[] = [];
  for (const id of texts.keys()) {
    const { text, stopped } = rowText.push(id);
    shown.push(text);
    if (stopped) return { shown, stopped };
  }
  const { text, stopped } = rowText.finish();
  shown.push(text);
  return { shown, stopped };
}

describe("createRowText", () => {
  test("shows text as it comes where nothing stops it", () => {
    assert.deepEqual(read(["今", "", "天气"], [], "�"), { shown: ["今", "", "天气", "�"], stopped: false });
  });

  test("holds back what may become a stop string, and shows it when it does not", () => {
    assert.deepEqual(read(["好\n", "\n", "完", "尾"], ["\n\n完结"]), {
      shown: ["好", "", "", "\n\n完尾", ""],
      stopped: false,
    });
    assert.deepEqual(read(["好\n", "\n完"], ["\n\n完结"]), { shown: ["好", "", "\n\n完"], stopped: false });
  });

  test("ends before a stop string that spans tokens or comes in the flush", () => {
    assert.deepEqual(read(["甲", "乙a", "b", "丙"], ["ab"]), { shown: ["甲", "乙", ""], stopped: true });
    assert.deepEqual(read(["甲a"], ["ab"], "b丙"), { shown: ["甲", ""], stopped: true });
    assert.deepEqual(read(["xaab"], ["aab", "ab", "b"]), { shown: ["x"], stopped: true });
  });

  test("shows nothing after it has stopped", () => {
    const rowText = createRowText(pieces(["停", "再", "见"], "！"), ["停"]);
    assert.deepEqual(rowText.push(0), { text: "", stopped: true });
    assert.deepEqual(rowText.push(1), { text: "", stopped: true });
    assert.deepEqual(rowText.finish(), { text: "", stopped: true });
  });

  test("however the text is cut, what is shown is the text up to the first stop string", () => {
    const word = fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 0, maxLength: 4 });
    const stop = fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(fc.array(word, { maxLength: 12 }), stop, word, (texts, stopAt, flushed) => {
        const whole = texts.join("") + flushed;
        const at = whole.indexOf(stopAt);
        const { shown, stopped } = read(texts, [stopAt], flushed);
        assert.equal(stopped, at >= 0);
        assert.equal(shown.join(""), at < 0 ? whole : whole.slice(0, at));
        // Never later than needed: what is held back is the start of the stop string.
        let readSoFar = "";
        let seen = "";
        for (const [i, text] of shown.entries()) {
          readSoFar += texts[i] ?? flushed;
          seen += text;
          if (at < 0) assert.ok(stopAt.startsWith(readSoFar.slice(seen.length)));
        }
      }),
      { numRuns: 500 },
    );
  });

  test("with several stop strings the first to be complete counts, and none is ever shown", () => {
    const word = fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 3 });
    const stops = fc.array(fc.string({ unit: fc.constantFrom("a", "b"), minLength: 2, maxLength: 4 }), {
      maxLength: 3,
    });
    fc.assert(
      fc.property(fc.array(word, { maxLength: 10 }), stops, (texts, given) => {
        const { shown, stopped } = read(texts, given);
        const whole = texts.join("");
        const text = shown.join("");
        assert.ok(whole.startsWith(text));
        assert.equal(
          stopped,
          given.some((stop) => whole.includes(stop)),
        );
        for (const stop of given) assert.ok(!text.includes(stop));
      }),
      { numRuns: 500 },
    );
  });
});
