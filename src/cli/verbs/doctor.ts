/**
 * `cpm doctor`: is this machine able to run the kit? Reports what it is, opens the runtime, multiplies two matrices,
 * compares with plain TypeScript and measures the speed. For everything that is missing it says how to get it.
 */
import { z } from "zod";
import type { RuntimeInfo } from "../../runtime/runtime.ts";
import type { ProductReport } from "../../train/product-rate.ts";
import { defineCommand } from "../command.ts";
import { type CommandContext, print, printJson, say } from "../context.ts";
import { exitCodes } from "../exit-codes.ts";
import { inspectMachine, type Machine } from "../machine.ts";
import { doctorMessages as messages } from "../messages/doctor.ts";
import { formatBytes, formatNumber } from "../quantity.ts";
import { renderError } from "../render-error.ts";
import { renderFacts } from "../table.ts";

/** Below this not even the `mini` preset trains. */
const neededMemoryBytes = 512 * 2 ** 20;
type Device = "cpu" | "webgpu" | "cuda";

interface Check {
  readonly name: string;
  readonly ok: boolean;
  readonly problem?: string | undefined;
  readonly remedy?: string | undefined;
}

interface RuntimeReport {
  readonly info: RuntimeInfo | undefined;
  readonly product: ProductReport | undefined;
  readonly error: unknown;
}

export default defineCommand({
  name: "doctor",
  summary: messages.summary,
  description: messages.description,
  json: true,
  schema: z.object({
    device: z
      .enum(["cpu", "webgpu", "cuda"])
      .default("cpu")
      .describe(messages.device.en)
      .meta({ zh: messages.device.zh, placeholder: "DEVICE" }),
    threads: z.int().min(1).max(1024).optional().describe(messages.threads.en).meta({ zh: messages.threads.zh }),
  }),
  async run({ device, threads }, context) {
    const machine = inspectMachine();
    const runtime = await tryRuntime({ device, ...(threads === undefined ? {} : { threads }) });
    const checks = judge(machine, runtime, device, context);
    const failed = checks.filter(({ ok }) => !ok);
    if (context.json) {
      printJson(context, { ok: failed.length === 0, machine, runtime: runtime.info, product: runtime.product, checks });
    } else {
      print(context, report(machine, runtime, checks, context));
    }
    return failed.length === 0 ? exitCodes.ok.code : exitCodes.environment.code;
  },
});

async function tryRuntime(options: { device: Device; threads?: number }): Promise<RuntimeReport> {
  let info: RuntimeInfo | undefined;
  try {
    // Imported here, so that a damaged installation is a finding of this command and not its end.
    const { createNativeRuntime } = await import("../../runtime/index.ts");
    using runtime = createNativeRuntime(options);
    info = runtime.info;
    const { multiplyMatrices } = await import("../../train/product-rate.ts");
    return { info, product: await multiplyMatrices(runtime), error: undefined };
  } catch (error) {
    return { info, product: undefined, error };
  }
}

function judge(machine: Machine, runtime: RuntimeReport, device: Device, context: CommandContext): Check[] {
  const [major = 0, minor = 0] = machine.nodeVersion.split(".").map(Number);
  const platform = `${machine.platform} ${machine.arch}`;
  const supported = ["linux", "darwin", "win32"].includes(machine.platform) && ["x64", "arm64"].includes(machine.arch);
  const available = Math.min(machine.freeMemoryBytes, machine.memoryLimitBytes ?? Number.POSITIVE_INFINITY);
  const check = (name: string, ok: boolean, remedy: string, problem?: string): Check =>
    ok ? { name, ok } : { name, ok, problem, remedy };
  const checks = [
    check(
      say(context, messages.checkNode, { version: machine.nodeVersion }),
      major > 22 || (major === 22 && minor >= 18),
      say(context, messages.remedyNode),
    ),
    check(
      say(context, messages.checkPlatform, { platform }),
      supported && machine.libc !== "musl",
      say(context, messages.remedyPlatform),
      machine.libc,
    ),
    check(
      say(context, messages.checkMemory, { needed: formatBytes(neededMemoryBytes) }),
      available >= neededMemoryBytes,
      say(context, messages.remedyMemory),
      formatBytes(available),
    ),
    check(
      say(context, messages.checkRuntime),
      runtime.info !== undefined,
      say(context, device === "cpu" ? messages.remedyRuntime : messages.remedyDevice),
      runtime.error === undefined ? undefined : renderError(runtime.error, context.locale),
    ),
  ];
  if (runtime.info === undefined) return checks;
  const { product } = runtime;
  const ran = product !== undefined;
  const remedies = ran ? messages.remedyProduct : device === "cpu" ? messages.remedyRuntime : messages.remedyDevice;
  return [
    ...checks,
    check(
      say(context, messages.checkProduct, { device }),
      ran && product.relativeError < 1e-4,
      say(context, remedies),
      ran ? product.relativeError.toExponential(2) : renderError(runtime.error, context.locale),
    ),
  ];
}

function report(machine: Machine, runtime: RuntimeReport, checks: readonly Check[], context: CommandContext): string {
  const unknown = say(context, messages.unknown);
  const machineFacts: [string, string][] = [
    [say(context, messages.platform), [machine.platform, machine.arch, machine.libc].filter(Boolean).join(" ")],
    ["Node.js", machine.nodeVersion],
    [say(context, messages.cpu), machine.cpuModel ?? unknown],
    [say(context, messages.instructions), machine.instructionSets?.join(" · ") ?? unknown],
    [
      say(context, messages.cores),
      say(context, messages.coresValue, { usable: machine.usableProcessors, all: machine.processors }),
    ],
    [
      say(context, messages.memory),
      say(context, messages.memoryValue, {
        all: formatBytes(machine.memoryBytes),
        free: formatBytes(machine.freeMemoryBytes),
      }),
    ],
  ];
  if (machine.memoryLimitBytes !== undefined) {
    machineFacts.push([say(context, messages.memoryLimit), formatBytes(machine.memoryLimitBytes)]);
  }
  const sections = [`${say(context, messages.machineTitle)}\n${renderFacts(machineFacts, "  ")}`];
  const { info, product } = runtime;
  if (info !== undefined) {
    const facts: [string, string][] = [
      [say(context, messages.library), `ONNX Runtime ${info.version}`],
      [say(context, messages.providers), info.availableProviders.join(" · ")],
      [say(context, messages.provider), info.provider],
      [say(context, messages.threadCount), String(info.threads)],
    ];
    if (product !== undefined) {
      const parameters = { gflops: formatNumber(product.gflops), size: product.size };
      facts.push([say(context, messages.speed), say(context, messages.speedValue, parameters)]);
    }
    sections.push(`${say(context, messages.runtimeTitle)}\n${renderFacts(facts, "  ")}`);
  }
  const lines = checks.flatMap(({ name, ok, problem, remedy }) => [
    `  ${ok ? "✔" : "✖"} ${name}`,
    ...(problem === undefined ? [] : [`      ${problem.replaceAll("\n", "\n      ")}`]),
    ...(remedy === undefined ? [] : [`      → ${remedy}`]),
  ]);
  sections.push(`${say(context, messages.checksTitle)}\n${lines.join("\n")}`);
  const count = checks.filter(({ ok }) => !ok).length;
  sections.push(count === 0 ? say(context, messages.allWell) : say(context, messages.notWell, { count }));
  return sections.join("\n\n");
}
