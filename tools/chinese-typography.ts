/**
 * The rules of Chinese typography that a program can check: a space between Chinese characters and Latin letters or
 * digits, full-width punctuation after Chinese characters, no spaces beside full-width punctuation, no doubled marks.
 * Used by the tests on messages and documents.
 */

interface Rule {
  readonly name: string;
  readonly pattern: RegExp;
}

const rules: readonly Rule[] = [
  {
    name: "a space is missing between Chinese and Latin",
    pattern: /\p{Script=Han}[A-Za-z0-9]|[A-Za-z0-9%]\p{Script=Han}/gu,
  },
  { name: "half-width punctuation after Chinese", pattern: /\p{Script=Han}[,;:?!]|\p{Script=Han}\.(?=\s|$)/gu },
  { name: "half-width brackets inside Chinese", pattern: /\p{Script=Han}\([^)]*\p{Script=Han}|\p{Script=Han}\)/gu },
  {
    name: "a space beside full-width punctuation",
    pattern: /[，。；：？！、（）《》「」“”] | [，。；：？！、）》」]/gu,
  },
  { name: "two full-width marks in a row", pattern: /[，。；：？！、]{2}/gu },
  { name: "a space between two Chinese characters", pattern: /\p{Script=Han} +\p{Script=Han}/gu },
  { name: "straight quotes around Chinese", pattern: /"\p{Script=Han}[^"]*"/gu },
];

/** What is wrong with a Chinese text, one line a fault. Inline code (between backquotes) and `{parameters}` are left out. */
export function typographyFaults(chinese: string): string[] {
  const prose = chinese.replaceAll(/`[^`]*`/g, "`code`").replaceAll(/\{\w+\}/g, "`x`");
  return rules.flatMap(({ name, pattern }) =>
    [...prose.matchAll(pattern)].map((match) => {
      const around = prose.slice(Math.max(0, match.index - 6), match.index + match[0].length + 6);
      return `${name}: …${around.replaceAll("\n", "⏎")}…`;
    }),
  );
}
