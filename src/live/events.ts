/**
 * The record of a run: what may stand on a line of `events.jsonl`.
 *
 * A line is one JSON object `{ time, type, … }`. Lines are only ever appended. After a crash a run is resumed from its
 * last checkpoint, so some steps happen twice: a `start` with `step: k`, or the guard's rollback to step k, makes every
 * earlier line of a step beyond k void (`currentEvents`). Such lines stay in the record. Readers ignore types and keys that they do not know: a later version may write more.
 *
 * Losses are nats per token unless a name says otherwise; times are UTC.
 */
import { z } from "zod";

const step = z.int().min(0);
const tokens = z.int().min(0);
const loss = z.number();

/** Loss of one source of a mixture. */
const sourceLoss = z.object({ nats: loss, tokens, bitsPerCharacter: z.number().optional() });

/** Statistics of one parameter's values, and of its gradient where one was at hand. */
export const parameterStatisticsSchema = z.object({
  name: z.string(),
  shape: z.array(z.int().min(0)),
  mean: z.number(),
  std: z.number(),
  min: z.number(),
  max: z.number(),
  gradMean: z.number().optional(),
  gradStd: z.number().optional(),
});

const variants = {
  /** The process began, at the beginning of the run or from a checkpoint of `step` updates. */
  start: z.object({
    step,
    tokens,
    attempt: z.int().min(1),
    resumedFrom: z.string().optional(),
    /**
     * A person went back on purpose (`--from`): the last step that had been reached, and where the checkpoints after the one
     * that was gone back to are now, relative to the run's folder.
     */
    undone: z.object({ step, checkpoints: z.string().optional() }).optional(),
    /** What it runs on from here, where that is not what `run.json` says; none: not known. */
    devices: z.array(z.object({ name: z.string(), count: z.number().min(0) })).optional(),
  }),
  /** A named part of the run begins: what is spent is also told by part. */
  stage: z.object({ step, name: z.string() }),
  /**
   * One update. `gradientNorm` is that before clipping; `dataMs` of `ms` were spent waiting for the batch. The trainer
   * writes all that is not said to be of some runs only; a record that was brought in from elsewhere has what was known.
   */
  step: z.object({
    step,
    tokens,
    loss,
    learningRate: z.number().optional(),
    gradientNorm: z.number().optional(),
    ms: z.number().optional(),
    dataMs: z.number().optional(),
    tokensPerSecond: z.number().optional(),
    /** Text read so far. */
    bytes: z.number().min(0).optional(),
    /** Share of the planned work, where it does not follow from steps or tokens; may go beyond 1. */
    progress: z.number().min(0).optional(),
    /** Share of the machine's measured product rate that the model's arithmetic reached. */
    mfu: z.number().optional(),
    memoryBytes: z.number().optional(),
    lossScale: z.number().optional(),
    epoch: z.number().optional(),
    rows: z.int().optional(),
    columns: z.int().optional(),
    sources: z.record(z.string(), sourceLoss).optional(),
  }),
  validation: z.object({
    step,
    tokens,
    nats: loss,
    bitsPerCharacter: z.number().optional(),
    sources: z.record(z.string(), sourceLoss).optional(),
    ema: z.boolean().optional(),
  }),
  /** What the model writes at this point. */
  sample: z.object({ step, samples: z.array(z.object({ prompt: z.string(), text: z.string() })) }),
  parameters: z.object({ step, parameters: z.array(parameterStatisticsSchema) }),
  /** `path` is relative to the run's folder. `removed` went by the rule of retention. */
  checkpoint: z.object({
    step,
    tokens,
    path: z.string(),
    bytes: z.number(),
    ms: z.number(),
    best: z.boolean().optional(),
    removed: z.array(z.string()).optional(),
  }),
  /** The guard acted, or a person did. */
  intervention: z.object({
    step,
    action: z.enum(["skip", "rollback", "lowerRate", "skipData", "stop", "warn", "manual"]),
    reason: z.string(),
    /** Where the samples were written, relative to the run's folder. */
    dump: z.string().optional(),
    /** `zh`: the reason in Chinese. */
    details: z.record(z.string(), z.unknown()).optional(),
  }),
  /** The mixture was reloaded, or shards came. */
  data: z.object({ step, what: z.enum(["mixture", "shards", "length"]), text: z.string(), zh: z.string().optional() }),
  /** Energy since the last such line. `devices` names what was counted. */
  power: z.object({
    seconds: z.number(),
    joules: z.number(),
    source: z.enum(["rapl", "nvidia-smi", "stated"]),
    devices: z.array(z.string()).optional(),
  }),
  /** A person's comment, for the page and the daily log. */
  note: z.object({ author: z.string().optional(), text: z.string(), zh: z.string().optional(), step: step.optional() }),
  end: z.object({
    step,
    tokens,
    reason: z.enum(["steps", "time", "patience", "data", "cancelled", "failed"]),
    error: z.string().optional(),
  }),
} as const;

export type EventType = keyof typeof variants;
type Variant<T extends EventType> = { readonly type: T; readonly time: string } & Readonly<
  z.output<(typeof variants)[T]>
>;
/** Of one type, or of any. */
export type RunEvent<T extends EventType = EventType> = { [K in T]: Variant<K> }[T];
/** What a writer gives: everything but the time. */
export type NewEvent<T extends EventType = EventType> = { [K in T]: Omit<Variant<K>, "time"> }[T];

export const eventTypes = Object.keys(variants) as readonly EventType[];

/** One line's object: a time, a type that we know and its fields. */
export const runEventSchema: z.ZodType<RunEvent> = z.discriminatedUnion(
  "type",
  eventTypes.map((type) => variants[type].extend({ type: z.literal(type), time: z.iso.datetime() })) as unknown as [
    z.ZodObject<{ type: z.ZodLiteral<EventType> }>,
    ...z.ZodObject<{ type: z.ZodLiteral<EventType> }>[],
  ],
) as unknown as z.ZodType<RunEvent>;

/** The event of a line, or undefined where the line is torn, of an unknown type or not as it must be. */
export function parseEvent(line: string): RunEvent | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  const parsed = runEventSchema.safeParse(value);
  return parsed.success ? parsed.data : undefined;
}

/**
 * Events without those that a resume made void; the order stays. What happened whatever came after it stays: energy,
 * notes, interventions, starts. Updates grow within an attempt, so only the tail is looked at.
 */
export function currentEvents(events: Iterable<RunEvent>): RunEvent[] {
  const kept: RunEvent[] = [];
  for (const event of events) {
    const back = wentBackTo(event);
    if (back !== undefined) {
      const happened: RunEvent[] = [];
      for (let last = kept.pop(); last !== undefined; last = kept.pop()) {
        if (last.type === "step" && last.step <= back) {
          kept.push(last);
          break;
        }
        // A checkpoint is told when it is written, after later steps.
        const at = undoneStep(last);
        if (at === undefined || at <= back) happened.push(last);
      }
      kept.push(...happened.reverse());
    }
    kept.push(event);
  }
  return kept;
}

/** The step that an event says the run went back to. */
export function wentBackTo(event: RunEvent): number | undefined {
  if (event.type === "start") return event.step;
  const isRollback = event.type === "intervention" && event.action === "rollback";
  return isRollback && typeof event.details?.to === "number" ? event.details.to : undefined;
}

/** The step of an event that a resume from before it takes back; undefined: nothing takes it back. */
function undoneStep(event: RunEvent): number | undefined {
  switch (event.type) {
    case "power":
    case "note":
    case "intervention":
    case "start":
      return undefined;
    default:
      return event.step;
  }
}
