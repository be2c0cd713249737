/**
 * Checks tensors against a program's ports before ONNX Runtime sees them, so that a wrong input is named in our words:
 * missing and unknown names, dtypes, ranks, fixed sizes, and sizes of one name that differ between inputs.
 */
import { RuntimeError, ShapeError } from "../../util/error.ts";
import type { DeviceTensor, Port } from "../runtime.ts";
import { describe, type Ledger, NativeTensor } from "./tensor.ts";

/** A size's name, in contrast to an expression such as `2*T`, which only the emitter understands. */
const sizeName = /^[A-Za-z_]\w*$/;

/** Sizes that names stand for in one run. */
export type Sizes = Map<string, { readonly size: number; readonly port: string }>;

export interface PortCheck {
  readonly program: string;
  readonly kind: "input" | "output" | "constant";
  readonly ledger: Ledger;
  readonly sizes: Sizes;
}

/** The tensor of each port in order, or undefined where it is not given and `optional` allows that. */
export function tensorsOf(
  check: PortCheck,
  ports: readonly Port[],
  given: Readonly<Record<string, DeviceTensor>>,
  optional: boolean,
): (NativeTensor | undefined)[] {
  for (const name of Object.keys(given)) {
    if (!ports.some((port) => port.name === name)) {
      throw new RuntimeError("CPM_RUNTIME_PORT", `The program has no ${check.kind} of this name.`, {
        where: `program "${check.program}"`,
        got: name,
        expected: `one of ${ports.map((port) => port.name).join(", ") || "none"}`,
      });
    }
  }
  return ports.map((port) => {
    const tensor = Object.hasOwn(given, port.name) ? given[port.name] : undefined;
    if (tensor !== undefined) return checkTensor(check, port, tensor);
    if (optional) return undefined;
    throw new RuntimeError("CPM_RUNTIME_PORT", `The program misses an ${check.kind}.`, {
      where: `program "${check.program}"`,
      got: Object.keys(given).join(", ") || "none",
      expected: `${port.name}: ${describe(port)}`,
    });
  });
}

/** Checks one tensor against one port and notes what its named sizes stand for. */
export function checkTensor(check: PortCheck, port: Port, tensor: DeviceTensor): NativeTensor {
  const where = `program "${check.program}", ${check.kind} "${port.name}"`;
  if (!(tensor instanceof NativeTensor) || tensor.ledger !== check.ledger) {
    throw new RuntimeError("CPM_RUNTIME_FOREIGN", "A tensor belongs to another runtime.", {
      where,
      hint: "Use tensors of the runtime that compiled the program: allocate or upload them there.",
    });
  }
  tensor.assertAlive(where);
  if (tensor.dtype !== port.dtype) {
    throw new ShapeError("CPM_RUNTIME_DTYPE", "A tensor has the wrong dtype.", {
      where,
      got: describe(tensor),
      expected: describe(port),
    });
  }
  if (tensor.shape.length !== port.shape.length) {
    throw new ShapeError("CPM_RUNTIME_SHAPE", "A tensor has the wrong number of axes.", {
      where,
      got: describe(tensor),
      expected: describe(port),
    });
  }
  if (check.kind === "output" && tensor.memory.readOnly) {
    throw new RuntimeError("CPM_RUNTIME_READ_ONLY", "A tensor over a mapped file cannot be an output.", { where });
  }
  port.shape.forEach((dim, axis) => {
    const size = tensor.shape[axis]!;
    const known = typeof dim === "number" ? { size: dim, port: "" } : check.sizes.get(dim);
    if (known === undefined) {
      if (check.kind !== "output" && typeof dim === "string" && sizeName.test(dim)) {
        check.sizes.set(dim, { size, port: port.name });
      }
    } else if (known.size !== size) {
      throw new ShapeError("CPM_RUNTIME_SHAPE", "A tensor has the wrong size.", {
        where: `${where}, axis ${axis}`,
        got: describe(tensor),
        expected: `${describe(port)}${known.port === "" ? "" : `, where ${dim} is ${known.size} as in "${known.port}"`}`,
      });
    }
  });
  return tensor;
}

/** A port's shape where every size is fixed or named by an input, else undefined. */
export function knownShape(port: Port, sizes: Sizes): readonly number[] | undefined {
  const shape = port.shape.map((dim) => (typeof dim === "number" ? dim : (sizes.get(dim)?.size ?? -1)));
  return shape.includes(-1) ? undefined : shape;
}
