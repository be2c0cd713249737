/**
 * What a delta method is: its options, the places it goes to, and for each place the parameters that it brings, how they
 * begin, and what it changes in the traced graph there. A method is one file in `methods/`; nothing else knows its name
 * but the list in `methods/index.ts`.
 *
 * Legend: N rows of a product (positions), I and O its input's and output's width.
 */
import type { z } from "zod";
import type { Tensor } from "../graph/index.ts";
import type { ModelConfig } from "../model/config.ts";
import type { Seed } from "../util/random.ts";
import type { Place, PlaceKind } from "./places.ts";

export interface DeltaParameter {
  /** Within the method's edits at this place: `lora_A`. */
  readonly local: string;
  /** In files and arenas: `encoder.layers.0.self_att.self_attention.project_q.lora_A`. Equal names are one parameter. */
  readonly name: string;
  readonly shape: readonly number[];
  /** Training leaves it as it began. */
  readonly frozen?: boolean;
  /** Fills it before training. */
  initialize(out: Float32Array, context: InitialContext): void | Promise<void>;
}

export interface InitialContext {
  readonly seed: Seed;
  /** A base parameter's elements. */
  base(name: string): Promise<Float32Array>;
}

/** A parameter of the method at this place, by its local name. */
export type DeltaTensors = (local: string) => Tensor;

/** A linear layer y = α x Wᵀ, or a norm y = norm(x) · w. */
export interface OutputSite {
  /** `[N, I]` of a linear layer; of a norm `[…, D]` */
  readonly x: Tensor;
  /** `[N, O]`; of a norm `[…, D]` */
  readonly y: Tensor;
  /** `[O, I]` or `[D]` */
  readonly weight: Tensor;
  /** 1/√I; 1 of a norm. */
  readonly alpha: number;
}

/** The attention or the feed-forward layer as a whole, without its residual. */
export interface SublayerSite {
  /** Its normalised input `[N, D]`. */
  readonly x: Tensor;
  /** What it gives `[N, D]`. */
  readonly y: Tensor;
}

/** What changes at a place. Several methods' changes are made one after the other. */
export interface PlaceEdits {
  /** The input of a linear layer `[N, I]`. */
  readonly input?: (x: Tensor, delta: DeltaTensors) => Tensor;
  readonly output?: (site: OutputSite, delta: DeltaTensors) => Tensor;
  readonly sublayer?: (site: SublayerSite, delta: DeltaTensors) => Tensor;
  /** Keys and values `[slots, H·E]` that stand before each row's own. */
  readonly keysValues?: (delta: DeltaTensors) => { readonly keys: Tensor; readonly values: Tensor };
  /** Rows `[N, D]`, in the units of the prompt table, that stand before the task's prompt in every row. */
  readonly prompt?: (delta: DeltaTensors) => Tensor;
}

/** A method at one place. */
export interface AttachedPlace {
  readonly place: Place;
  readonly parameters: readonly DeltaParameter[];
  readonly edits: PlaceEdits;
  /** A base parameter that a parameter of the delta stands in for, which has its name. */
  readonly replaces?: string;
}

export interface FinishedDelta<Options> {
  readonly options: Options;
  values(place: Place, delta: DeltaValues): Readonly<Record<string, Float32Array>>;
}

/** A parameter of the delta as numbers, by its local name. */
export type DeltaValues = (local: string) => Float32Array;

/** Puts a delta into a weight `[O, I]`, in place, so that the weight alone computes the same. */
export type Merge = (weight: Float32Array, shape: readonly [number, number], delta: DeltaValues) => void;

export interface DeltaMethod<Schema extends z.ZodObject = z.ZodObject> {
  readonly name: string;
  /** What a reader of a list of methods wants to know, in a sentence each. */
  readonly summary: { readonly zh: string; readonly en: string };
  readonly options: Schema;
  /** Where it can go. */
  readonly kinds: readonly PlaceKind[];
  /** Where it goes when nothing is said. */
  readonly defaultPlaces: readonly string[];
  /** The model as if nothing was attached, before training: exactly, within rounding, or not at all. */
  readonly startsAs: "same" | "rounding" | "different";
  attach(place: Place, options: z.output<Schema>, config: ModelConfig): AttachedPlace;
  /** Options that a place or a model cannot have. Throws ConfigError. */
  check?(options: z.output<Schema>, places: readonly Place[], config: ModelConfig): void;
  /** Of a linear layer, where it is possible. */
  merge?(options: z.output<Schema>, place: Place): Merge | undefined;
  /** Takes a merged delta out again, within rounding. */
  unmerge?(options: z.output<Schema>, place: Place): Merge | undefined;
  /**
   * The same effect without what only training needs (a frozen base of PiSSA, the prefix's hidden layer), for files: the
   * simpler options, and each place's parameters under them. Undefined where nothing is left out.
   */
  finished?(options: z.output<Schema>): FinishedDelta<z.output<Schema>> | undefined;
  /** Columns that the soft prompt adds to each row. */
  promptRows?(options: z.output<Schema>): number;
  /** Slots that the prefix adds to each row's keys and values. */
  prefixSlots?(options: z.output<Schema>): number;
  /** Rates of its parameters beside the schedule's. */
  groups?(options: z.output<Schema>): readonly { readonly match: string; readonly rateFactor: number }[];
}

/** For type inference of a method's options. */
export function defineMethod<Schema extends z.ZodObject>(method: DeltaMethod<Schema>): DeltaMethod {
  return method as unknown as DeltaMethod;
}
