/**
 * Distinct-n: different runs of n units among all of them, over all texts together. Li, Galley, Brockett, Gao and Dolan,
 * "A diversity-promoting objective function for neural conversation models" (NAACL 2016).
 */
import type { CorpusMetric } from "./corpus-metric.ts";
import { type TextUnit, unitsOf } from "./text-units.ts";

export function distinctMetric(texts: readonly string[], order: number, unit: TextUnit): CorpusMetric {
  const numbers = new Map<string, number>();
  const runs = texts.map((text) => {
    const units = unitsOf(text, unit);
    return Int32Array.from({ length: Math.max(0, units.length - order + 1) }, (_, i) => {
      const run = units.slice(i, i + order).join("\n");
      const known = numbers.get(run) ?? numbers.size;
      numbers.set(run, known);
      return known;
    });
  });
  return {
    name: `distinct${order}.${unit}`,
    higherIsBetter: true,
    count: texts.length,
    value(drawn) {
      const seen = new Uint8Array(numbers.size);
      let total = 0;
      let different = 0;
      const count = drawn?.length ?? texts.length;
      for (let i = 0; i < count; i++) {
        const own = runs[drawn === undefined ? i : drawn[i]!]!;
        total += own.length;
        for (const run of own) {
          if (seen[run] === 0) different++;
          seen[run] = 1;
        }
      }
      return total === 0 ? 0 : different / total;
    },
  };
}
