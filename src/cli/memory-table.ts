/** A memory plan by part, as `cpm plan` and `cpm tune --dry-run` show it. */
import type { MemoryParts, MemoryPlan } from "../train/memory-plan.ts";
import { type CommandContext, say } from "./context.ts";
import { planMessages as messages } from "./messages/plan.ts";
import { verdictOf } from "./planning.ts";
import { formatBytes, formatPercent } from "./quantity.ts";
import { renderTable } from "./table.ts";

/** The table, and a line on whether it fits. */
export function memoryLines(
  memory: Pick<MemoryPlan, "bytes" | "totalBytes" | "largestProgram">,
  availableBytes: number,
  recompute: string,
  context: CommandContext,
): string[] {
  const label = (part: keyof MemoryParts): string => {
    if (part === "activations") return say(context, messages.activations, { policy: recompute });
    if (part === "workspace") return say(context, messages.workspace, { program: memory.largestProgram.name });
    return say(context, messages[part]);
  };
  const parts = (Object.entries(memory.bytes) as [keyof MemoryParts, number][]).filter(([, bytes]) => bytes > 0);
  const table = renderTable(
    [
      { title: say(context, messages.part) },
      { title: say(context, messages.bytes), align: "end" },
      { title: say(context, messages.share), align: "end" },
    ],
    [
      ...parts.map(([part, bytes]) => [label(part), formatBytes(bytes), formatPercent(bytes / memory.totalBytes)]),
      [say(context, messages.total), formatBytes(memory.totalBytes)],
    ],
  );
  const verdict = verdictOf(memory.totalBytes, availableBytes);
  return [table, say(context, messages[verdict], { available: formatBytes(availableBytes) })];
}
