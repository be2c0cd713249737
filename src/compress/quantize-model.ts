/**
 * A model with its weights packed in 4 or 8 bits, made tensor by tensor: what is read and packed of one weight is written
 * before the next is read.
 */
import type { Checkpoint, PackedFormat, WritableTensor } from "../checkpoint/index.ts";
import { scaleBlock } from "../checkpoint/packed-weight.ts";
import type { ModelConfig } from "../model/config.ts";
import { names, type Parameter, parameterTable } from "../model/parameters.ts";
import { fittingGroup, type RoundedWeight, type RoundingError, roundToNearest } from "./round-to-nearest.ts";

export interface QuantizeOptions {
  readonly bits: 4 | 8;
  /** Inputs that share a scale, or one scale for each output. Rows that the size does not divide get the next smaller. */
  readonly group: number | "channel";
  readonly symmetric: boolean;
  /** Scales of groups are kept in 8 bits themselves. */
  readonly doubled?: boolean | undefined;
  /** Whether the token table, and the head with it, is packed too. */
  readonly embedding: boolean;
}

/** What became of one parameter. */
export interface QuantizedParameter {
  readonly name: string;
  readonly elements: number;
  readonly bytes: number;
  /** Absent where the parameter stayed as it was. */
  readonly format?: PackedFormat;
  readonly error?: RoundingError;
}

/** Groups of a kernel where a scale belongs to a whole row but is stored for each of them. */
const channelGroup = 128;

/** The format that a parameter is packed in; undefined for what stays as it is (norms, small tables, odd widths). */
export function formatFor({ name, kind, shape }: Parameter, options: QuantizeOptions): PackedFormat | undefined {
  const isTable = name === names.token;
  if (kind !== "linear" && !(isTable && options.embedding)) return undefined;
  const K = shape[1]!;
  const perChannel = options.group === "channel";
  const groupSize = fittingGroup(K, options.group === "channel" ? channelGroup : options.group);
  if (groupSize === undefined) return undefined;
  // What is multiplied as whole numbers has one scale a row.
  return { bits: options.bits, groupSize: perChannel && options.bits === 8 && options.symmetric ? K : groupSize };
}

/** Bytes of a packed matrix [N, K]. */
export function packedBytes(
  [N, K]: readonly [number, number],
  { bits, groupSize }: PackedFormat,
  symmetric: boolean,
  doubled = false,
): number {
  const G = K / groupSize;
  const scaleBytes = doubled ? (scaleBlock + 8) * Math.ceil((N * G) / scaleBlock) : 4 * N * G;
  return (N * K * bits) / 8 + scaleBytes + (symmetric ? 0 : N * Math.ceil((G * bits) / 8));
}

/**
 * A model's tensors to write, packed where they can be. `read` gives a parameter in float32, `keep` what to write of one
 * that stays as it is; `onDone` hears of each as it is done.
 */
export function quantizedTensors(
  config: ModelConfig,
  read: (parameter: Parameter) => Promise<Float32Array> | Float32Array,
  keep: (parameter: Parameter) => WritableTensor,
  options: QuantizeOptions,
  onDone: (parameter: QuantizedParameter) => void = () => {},
): WritableTensor[] {
  return parameterTable(config).map((parameter): WritableTensor => {
    const { name, shape } = parameter;
    const elements = shape.reduce((count, size) => count * size, 1);
    const format = formatFor(parameter, options);
    if (format === undefined) {
      const kept = keep(parameter);
      const readKept = async () => {
        const data = await kept.read();
        onDone({ name, elements, bytes: data.byteLength });
        return data;
      };
      return { ...kept, read: readKept };
    }
    const [N, K] = shape as readonly [number, number];
    const G = K / format.groupSize;
    const { symmetric, doubled = false } = options;
    /** Between the first part's turn and the second's. */
    let rounded: Promise<RoundedWeight> | undefined;
    /** Until the end: a sixty-fourth of the weights at most. */
    let zeros: Uint8Array | undefined;
    const round = async () =>
      roundToNearest(await read(parameter), [N, K], {
        ...format,
        symmetric,
        perChannel: options.group === "channel",
        doubled,
      });
    const blocks = Math.ceil((N * G) / scaleBlock);
    let ranges: Float32Array | undefined;
    const scales: WritableTensor = doubled
      ? {
          ...{ name: `${name}.scale_levels`, dtype: "uint8", shape: [blocks, scaleBlock] },
          read: async () => {
            rounded = round();
            const twice = (await rounded).doubled!;
            ranges = twice.ranges;
            return twice.levels;
          },
        }
      : {
          ...{ name: `${name}.scales`, dtype: "float32", shape: [N, G] },
          read: async () => {
            rounded = round();
            return (await rounded).values.scales;
          },
        };
    const parts: WritableTensor[] = [
      scales,
      {
        name: `${name}.packed`,
        dtype: "uint8",
        shape: [N, G, (format.groupSize * format.bits) / 8],
        read: async () => {
          const { values, error } = await (rounded ?? round());
          rounded = undefined;
          zeros = values.zeros;
          onDone({ name, elements, bytes: packedBytes([N, K], format, symmetric, doubled), format, error });
          return values.packed;
        },
      },
    ];
    if (doubled) {
      parts.push({ name: `${name}.scale_ranges`, dtype: "float32", shape: [blocks, 2], read: () => ranges! });
    }
    if (!symmetric) {
      parts.push({
        name: `${name}.zeros`,
        dtype: "uint8",
        shape: [N, Math.ceil((G * format.bits) / 8)],
        read: () => zeros!,
      });
    }
    return {
      name,
      dtype: "float32",
      shape,
      read: () => {
        throw new Error(`internal: ${name} is written in parts`);
      },
      parts,
    };
  });
}

/** The tensors of an open model, packed. What stays is written as it is stored. */
export function quantizeCheckpoint(
  checkpoint: Checkpoint,
  options: QuantizeOptions,
  onDone?: (parameter: QuantizedParameter) => void,
): WritableTensor[] {
  const keep = ({ name, shape }: Parameter): WritableTensor => {
    const tensor = checkpoint.tensor(name);
    return { name, shape, dtype: tensor.dtype, read: () => tensor.read() };
  };
  return quantizedTensors(
    checkpoint.config,
    ({ name }) => checkpoint.tensor(name).readFloat32(),
    keep,
    options,
    onDone,
  );
}
