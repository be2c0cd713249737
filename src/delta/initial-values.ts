/** How a delta begins: each parameter's values from the seed and, where the method says so, from the base. */
import { elementCount } from "../runtime/dtype.ts";
import type { Delta } from "./attach.ts";
import type { InitialContext } from "./method.ts";

/** Elements by parameter name. Each depends on the seed and its own name alone. */
export async function initialValues(
  { parameters }: Pick<Delta, "parameters">,
  context: InitialContext,
): Promise<Map<string, Float32Array>> {
  const values = new Map<string, Float32Array>();
  for (const { name, shape, initialize } of parameters) {
    const out = new Float32Array(elementCount(shape));
    await initialize(out, context);
    values.set(name, out);
  }
  return values;
}
