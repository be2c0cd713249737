/** Trees: plain objects and arrays whose leaves are tensors or whatever else, with dotted paths for names. */

export type Tree<Leaf> = Leaf | readonly Tree<Leaf>[] | { readonly [key: string]: Tree<Leaf> | undefined };

type IsLeaf<Leaf> = (value: unknown) => value is Leaf;

/** What is neither a leaf nor a branch has slipped past the types: a number or null where a tensor belongs. */
function checkBranch(tree: unknown, path: string): void {
  if (typeof tree === "object" && tree !== null) return;
  throw new Error(`internal: a tree has ${tree === null ? "null" : `a ${typeof tree}`} at "${path}"`);
}

/** Leaves with their paths (`layers.0.attention.q`), in the order of the keys. Undefined branches are passed over. */
export function leaves<Leaf>(tree: Tree<Leaf> | undefined, isLeaf: IsLeaf<Leaf>, path = ""): [string, Leaf][] {
  if (tree === undefined) return [];
  if (isLeaf(tree)) return [[path, tree]];
  checkBranch(tree, path);
  return Object.entries(tree).flatMap(([key, branch]) =>
    leaves(branch as Tree<Leaf> | undefined, isLeaf, path === "" ? key : `${path}.${key}`),
  );
}

/** The same tree with each leaf replaced. */
export function mapTree<Leaf, To>(
  tree: Tree<Leaf>,
  isLeaf: IsLeaf<Leaf>,
  replace: (leaf: Leaf, path: string) => To,
  path = "",
): Tree<To> {
  if (isLeaf(tree)) return replace(tree, path) as Tree<To>;
  checkBranch(tree, path);
  const child = (key: string | number) => (path === "" ? String(key) : `${path}.${key}`);
  if (Array.isArray(tree)) {
    return tree.map((branch, i) => mapTree(branch, isLeaf, replace, child(i))) as readonly Tree<To>[];
  }
  const out: Record<string, Tree<To>> = {};
  for (const [key, branch] of Object.entries(tree as Record<string, Tree<Leaf> | undefined>)) {
    if (branch !== undefined) out[key] = mapTree(branch, isLeaf, replace, child(key));
  }
  return out;
}

/** The type of a tree with its leaves exchanged. */
export type MapTree<T, From, To> = T extends From
  ? To
  : T extends readonly (infer Item)[]
    ? readonly MapTree<Item, From, To>[]
    : { [Key in keyof T]: MapTree<T[Key], From, To> };
