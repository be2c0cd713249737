/** `cpm serve` as a process of its own, for benchmarks. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export interface ServeProcess {
  readonly url: string;
  readonly pid: number;
  /** What it has logged. */
  readonly log: () => string;
  kill(signal: NodeJS.Signals): void;
  /** Settles with the exit code. */
  readonly ended: Promise<number | null>;
}

/** `env` is put beside this process's own. */
export async function startServeProcess(
  words: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<ServeProcess> {
  const cpm = fileURLToPath(new URL("../../bin/cpm.js", import.meta.url));
  const child = spawn(process.execPath, [cpm, "serve", ...words, "--port", "0", "--json"], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env },
  });
  let log = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    log = (log + text).slice(-1_000_000);
  });
  const ended = once(child, "exit").then(([code]) => code as number | null);
  const line = await Promise.race([
    once(child.stdout.setEncoding("utf8"), "data").then(([text]) => text as string),
    ended.then(() => Promise.reject(new Error(log))),
  ]);
  const { url } = JSON.parse(line) as { url: string };
  return { url, pid: child.pid!, log: () => log, kill: (signal) => child.kill(signal), ended };
}

/** Resident memory of a process and of its children, in bytes (Linux). */
export function residentBytes(pid: number): { readonly own: number; readonly children: number } {
  const of = (id: string) =>
    1024 * Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${id}/status`, "utf8"))?.[1] ?? 0);
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean);
  return { own: of(String(pid)), children: children.reduce((sum, id) => sum + of(id), 0) };
}

/** Processor time that a process and its children have used, in milliseconds (Linux, whose ticks are hundredths). */
export function processorMs(pid: number): number {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean);
  return [String(pid), ...children].reduce((sum, id) => {
    // Behind the command's name, which may hold anything: the 12th and 13th numbers.
    const [, , , , , , , , , , , user = "0", system = "0"] = readFileSync(`/proc/${id}/stat`, "utf8")
      .replace(/^.*\) /s, "")
      .split(" ");
    return sum + 10 * (Number(user) + Number(system));
  }, 0);
}
