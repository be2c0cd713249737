/**
 * The watts of NVIDIA's cards, as `nvidia-smi` tells them: one process that keeps running and prints a line for each card again
 * and again. Energy is watts over time, by trapezoids between the moments at which lines arrive.
 *
 *     0, NVIDIA H100 80GB HBM3, 70.21
 *     1, GeForce GT 710, [N/A]
 *
 * A card in parts (MIG) is told as one. In place of a number stand words in brackets where a card does not tell ([N/A], older
 * drivers [Not Supported]) or fails for a moment ([Unknown Error]); what stands on lines without commas is a complaint, which the
 * program prints among its answers.
 */
import { type ChildProcess, spawn } from "node:child_process";
import type { PowerProblem } from "./power-sampler.ts";

/** Between two readings of a card. */
const cardEveryMs = 2000;
/** A longer gap is not measured: the program hung, or the machine slept. */
const longestGapMs = 60_000;

export interface CardWatch {
  /** Energy by the cards' name since the last call, and the seconds for which all cards of the name told it. */
  take(): Map<string, { seconds: number; joules: number }>;
  end(): void;
}

interface Card {
  readonly name: string;
  /** The last reading, unless there is none to go on from. */
  last?: { readonly watts: number; readonly atMs: number } | undefined;
  seconds: number;
  joules: number;
}

export function watchCards(program: string, now: () => number, tell: (problem: PowerProblem) => void): CardWatch {
  /** By their number. */
  const cards = new Map<string, Card>();
  let child: ChildProcess | undefined;
  let ended = false;
  let complaint = "";
  const failed = (detail: string) => tell({ source: "nvidia-smi", kind: "failed", detail });
  const finish = (detail: string) => {
    if (!ended) failed(detail);
    ended = true;
  };
  const read = (line: string) => {
    const match = /^\s*(\d+), (.+), ([^,]+?)\s*$/.exec(line);
    if (match === null) {
      complaint ||= line.trim().slice(0, 200);
      return;
    }
    const [, index = "", name = "", power = ""] = match;
    const card: Card = cards.get(index) ?? { name, seconds: 0, joules: 0 };
    cards.set(index, card);
    const watts = /^\d+(\.\d+)?$/.test(power) ? Number(power) : undefined;
    const atMs = now();
    if (watts === undefined) {
      if (card.seconds === 0 && card.last === undefined) failed(line.trim().slice(0, 200));
    } else if (card.last !== undefined && atMs - card.last.atMs <= longestGapMs) {
      const seconds = (atMs - card.last.atMs) / 1000;
      card.seconds += seconds;
      card.joules += (seconds * (watts + card.last.watts)) / 2;
    }
    card.last = watts === undefined ? undefined : { watts, atMs };
  };
  try {
    const query = ["--query-gpu=index,name,power.draw", "--format=csv,noheader,nounits", `--loop-ms=${cardEveryMs}`];
    child = spawn(program, query, { stdio: ["ignore", "pipe", "pipe"] });
    child.unref();
    let rest = "";
    child.stdout!.setEncoding("utf8").on("data", (chunk: string) => {
      const lines = (rest + chunk).split(/\r?\n/);
      rest = lines.pop()!.slice(-4096);
      for (const line of lines) if (!ended) read(line);
    });
    child.stderr!.setEncoding("utf8").on("data", (chunk: string) => {
      complaint ||= chunk.trim().split("\n")[0]!.slice(0, 200);
    });
    // A pipe keeps the process alive as the child does.
    for (const stream of [child.stdout!, child.stderr!]) (stream as { unref?(): void }).unref?.();
    child.on("error", (error) => {
      if ((error as { code?: string }).code === "ENOENT") ended = true;
      else finish(error.message);
    });
    child.on("close", (code, signal) => finish(complaint || rest.trim() || `ended with ${code ?? signal}`));
  } catch (error) {
    finish(error instanceof Error ? error.message : String(error));
  }
  return {
    take() {
      const taken = new Map<string, { seconds: number; joules: number }>();
      for (const [name, same] of Map.groupBy(cards.values(), (card) => card.name)) {
        // The ledger counts cards by name: a card that does not tell would pass for one that takes nothing.
        const seconds = Math.min(...same.map((card) => card.seconds));
        const watts = same.reduce((sum, card) => sum + card.joules / card.seconds, 0);
        if (seconds > 0) taken.set(name, { seconds, joules: seconds * watts });
        for (const card of same) {
          card.seconds = 0;
          card.joules = 0;
        }
      }
      return taken;
    },
    end() {
      ended = true;
      child?.kill();
    },
  };
}
