/** A model with its delta as a tree for the terminal: what is trained stands out, equal layers are one line. */
import type { TrainableTree, TreeNode } from "../delta/index.ts";
import { type CommandContext, say } from "./context.ts";
import { tuneMessages as messages } from "./messages/tune.ts";
import { formatInteger, formatNumber } from "./quantity.ts";

/** Lines of the tree, and one with the share. */
export function treeLines(tree: TrainableTree, context: CommandContext): string[] {
  const color = context.stdout.isTTY && context.env.NO_COLOR === undefined;
  const paint = (code: number, text: string) => (color ? `\u001b[${code}m${text}\u001b[0m` : text);
  const lines: string[] = [];
  const walk = (node: TreeNode, indent: string, isLast: boolean, isRoot: boolean): void => {
    const branch = isRoot ? "" : `${indent}${isLast ? "└─ " : "├─ "}`;
    const shape = node.shape ? ` [${node.shape.join(", ")}]` : "";
    const count = node.base + node.delta;
    const mark = markOf(node, context);
    const text = `${node.name}${shape} ${formatInteger(count)}${mark === "" ? "" : ` ${mark}`}`;
    const touched = node.trained > 0;
    lines.push(
      branch +
        (node.isDelta || node.isReplaced ? paint(touched ? 32 : 33, text) : touched ? paint(1, text) : paint(2, text)),
    );
    const next = isRoot ? "" : `${indent}${isLast ? "   " : "│  "}`;
    node.children.forEach((child, i) => {
      walk(child, next, i === node.children.length - 1, false);
    });
  };
  walk(tree.root, "", true, true);
  const share = shownShare(tree.share);
  lines.push("");
  lines.push(
    say(context, messages.shareLine, {
      trained: formatInteger(tree.trained),
      base: formatInteger(tree.base),
      share,
    }),
  );
  if (tree.delta > tree.trained)
    lines.push(say(context, messages.frozenLine, { count: formatInteger(tree.delta - tree.trained) }));
  return lines;
}

/** In percent: 0.067. */
export function shownShare(share: number): string {
  return formatNumber(Number((100 * share).toPrecision(share < 0.001 ? 2 : 3)));
}

function markOf(node: TreeNode, context: CommandContext): string {
  if (node.isReplaced) return `← ${say(context, messages.copyMark)}`;
  if (node.isDelta) return `← ${say(context, node.trained > 0 ? messages.trainedMark : messages.frozenMark)}`;
  return node.trained > 0 ? `· ${shownShare(node.trained / Math.max(1, node.base))}%` : "";
}
