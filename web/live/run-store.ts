/**
 * A run's events as columns: what every page draws from. Lines come in order, whole, as bytes of `events.jsonl`; a resume
 * takes back the steps that it made void. Lines that cannot be read are counted and passed over.
 */
import { type Column, createColumn } from "./columns.ts";

type Json = Readonly<Record<string, unknown>>;

export const stepColumns = [
  "step",
  "tokens",
  "time",
  "elapsed",
  "loss",
  "learningRate",
  "gradientNorm",
  "tokensPerSecond",
  "mfu",
  "memoryBytes",
  "bytes",
  "progress",
] as const;
export type StepColumn = (typeof stepColumns)[number];

export interface ValidationPoint {
  readonly step: number;
  readonly tokens: number;
  readonly time: number;
  /** Seconds in training. */
  readonly elapsed: number;
  readonly nats: number;
  readonly bitsPerCharacter: number | undefined;
  readonly sources: Readonly<Record<string, { readonly nats: number; readonly bitsPerCharacter?: number }>>;
}
export interface SamplePoint {
  readonly step: number;
  readonly samples: readonly { readonly prompt: string; readonly text: string }[];
}
export interface ParameterPoint {
  readonly step: number;
  readonly values: ReadonlyMap<
    string,
    {
      readonly mean: number;
      readonly std: number;
      readonly min: number;
      readonly max: number;
      readonly gradStd: number;
    }
  >;
}
/** Anything for the list of what happened. */
export interface TimelineEntry {
  readonly type: "start" | "stage" | "checkpoint" | "intervention" | "data" | "note" | "end";
  readonly time: number;
  readonly step: number | undefined;
  readonly data: Json;
}

export interface RunStore {
  readonly columns: Readonly<Record<StepColumn, Column>>;
  readonly validations: ValidationPoint[];
  readonly samples: SamplePoint[];
  readonly parameters: ParameterPoint[];
  readonly timeline: TimelineEntry[];
  readonly unreadable: number;
  /** Counts up with every change. */
  readonly version: number;
  /** Steps so far. */
  readonly length: number;
  addLine(line: string): void;
}

function parse(line: string): Json | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : undefined;
  } catch {
    return undefined;
  }
}

/** The objects of what should be a list of them. */
const objects = (value: unknown): Json[] =>
  Array.isArray(value) ? value.filter((each) => typeof each === "object" && each !== null) : [];

const number = (value: unknown): number => (typeof value === "number" ? value : Number.NaN);

export function createRunStore(): RunStore {
  const columns = Object.fromEntries(stepColumns.map((name) => [name, createColumn()])) as Record<StepColumn, Column>;
  const validations: ValidationPoint[] = [];
  const samples: SamplePoint[] = [];
  const parameters: ParameterPoint[] = [];
  const timeline: TimelineEntry[] = [];
  let unreadable = 0;
  let version = 0;
  /** Seconds in training until the last event: what lies between an attempt's last event and the next start is left out. */
  let elapsed = 0;
  let lastTime: number | undefined;

  function rewind(step: number): void {
    const { step: steps } = columns;
    let length = steps.length;
    while (length > 0 && steps.values[length - 1]! > step) length--;
    for (const column of Object.values(columns)) column.truncate(length);
    for (const list of [validations, samples, parameters]) {
      while (list.length > 0 && list.at(-1)!.step > step) list.pop();
    }
    // What happened to the run stays; what is about steps that are void does not.
    for (let i = timeline.length - 1; i >= 0; i--) {
      const entry = timeline[i]!;
      if ((entry.type === "checkpoint" || entry.type === "data" || entry.type === "stage") && (entry.step ?? 0) > step)
        timeline.splice(i, 1);
    }
  }

  return {
    columns,
    validations,
    samples,
    parameters,
    timeline,
    get unreadable() {
      return unreadable;
    },
    get version() {
      return version;
    },
    get length() {
      return columns.step.length;
    },
    addLine(line) {
      const event = parse(line);
      if (event === undefined) {
        unreadable++;
        return;
      }
      version++;
      const time = Date.parse(String(event.time)) / 1000;
      const step = typeof event.step === "number" ? event.step : undefined;
      if (Number.isFinite(time) && event.type !== "note") {
        if (lastTime !== undefined && event.type !== "start") elapsed += Math.max(0, time - lastTime);
        lastTime = event.type === "start" ? time : Math.max(time, lastTime ?? time);
      }
      switch (event.type) {
        case "step":
          for (const name of stepColumns) {
            columns[name].push(name === "time" ? time : name === "elapsed" ? elapsed : number(event[name]));
          }
          return;
        case "validation": {
          const bits = number(event.bitsPerCharacter);
          validations.push({
            step: step ?? 0,
            tokens: number(event.tokens),
            time,
            elapsed,
            nats: number(event.nats),
            bitsPerCharacter: Number.isNaN(bits) ? undefined : bits,
            sources: (typeof event.sources === "object" && event.sources !== null
              ? event.sources
              : {}) as ValidationPoint["sources"],
          });
          return;
        }
        case "sample":
          samples.push({
            step: step ?? 0,
            samples: objects(event.samples).map(({ prompt, text }) => ({ prompt: String(prompt), text: String(text) })),
          });
          return;
        case "parameters": {
          const values = new Map<string, { mean: number; std: number; min: number; max: number; gradStd: number }>();
          for (const each of objects(event.parameters)) {
            const { mean, std, min, max, gradStd } = each;
            values.set(String(each.name), {
              mean: number(mean),
              std: number(std),
              min: number(min),
              max: number(max),
              gradStd: number(gradStd),
            });
          }
          parameters.push({ step: step ?? 0, values });
          return;
        }
        case "start":
          rewind(step ?? 0);
          timeline.push({ type: "start", time, step, data: event });
          return;
        case "intervention": {
          // The guard's rollback takes back what came after the checkpoint that it went to.
          const to = event.action === "rollback" ? (event.details as { to?: unknown } | undefined)?.to : undefined;
          if (typeof to === "number") rewind(to);
          timeline.push({ type: "intervention", time, step, data: event });
          return;
        }
        case "stage":
        case "checkpoint":
        case "data":
        case "note":
        case "end":
          timeline.push({ type: event.type, time, step, data: event });
          return;
        default: // of a later version
      }
    },
  };
}
