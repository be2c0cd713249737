/**
 * ONNX's protocol buffer messages, as far as programs need them: written field by field with protobuf's wire writer.
 *
 * Field numbers are those of onnx.proto (IR version 10). Only writing is supported.
 */
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { type DType, onnxDType } from "../../runtime/dtype.ts";
import type { PortDim } from "../../runtime/runtime.ts";
import type { OnnxAttribute } from "../operator.ts";

export interface NodeProto {
  readonly name: string;
  readonly type: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, OnnxAttribute>>;
}

export interface TensorProto {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** The bytes; absent where the runtime supplies them under this name. */
  readonly data?: Uint8Array;
}

export interface ValueInfoProto {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly PortDim[];
}

export interface ModelProto {
  readonly name: string;
  readonly opset: number;
  readonly nodes: readonly NodeProto[];
  readonly initializers: readonly TensorProto[];
  readonly inputs: readonly ValueInfoProto[];
  readonly outputs: readonly ValueInfoProto[];
}

type Write = (writer: BinaryWriter) => void;

function message(writer: BinaryWriter, field: number, write: Write): void {
  writer.tag(field, WireType.LengthDelimited).fork();
  write(writer);
  writer.join();
}

function text(writer: BinaryWriter, field: number, value: string): void {
  writer.tag(field, WireType.LengthDelimited).string(value);
}

function integer(writer: BinaryWriter, field: number, value: number): void {
  writer.tag(field, WireType.Varint).int64(value);
}

const attributeType = { float: 1, int: 2, string: 3, ints: 7 };

function writeAttribute(writer: BinaryWriter, name: string, value: OnnxAttribute): void {
  text(writer, 1, name);
  if (typeof value === "number") {
    integer(writer, 3, value);
    integer(writer, 20, attributeType.int);
  } else if (typeof value === "string") {
    text(writer, 4, value);
    integer(writer, 20, attributeType.string);
  } else if ("float" in value) {
    writer.tag(2, WireType.Bit32).float(value.float);
    integer(writer, 20, attributeType.float);
  } else {
    for (const item of value) integer(writer, 8, item);
    integer(writer, 20, attributeType.ints);
  }
}

function writeNode(writer: BinaryWriter, node: NodeProto): void {
  for (const name of node.inputs) text(writer, 1, name);
  for (const name of node.outputs) text(writer, 2, name);
  text(writer, 3, node.name);
  text(writer, 4, node.type);
  for (const [name, value] of Object.entries(node.attributes)) {
    message(writer, 5, (attribute) => writeAttribute(attribute, name, value));
  }
  if (node.domain !== "") text(writer, 7, node.domain);
}

function writeTensor(writer: BinaryWriter, { name, dtype, shape, data }: TensorProto): void {
  for (const size of shape) integer(writer, 1, size);
  integer(writer, 2, onnxDType(dtype));
  text(writer, 8, name);
  if (data !== undefined) {
    writer.tag(9, WireType.LengthDelimited).bytes(data);
    return;
  }
  message(writer, 13, (entry) => {
    text(entry, 1, "location");
    text(entry, 2, name);
  });
  integer(writer, 14, 1);
}

function writeValueInfo(writer: BinaryWriter, { name, dtype, shape }: ValueInfoProto): void {
  text(writer, 1, name);
  message(writer, 2, (type) =>
    message(type, 1, (tensor) => {
      integer(tensor, 1, onnxDType(dtype));
      message(tensor, 2, (sizes) => {
        for (const size of shape) {
          message(sizes, 1, (item) => (typeof size === "number" ? integer(item, 1, size) : text(item, 2, size)));
        }
      });
    }),
  );
}

/** The bytes of a model. */
export function encodeModel(model: ModelProto): Uint8Array<ArrayBuffer> {
  const writer = new BinaryWriter();
  integer(writer, 1, 10);
  text(writer, 2, "cpm-live");
  message(writer, 7, (graph) => {
    for (const node of model.nodes) message(graph, 1, (w) => writeNode(w, node));
    text(graph, 2, model.name);
    for (const tensor of model.initializers) message(graph, 5, (w) => writeTensor(w, tensor));
    for (const value of model.inputs) message(graph, 11, (w) => writeValueInfo(w, value));
    for (const value of model.outputs) message(graph, 12, (w) => writeValueInfo(w, value));
  });
  const domains = new Map([
    ["", model.opset],
    ["com.microsoft", 1],
  ]);
  for (const [domain, version] of domains) {
    message(writer, 8, (opset) => {
      if (domain !== "") text(opset, 1, domain);
      integer(opset, 2, version);
    });
  }
  return writer.finish();
}
