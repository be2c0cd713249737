/**
 * A model with its delta as a tree to look at: what each part holds, what of it is trained, what is attached where. Layers
 * that look alike are one entry.
 */
import { type Parameter, parameterElements, parameterTable } from "../model/parameters.ts";
import type { Delta } from "./attach.ts";
import type { DeltaParameter } from "./method.ts";
import { placesOf } from "./places.ts";

export interface TreeNode {
  /** `layers.0-47`, `attn`, `q`, `lora_A` */
  readonly name: string;
  /** Of a parameter; of the base's and the delta's alike. */
  readonly shape?: readonly number[];
  /** Elements of the base's parameters and the delta's, each counted in all layers that the node stands for. */
  readonly base: number;
  readonly delta: number;
  /** Of the delta's, those that training changes. */
  readonly trained: number;
  /** The node is a parameter of the delta. */
  readonly isDelta: boolean;
  /** The delta has a version of its own of this parameter. */
  readonly isReplaced: boolean;
  readonly children: readonly TreeNode[];
}

export interface TrainableTree {
  readonly root: TreeNode;
  readonly trained: number;
  readonly delta: number;
  readonly base: number;
  /** Trained elements per element of the base. */
  readonly share: number;
}

interface Branch {
  readonly children: Map<string, Branch>;
  parameter?: Parameter;
  readonly deltas: DeltaParameter[];
}

const newBranch = (): Branch => ({ children: new Map(), deltas: [] });

export function trainableTree({ base: config, parts, parameters, replaced }: Delta): TrainableTree {
  const top = newBranch();
  const at = (name: string): Branch =>
    name.split(".").reduce((branch, part) => {
      const next = branch.children.get(part) ?? newBranch();
      branch.children.set(part, next);
      return next;
    }, top);
  const nameOf = new Map(
    placesOf(config).flatMap(({ name, parameter }) => (parameter ? [[parameter.name, name]] : [])),
  );
  for (const parameter of parameterTable(config)) at(nameOf.get(parameter.name)!).parameter = parameter;
  const uses = new Map<string, number>();
  const placed = parts.flatMap(({ places }) => places);
  for (const { parameters: own } of placed) for (const { name } of own) uses.set(name, (uses.get(name) ?? 0) + 1);
  const shared = newBranch();
  const seen = new Set<string>();
  for (const { place, parameters: own, replaces } of placed) {
    if (replaces !== undefined) continue;
    for (const parameter of own) {
      if (seen.has(parameter.name)) continue;
      seen.add(parameter.name);
      const branch = uses.get(parameter.name)! > 1 ? shared : at(place.name);
      branch.deltas.push(parameter);
    }
  }
  if (shared.deltas.length > 0) top.children.set("shared", shared);
  const root = nodeOf("model", top, replaced);
  const trained = parameters.reduce((sum, each) => sum + (each.frozen ? 0 : parameterElements(each)), 0);
  const delta = parameters.reduce((sum, each) => sum + parameterElements(each), 0);
  const base = parameterTable(config).reduce((sum, each) => sum + parameterElements(each), 0);
  return { root, trained, delta, base, share: trained / base };
}

function nodeOf(name: string, { children, parameter, deltas }: Branch, replaced: ReadonlySet<string>): TreeNode {
  const isReplaced = parameter !== undefined && replaced.has(parameter.name);
  const own = parameter ? parameterElements(parameter) : 0;
  const below = [...children].map(([key, branch]) => nodeOf(key, branch, replaced));
  const added = deltas.map((each): TreeNode => {
    const count = parameterElements(each);
    return {
      name: each.local,
      shape: each.shape,
      base: 0,
      delta: count,
      trained: each.frozen ? 0 : count,
      isDelta: true,
      isReplaced: false,
      children: [],
    };
  });
  const all = [...merged(below), ...added];
  const sum = (of: (node: TreeNode) => number, start: number) => all.reduce((total, node) => total + of(node), start);
  return {
    name,
    ...(parameter && { shape: parameter.shape }),
    base: sum((node) => node.base, own),
    delta: sum((node) => node.delta, isReplaced ? own : 0),
    trained: sum((node) => node.trained, isReplaced ? own : 0),
    isDelta: false,
    isReplaced,
    children: all,
  };
}

/** Numbered neighbours that look alike become one: `0`, `1`, `2` as `0-2`. */
function merged(nodes: readonly TreeNode[]): TreeNode[] {
  const out: { node: TreeNode; first: string; last: string; looks: string; count: number }[] = [];
  for (const node of nodes) {
    const looks = /^\d+$/.test(node.name) ? looksOf(node) : "";
    const before = out.at(-1);
    if (before && looks !== "" && before.looks === looks) {
      before.last = node.name;
      before.count++;
    } else out.push({ node, first: node.name, last: node.name, looks, count: 1 });
  }
  return out.map(({ node, first, last, count }) =>
    count === 1
      ? node
      : {
          ...node,
          name: `${first}-${last}`,
          base: node.base * count,
          delta: node.delta * count,
          trained: node.trained * count,
        },
  );
}

function looksOf({ shape, children, isDelta, isReplaced, trained }: TreeNode): string {
  return JSON.stringify([
    shape,
    isDelta,
    isReplaced,
    trained > 0,
    children.map((child) => [child.name, looksOf(child)]),
  ]);
}
