/**
 * A run in figures, read off its record in one pass: where it stands, its losses over tokens, speed, cost. Two numbers a step
 * are kept, so a report of a million steps takes some megabytes.
 */
import { type RunEvent, wentBackTo } from "./events.ts";
import { isBeingWritten, type RunDescription, readEvents, readRun } from "./run-folder.ts";
import { ledgerFor } from "./run-ledger.ts";

export interface ReportedValidation {
  readonly step: number;
  readonly tokens: number;
  readonly nats: number;
  readonly bitsPerCharacter: number | undefined;
}

export interface RunReport {
  readonly folder: string;
  readonly description: RunDescription;
  /** As `run.json` says, but `lost` where it says `running` and no process writes it. */
  readonly status: RunDescription["status"] | "lost";
  readonly step: number;
  readonly tokens: number;
  /** Mean of the last steps (`lossWindow`). */
  readonly loss: number | undefined;
  readonly best: ReportedValidation | undefined;
  readonly validations: readonly ReportedValidation[];
  /** Medians over all steps. */
  readonly tokensPerSecond: number | undefined;
  readonly mfu: number | undefined;
  readonly attempts: number;
  readonly interventions: number;
  readonly hours: number;
  readonly energyKwh: number;
  readonly kgCo2e: number | undefined;
  readonly cost: number | undefined;
  readonly currency: string;
  /** Mean loss of the steps up to so many tokens (`lossWindow` of them); undefined before the first and after the last. */
  lossAt(tokens: number): number | undefined;
  /** Held-out nats at so many tokens, along a line between two validations; undefined outside of them. */
  validationAt(tokens: number): ReportedValidation | undefined;
}

/** Steps that a loss is the mean of: one batch says little. */
export const lossWindow = 20;

/** Errors: DataError CPM_RUN_FOLDER. */
export async function readReport(folder: string): Promise<RunReport> {
  const description = readRun(folder);
  const ledger = ledgerFor(description);
  const points: { step: number; tokens: number; loss: number }[] = [];
  const validations: ReportedValidation[] = [];
  const rates: number[] = [];
  const mfus: number[] = [];
  let attempts = 0;
  let interventions = 0;
  const goBack = (step: number) => {
    while (points.length > 0 && points.at(-1)!.step > step) points.pop();
    while (validations.length > 0 && validations.at(-1)!.step > step) validations.pop();
  };
  const take = (event: RunEvent) => {
    const back = wentBackTo(event);
    if (back !== undefined) goBack(back);
    switch (event.type) {
      case "start":
        attempts++;
        break;
      case "step":
        points.push({ step: event.step, tokens: event.tokens, loss: event.loss });
        if (event.tokensPerSecond !== undefined) rates.push(event.tokensPerSecond);
        if (event.mfu !== undefined) mfus.push(event.mfu);
        break;
      case "validation": {
        const { step, tokens, nats, bitsPerCharacter } = event;
        validations.push({ step, tokens, nats, bitsPerCharacter });
        break;
      }
      case "intervention":
        interventions++;
        break;
      default:
    }
  };
  for await (const { event } of readEvents(folder)) {
    ledger.add(event);
    take(event);
  }
  const { hours, energyKwh, kgCo2e, cost, currency } = ledger.summary();
  const meanUpTo = (end: number) => {
    const part = points.slice(Math.max(0, end - lossWindow), end);
    return part.length === 0 ? undefined : part.reduce((sum, { loss }) => sum + loss, 0) / part.length;
  };
  return {
    folder,
    description,
    status: description.status === "running" && !isBeingWritten(folder) ? "lost" : description.status,
    step: points.at(-1)?.step ?? 0,
    tokens: points.at(-1)?.tokens ?? 0,
    loss: meanUpTo(points.length),
    best: validations.reduce<ReportedValidation | undefined>(
      (best, each) => (best === undefined || each.nats < best.nats ? each : best),
      undefined,
    ),
    validations,
    tokensPerSecond: median(rates),
    mfu: median(mfus),
    attempts,
    interventions,
    hours,
    energyKwh,
    kgCo2e,
    cost,
    currency,
    lossAt(tokens) {
      const last = points.at(-1);
      if (last === undefined || tokens > last.tokens) return undefined;
      return meanUpTo(countUpTo(points, tokens));
    },
    validationAt(tokens) {
      const after = validations.findIndex((each) => each.tokens >= tokens);
      if (after < 0) return undefined;
      const right = validations[after]!;
      if (right.tokens === tokens) return right;
      if (after === 0) return undefined;
      const left = validations[after - 1]!;
      const share = (tokens - left.tokens) / (right.tokens - left.tokens);
      const between = (a: number, b: number) => a + share * (b - a);
      return {
        step: Math.round(between(left.step, right.step)),
        tokens,
        nats: between(left.nats, right.nats),
        bitsPerCharacter:
          left.bitsPerCharacter === undefined || right.bitsPerCharacter === undefined
            ? undefined
            : between(left.bitsPerCharacter, right.bitsPerCharacter),
      };
    },
  };
}

/** How many points have at most so many tokens; points ascend. */
function countUpTo(points: readonly { readonly tokens: number }[], tokens: number): number {
  let low = 0;
  let high = points.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle]!.tokens <= tokens) low = middle + 1;
    else high = middle;
  }
  return low;
}

function median(values: readonly number[]): number | undefined {
  return values.length === 0 ? undefined : values.toSorted((a, b) => a - b)[values.length >> 1];
}
