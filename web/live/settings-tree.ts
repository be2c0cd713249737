/** Settings of runs as flat lists: a recipe's nested keys with dots between them, and what differs among several. */

type Settings = Readonly<Record<string, unknown>>;

/** `a.b.c` → value, in the order of the keys; lists of plain values stay whole. */
export function flatten(settings: unknown, prefix = ""): Map<string, string> {
  const out = new Map<string, string>();
  const visit = (value: unknown, path: string, depth: number): void => {
    if (depth < 8 && isObject(value)) {
      for (const [key, inner] of Object.entries(value)) visit(inner, path === "" ? key : `${path}.${key}`, depth + 1);
    } else if (depth < 8 && Array.isArray(value) && value.some(isObject)) {
      for (const [i, inner] of value.entries()) visit(inner, `${path}[${i}]`, depth + 1);
    } else if (path !== "" && value !== undefined) out.set(path, textOf(value));
  };
  visit(settings, prefix, 0);
  return out;
}

function isObject(value: unknown): value is Settings {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function textOf(value: unknown): string {
  if (Array.isArray(value)) return value.map(textOf).join(", ");
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** Names and places, which differ in any case. */
const notCompared = new Set(["name", "run", "resume"]);

/** Keys whose values are not the same everywhere, with the value of each; undefined where one has none, and those last. */
export function differences(
  all: readonly ReadonlyMap<string, string>[],
): { readonly key: string; readonly values: readonly (string | undefined)[] }[] {
  const keys = new Set(all.flatMap((each) => [...each.keys()]));
  return [...keys]
    .filter((key) => !notCompared.has(key))
    .map((key) => ({ key, values: all.map((each) => each.get(key)) }))
    .filter(({ values }) => values.some((value) => value !== values[0]))
    .toSorted((a, b) => Number(a.values.includes(undefined)) - Number(b.values.includes(undefined)));
}
