/** One side of a bench in a process of its own: it answers each line with a line of JSON, the first when it is ready. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";

export interface Side {
  readonly name: string;
  /** What it said when it was ready. */
  readonly hello: Readonly<Record<string, unknown>>;
  ask(line: string): Promise<{ readonly ms: number }>;
  end(): void;
}

export async function startSide(name: string, command: string, words: readonly string[]): Promise<Side> {
  const child: ChildProcess = spawn(command, words, { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  const next = async () => {
    for (;;) {
      const { value, done } = await lines.next();
      if (done) throw new Error(`${name} ended`);
      // Libraries print what they like; answers are JSON.
      if (String(value).startsWith("{")) return JSON.parse(value);
    }
  };
  const hello = await next();
  if (!hello.ready) throw new Error(`${name} did not start: ${JSON.stringify(hello)}`);
  return {
    name,
    hello,
    ask(line) {
      child.stdin!.write(`${line}\n`);
      return next();
    },
    end: () => void child.stdin!.end(),
  };
}
