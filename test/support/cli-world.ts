/** A world for running `cpm` inside a test: streams that are kept, a clock that only moves when told. */
import { main, type World } from "../../src/cli/main.ts";

export interface CliRun {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CliSetting {
  readonly stdin?: string | readonly Uint8Array[];
  readonly env?: Readonly<Record<string, string>>;
  readonly columns?: number;
  readonly isTTY?: boolean;
  readonly signal?: AbortSignal;
  readonly now?: () => number;
}

/** Runs `cpm` with these words in this process. */
export async function runCli(argv: readonly string[], setting: CliSetting = {}): Promise<CliRun> {
  const { world, stdout, stderr } = testWorld(setting);
  const code = await main(argv, world);
  return { code, stdout: stdout(), stderr: stderr() };
}

/** A world, and what was written in it so far. */
export function testWorld(setting: CliSetting = {}): { world: World; stdout: () => string; stderr: () => string } {
  const written = { stdout: "", stderr: "" };
  const writer = (stream: "stdout" | "stderr") => ({
    isTTY: setting.isTTY ?? false,
    columns: setting.columns ?? 80,
    write: (text: string) => {
      written[stream] += text;
    },
    flush: async () => {},
  });
  const stdin = typeof setting.stdin === "string" ? [Buffer.from(setting.stdin)] : (setting.stdin ?? []);
  const world: World = {
    stdout: writer("stdout"),
    stderr: writer("stderr"),
    stdin: {
      isTTY: false,
      async *[Symbol.asyncIterator]() {
        yield* stdin;
      },
    },
    env: setting.env ?? {},
    now: setting.now ?? (() => 0),
    signal: setting.signal ?? new AbortController().signal,
  };
  return { world, stdout: () => written.stdout, stderr: () => written.stderr };
}
