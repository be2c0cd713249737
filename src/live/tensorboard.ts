/**
 * A run as a TensorBoard event file: scalars of every step, validation losses, samples as texts, parameters' statistics.
 *
 * The format is TensorFlow's: records of [length u64, masked CRC-32C of it, data, masked CRC-32C of the data], the data an
 * `Event` message (tensorflow/core/util/event.proto). Only the few fields that TensorBoard reads are written, with
 * protobuf's wire writer.
 */
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import type { RunEvent } from "./events.ts";

const crcTable = (() => {
  const table = new Uint32Array(256);
  for (let i = 0; i < 256; i++) {
    let value = i;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
    table[i] = value;
  }
  return table;
})();

/** CRC-32C (Castagnoli). */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = crcTable[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** As the format stores it: rotated and offset, so that a checksum of checksums is none. */
function masked(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** One record around a message. */
export function tensorboardRecord(data: Uint8Array): Buffer {
  const record = Buffer.alloc(16 + data.length);
  record.writeBigUInt64LE(BigInt(data.length), 0);
  record.writeUInt32LE(masked(record.subarray(0, 8)), 8);
  record.set(data, 12);
  record.writeUInt32LE(masked(data), 12 + data.length);
  return record;
}

type Value = { readonly tag: string } & ({ readonly scalar: number } | { readonly text: string });

function message(writer: BinaryWriter, field: number, write: (inner: BinaryWriter) => void): void {
  writer.tag(field, WireType.LengthDelimited).fork();
  write(writer);
  writer.join();
}

/** Event { wall_time = 1, step = 2, file_version = 3, summary = 5 { value = 1 { tag = 1, simple_value = 2, tensor = 8, metadata = 9 } } } */
function encodeEvent(
  seconds: number,
  step: number,
  content: { readonly version: string } | { readonly values: readonly Value[] },
): Uint8Array {
  const writer = new BinaryWriter();
  writer.tag(1, WireType.Bit64).double(seconds);
  if (step !== 0) writer.tag(2, WireType.Varint).int64(step);
  if ("version" in content) {
    writer.tag(3, WireType.LengthDelimited).string(content.version);
    return writer.finish();
  }
  message(writer, 5, (summary) => {
    for (const value of content.values) {
      message(summary, 1, (one) => {
        one.tag(1, WireType.LengthDelimited).string(value.tag);
        if ("scalar" in value) {
          one.tag(2, WireType.Bit32).float(value.scalar);
          return;
        }
        // A tensor of one string, for the text plugin.
        message(one, 8, (tensor) => {
          tensor.tag(1, WireType.Varint).int32(7);
          message(tensor, 2, (shape) => message(shape, 2, (dim) => dim.tag(1, WireType.Varint).int64(1)));
          tensor.tag(8, WireType.LengthDelimited).bytes(new TextEncoder().encode(value.text));
        });
        message(one, 9, (metadata) =>
          message(metadata, 1, (plugin) => plugin.tag(1, WireType.LengthDelimited).string("text")),
        );
      });
    }
  });
  return writer.finish();
}

const stepScalars = {
  loss: "loss/train",
  learningRate: "optimizer/learning_rate",
  gradientNorm: "optimizer/gradient_norm",
  lossScale: "optimizer/loss_scale",
  tokensPerSecond: "speed/tokens_per_second",
  mfu: "speed/mfu",
  ms: "speed/step_ms",
  memoryBytes: "speed/memory_bytes",
  tokens: "progress/tokens",
  epoch: "progress/epoch",
} as const;

function valuesOf(event: RunEvent): Value[] {
  const scalar = (tag: string, value: unknown): Value[] =>
    typeof value === "number" && Number.isFinite(value) ? [{ tag, scalar: value }] : [];
  switch (event.type) {
    case "step":
      return [
        ...Object.entries(stepScalars).flatMap(([key, tag]) => scalar(tag, event[key as keyof typeof stepScalars])),
        ...Object.entries(event.sources ?? {}).flatMap(([name, { nats }]) => scalar(`loss/train/${name}`, nats)),
      ];
    case "validation":
      return [
        ...scalar("loss/validation", event.nats),
        ...scalar("bits_per_character/validation", event.bitsPerCharacter),
        ...Object.entries(event.sources ?? {}).flatMap(([name, { nats, bitsPerCharacter }]) => [
          ...scalar(`loss/validation/${name}`, nats),
          ...scalar(`bits_per_character/validation/${name}`, bitsPerCharacter),
        ]),
      ];
    case "sample":
      return event.samples.map(({ prompt, text }, i) => ({ tag: `samples/${i}`, text: `**${prompt}**${text}` }));
    case "parameters":
      return event.parameters.flatMap(({ name, mean, std, gradStd }) => [
        ...scalar(`parameters/${name}/mean`, mean),
        ...scalar(`parameters/${name}/std`, std),
        ...scalar(`parameters/${name}/grad_std`, gradStd),
      ]);
    case "intervention":
      return [{ tag: "events/intervention", text: `${event.action}: ${event.reason}` }];
    default:
      return [];
  }
}

/** Records of a run's events, the file's version first. A resume that made steps void writes them again: the last counts. */
export async function* tensorboardRecords(
  events: AsyncIterable<RunEvent> | Iterable<RunEvent>,
): AsyncGenerator<Buffer> {
  let first = true;
  for await (const event of events) {
    const seconds = Date.parse(event.time) / 1000;
    if (first) yield tensorboardRecord(encodeEvent(seconds, 0, { version: "brain.Event:2" }));
    first = false;
    const values = valuesOf(event);
    const step = "step" in event && event.step !== undefined ? event.step : 0;
    if (values.length > 0) yield tensorboardRecord(encodeEvent(seconds, step, { values }));
  }
}
