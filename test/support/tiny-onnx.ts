/**
 * Just enough of an ONNX writer for the runtime's own tests: nodes, ports and initializers as protobuf bytes. The
 * graph layer's real writer stands above the runtime, so its tests must not depend on it.
 */
import { type DType, onnxDType } from "../../src/runtime/dtype.ts";
import type { Port, ProgramSource } from "../../src/runtime/runtime.ts";

export interface TinyNode {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly name?: string;
  readonly domain?: string;
  /** Whole numbers become INT, other numbers and those of `floats` FLOAT, strings STRING, arrays INTS. */
  readonly attributes?: Readonly<Record<string, number | string | readonly number[]>>;
  readonly floats?: readonly string[];
}

export interface TinyModel {
  readonly name: string;
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  readonly nodes: readonly TinyNode[];
  /** Initializers inside the model. */
  readonly values?: Readonly<
    Record<string, { readonly dtype: DType; readonly shape: readonly number[]; readonly bytes: Uint8Array }>
  >;
  readonly opset?: number;
}

/** A program of a few nodes, written by hand. */
export function tinyProgram(model: TinyModel): ProgramSource {
  return {
    name: model.name,
    inputs: model.inputs,
    outputs: model.outputs,
    onnx: ({ constants = new Set() }) => modelProto(model, constants),
  };
}

export function port(name: string, dtype: DType, shape: readonly (number | string)[]): Port {
  return { name, dtype, shape };
}

function modelProto(model: TinyModel, constants: ReadonlySet<string>): Uint8Array {
  const external = model.inputs.filter((input) => constants.has(input.name));
  const inner = Object.entries(model.values ?? {});
  const graph = [
    ...model.nodes.map((node) => field(1, nodeProto(node))),
    field(2, text(model.name)),
    ...external.map((input) => field(5, externalTensor(input))),
    ...inner.map(([name, { dtype, shape, bytes }]) =>
      field(5, [...shape.map((size) => int(1, size)), int(2, onnxDType(dtype)), field(8, text(name)), field(9, bytes)]),
    ),
    ...model.inputs.filter((input) => !constants.has(input.name)).map((input) => field(11, valueInfo(input))),
    ...model.outputs.map((output) => field(12, valueInfo(output))),
  ];
  const opset = (domain: string, version: number) => field(8, [field(1, text(domain)), int(2, version)]);
  return join([int(1, 10), field(7, graph), opset("", model.opset ?? 20), opset("com.microsoft", 1)]);
}

function nodeProto(node: TinyNode): Uint8Array[] {
  const attributes = Object.entries(node.attributes ?? {}).map(([name, value]) => {
    const float = typeof value === "number" && (!Number.isInteger(value) || node.floats?.includes(name));
    const body = Array.isArray(value)
      ? [...value.map((item) => int(8, item)), int(20, 7)]
      : typeof value === "string"
        ? [field(4, text(value)), int(20, 3)]
        : float
          ? [join([varint((2 << 3) | 5), new Uint8Array(new Float32Array([value]).buffer)]), int(20, 1)]
          : [int(3, value as number), int(20, 2)];
    return field(5, [field(1, text(name)), ...body]);
  });
  return [
    ...node.inputs.map((name) => field(1, text(name))),
    ...node.outputs.map((name) => field(2, text(name))),
    field(3, text(node.name ?? `${node.op}_${node.outputs[0]}`)),
    field(4, text(node.op)),
    ...attributes,
    field(7, text(node.domain ?? "")),
  ];
}

function valueInfo({ name, dtype, shape }: Port): Uint8Array[] {
  const dims = shape.map((size) => field(1, [typeof size === "number" ? int(1, size) : field(2, text(size))]));
  return [field(1, text(name)), field(2, [field(1, [int(1, onnxDType(dtype)), field(2, dims)])])];
}

/** TensorProto whose bytes the runtime supplies: data_location EXTERNAL, location the input's name. */
function externalTensor({ name, dtype, shape }: Port): Uint8Array[] {
  return [
    ...shape.map((size) => int(1, size as number)),
    int(2, onnxDType(dtype)),
    field(8, text(name)),
    field(13, [field(1, text("location")), field(2, text(name))]),
    int(14, 1),
  ];
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

function int(number: number, value: number): Uint8Array {
  return join([varint(number << 3), varint(value)]);
}

function field(number: number, body: Uint8Array | readonly Uint8Array[]): Uint8Array {
  const bytes = body instanceof Uint8Array ? body : join(body);
  return join([varint((number << 3) | 2), varint(bytes.length), bytes]);
}

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts));
}
