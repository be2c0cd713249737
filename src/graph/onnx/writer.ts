/**
 * Emission: a graph as a standard ONNX model (opset 21, and ONNX Runtime's own operators where the target has them).
 *
 * Each operator says its own form; this file names values, shares constants and computes symbolic sizes from the shapes
 * of the program's inputs.
 */
import { byteLength, type DType, elementCount, hostArray, isFloat } from "../../runtime/dtype.ts";
import type { EmitOptions } from "../../runtime/runtime.ts";
import { numberToBfloat16, numberToFloat16 } from "../../util/float16.ts";
import { type Dim, dim, formatDim, namesIn, type SymbolicDim } from "../dim.ts";
import type { Graph } from "../graph.ts";
import type { EmitContext } from "../operator.ts";
import type { Tensor } from "../tensor.ts";
import { encodeModel, type NodeProto, type TensorProto } from "./proto.ts";

export const opset = 21;

/** Marks vanish from emitted programs: their result is their input. */
const transparent = new Set(["stopGradient", "boundary"]);

export function writeOnnx(graph: Graph, options: EmitOptions): Uint8Array {
  const nodes: NodeProto[] = [];
  const initializers = new Map<string, TensorProto>();
  const names = new Map<Tensor, string>();
  const outputNames = new Map<Tensor, string>();
  const taken = new Set([...graph.inputs, ...graph.outputs].map(({ name }) => name));
  let counter = 0;
  const fresh = (stem: string): string => {
    const name = `${stem}_${++counter}`;
    return taken.has(name) ? fresh(stem) : name;
  };
  const push = (type: string, inputs: readonly string[], outputs: readonly string[], rest: Partial<NodeProto> = {}) => {
    nodes.push({ name: fresh(type), type, domain: "", attributes: {}, inputs, outputs, ...rest });
    return outputs[0]!;
  };
  const literal = (dtype: DType, shape: readonly number[], data: ArrayLike<number>, name?: string) => {
    const bytes = encodeLiteral(dtype, shape, data);
    const key = name ?? `const:${dtype}:${shape.join("x")}:${Buffer.from(bytes).toString("base64")}`;
    const found = initializers.get(key);
    if (found !== undefined) return found.name;
    const tensor = { name: name ?? fresh("constant"), dtype, shape, data: bytes };
    initializers.set(key, tensor);
    return tensor.name;
  };
  const ints = (values: readonly number[]) => literal("int64", [values.length], values);
  const sizes = createSizeEmitter(graph, options, { push, fresh, ints });

  for (const [name, tensor] of graph.inputTensors) names.set(tensor, name);
  for (const [name, tensor] of graph.outputTensors) if (!outputNames.has(tensor)) outputNames.set(tensor, name);

  for (const node of graph.nodes) {
    if (node.operator.name === "input") continue;
    const inputs = node.inputs.map((tensor) => names.get(tensor)!);
    if (transparent.has(node.operator.name) && !outputNames.has(node.outputs[0]!)) {
      names.set(node.outputs[0]!, inputs[0]!);
      continue;
    }
    const outputs = node.outputs.map((tensor) => outputNames.get(tensor) ?? fresh(node.operator.name));
    node.outputs.forEach((tensor, i) => {
      names.set(tensor, outputs[i]!);
    });
    const context: EmitContext<unknown> = {
      target: options.target,
      oneThread: options.oneThread ?? false,
      attributes: node.attributes,
      inputs,
      outputs,
      inputTypes: node.inputs,
      outputTypes: node.outputs,
      emit: (type, from, attributes = {}, { outputs: to = outputs, domain = "" } = {}) =>
        push(type, from, to, { attributes, domain }),
      temporary: () => fresh(`${node.operator.name}_part`),
      scalar: (dtype, value) => literal(dtype, [], [value]),
      literal,
      ints,
      sizes,
    };
    node.operator.onnx(context);
  }
  // An input that is an output too, or one value under two names.
  for (const [name, tensor] of graph.outputTensors) {
    if (names.get(tensor) !== name) push("Identity", [names.get(tensor)!], [name]);
  }

  const constants = options.constants ?? new Set<string>();
  for (const port of graph.inputs) {
    if (!constants.has(port.name)) continue;
    if (port.shape.some((size) => typeof size !== "number")) {
      throw new Error(`internal: the constant ${port.name} of ${graph.name} has a symbolic size`);
    }
    initializers.set(port.name, { name: port.name, dtype: port.dtype, shape: port.shape as number[] });
  }
  return encodeModel({
    name: graph.name,
    opset,
    nodes,
    initializers: [...initializers.values()],
    inputs: graph.inputs.filter((port) => !constants.has(port.name)),
    outputs: graph.outputs,
  });
}

function encodeLiteral(dtype: DType, shape: readonly number[], data: ArrayLike<number>): Uint8Array {
  const bytes = byteLength(dtype, shape);
  const buffer = new ArrayBuffer(bytes);
  const array = hostArray(dtype, buffer, 0, bytes);
  const count = elementCount(shape);
  for (let i = 0; i < count; i++) {
    const value = data[i]!;
    if (array instanceof BigInt64Array) array[i] = BigInt(value);
    else if (dtype === "float16") array[i] = numberToFloat16(value);
    else if (dtype === "bfloat16") array[i] = numberToBfloat16(value);
    else array[i] = isFloat(dtype) ? value : Math.trunc(value);
  }
  return new Uint8Array(buffer);
}

interface SizeTools {
  push(type: string, inputs: readonly string[], outputs: readonly string[], rest?: Partial<NodeProto>): string;
  fresh(stem: string): string;
  ints(values: readonly number[]): string;
}

/** Gives int64 vectors of sizes; named sizes are read off the input that carries them, each once. */
function createSizeEmitter(graph: Graph, options: EmitOptions, { push, fresh, ints }: SizeTools) {
  const known = new Map<string, string>();

  const named = (name: string): string => {
    for (const { name: port, shape } of graph.inputs) {
      const axis = shape.indexOf(name);
      if (axis < 0 || options.constants?.has(port)) continue;
      return push("Shape", [port], [fresh("size")], { attributes: { start: axis, end: axis + 1 } });
    }
    throw new Error(`internal: no input of ${graph.name} tells the size ${name}`);
  };

  const value = (size: Dim): string => {
    if (typeof size === "number") return ints([size]);
    const found = known.get(size.text);
    if (found !== undefined) return found;
    const isName = size.text === namesIn(size)[0];
    const result = isName ? named(size.text) : polynomial(size);
    known.set(formatDim(size), result);
    return result;
  };

  const polynomial = (size: SymbolicDim): string => {
    const terms = size.terms.map(([product, coefficient]) => {
      const factors = product
        .split("*")
        .filter(Boolean)
        .map((name) => value(dim(name)));
      if (coefficient !== 1 || factors.length === 0) factors.push(ints([coefficient]));
      return factors.reduce((a, b) => push("Mul", [a, b], [fresh("size")]));
    });
    return terms.reduce((a, b) => push("Add", [a, b], [fresh("size")]));
  };

  return (shape: readonly Dim[]): string => {
    if (shape.every((size) => typeof size === "number")) return ints(shape as number[]);
    if (shape.length === 1) return value(shape[0]!);
    return push("Concat", shape.map(value), [fresh("shape")], { attributes: { axis: 0 } });
  };
}
