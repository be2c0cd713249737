/** Texts for tests of data: any number of them, none like another, of ordinary characters. */

const characters =
  "春夏秋冬风雨山水花鸟鱼人家门前大小多少天地日月上下左右老师学生朋友早晨傍晚河边桥上走来看见说话回去高兴安静明白";

/** Texts of one to five lines; text i is always the same. */
export function madeTexts(count: number, from = 0): string[] {
  return Array.from({ length: count }, (_, i) => madeText(from + i));
}

function madeText(i: number): string {
  let state = Math.imul(i + 1, 0x9e3779b1) >>> 0;
  const next = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) % below;
  };
  const sentence = () => Array.from({ length: 8 + next(12) }, () => characters[next(characters.length)]).join("");
  const line = () => `${sentence()}，${sentence()}，${sentence()}。`;
  return [`第${i}篇`, ...Array.from({ length: 1 + (i % 5) }, line)].join("\n");
}

/** As JSON Lines with the field `text`. */
export function jsonLines(texts: readonly string[]): string {
  return texts.map((text) => `${JSON.stringify({ text })}\n`).join("");
}
