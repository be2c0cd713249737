/** A process that does one training step for each line that it is told, and says how it was. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";

export interface StepLine {
  readonly ms: number;
  readonly loss: number;
  readonly gradientNorm: number;
  readonly peakBytes: number;
}

export interface Peer {
  readonly name: string;
  readonly about: Readonly<Record<string, unknown>>;
  step(): Promise<StepLine>;
  stop(): void;
}

/** Undefined, with a word on stderr, where something is not installed. */
export async function startPeer(name: string, command: string, args: readonly string[]): Promise<Peer | undefined> {
  const child: ChildProcess = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
  child.on("error", (error) => console.error(`${name}: ${error.message}`));
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  const next = async () => {
    const line = await lines.next();
    return line.done ? undefined : JSON.parse(line.value);
  };
  const about = await next();
  if (about === undefined || "missing" in about) {
    console.error(`${name}: not measured${about ? `, ${about.missing} is not installed` : ""}`);
    child.kill();
    return undefined;
  }
  return {
    name,
    about,
    async step() {
      child.stdin!.write("step\n");
      return (await next()) as StepLine;
    },
    stop: () => void child.stdin!.end(),
  };
}
