/** Operators that say something about a value and compute nothing: inputs, barriers to gradients, stored points. */
import { defineOperator } from "../operator.ts";
import { apply1, type Tensor, type TensorSpec } from "../tensor.ts";

interface InputAttributes extends TensorSpec {
  readonly name: string;
}

/** A named argument of a program. It has no inputs and no evaluation: whoever runs the program supplies it. */
export const inputOperator = defineOperator<InputAttributes>({
  name: "input",
  cost: "free",
  infer: (_, { dtype, shape }) => [{ dtype, shape }],
  onnx: () => {},
  evaluate: (_, { attributes }) => {
    throw new Error(`internal: the input ${attributes.name} was not supplied`);
  },
});

export function input(name: string, { dtype, shape }: TensorSpec): Tensor {
  return apply1(inputOperator, [], { name, dtype, shape });
}

type None = Record<string, never>;

/** Identities under a name that passes look for. They leave no node in an emitted program but where an output needs one. */
function defineMark(name: string, differentiable: boolean) {
  return defineOperator<None>({
    name,
    cost: "free",
    infer: ([x]) => [{ dtype: x!.dtype, shape: x!.shape }],
    ...(differentiable && {
      gradient: ({ cotangents }: { readonly cotangents: readonly (Tensor | undefined)[] }) => [cotangents[0]],
    }),
    onnx: ({ inputs, outputs, emit }) => void emit("Identity", inputs, {}, { outputs }),
    evaluate: ([x]) => [x!],
  });
}

const stopGradientOperator = defineMark("stopGradient", false);
export const boundaryOperator = defineMark("boundary", true);

/** The same value, through which no gradient flows. */
export function stopGradient(x: Tensor): Tensor {
  return apply1(stopGradientOperator, [x], {});
}

/** The same value, marked as one that recomputation starts from (the policy `block` of `splitGradient`). */
export function boundary(x: Tensor): Tensor {
  return apply1(boundaryOperator, [x], {});
}
