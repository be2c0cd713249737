/**
 * What every parameter looks like, for the page of parameter dynamics: a compiled pass over the weights and their gradients,
 * piece by piece, so that the memory bus carries each number once.
 *
 * Of each piece: mean, Σ (x − mean)², largest, smallest. Pieces are put together in float64 (Chan et al., 1979):
 *
 *     n = Σ nᵢ,   mean = Σ nᵢ·meanᵢ / n,   Σ (x − mean)² = Σ (Sᵢ + nᵢ·(meanᵢ − mean)²)
 *
 * so a spread that is small beside the mean, as of a norm's weights, is not lost in float32.
 */
import { dim, type Graph, mul, reduceMax, reduceMean, reduceSumSquare, spec, sub, trace } from "../graph/index.ts";
import { parameterElements } from "../model/parameters.ts";
import type { Binding, DeviceTensor, Runtime } from "../runtime/runtime.ts";
import { ownedBy } from "../util/owner.ts";
import type { Arena } from "./arena.ts";
import { runSideBySide } from "./side-by-side.ts";

export interface ParameterStatistics {
  readonly name: string;
  readonly shape: readonly number[];
  readonly mean: number;
  readonly std: number;
  readonly min: number;
  readonly max: number;
  readonly gradMean: number;
  readonly gradStd: number;
}

export interface StatisticsTaker {
  /** Of every parameter in the arena's order, as weights and gradients are now. */
  take(): Promise<ParameterStatistics[]>;
  dispose(): void;
}

/** With its difference from the mean, a piece of the weights and one of the gradients fit the second-level cache. */
const pieceElements = 96 * 1024;

/** Of a piece: what a run writes, in this order. */
const figures = ["mean", "square", "max", "negativeMin", "gradMean", "gradSquare"] as const;

/** Figures of the weights w and gradients g of a piece [N], each as [1]. */
function pieceGraph(): Graph {
  const vector = spec("float32", [dim("N")]);
  return trace(
    "parameter-statistics",
    ({ w, g }) => {
      const mean = reduceMean(w, [0], true);
      const gradMean = reduceMean(g, [0], true);
      return {
        mean,
        square: reduceSumSquare(sub(w, mean), [0], true),
        max: reduceMax(w, [0], true),
        negativeMin: reduceMax(mul(w, -1), [0], true),
        gradMean,
        gradSquare: reduceSumSquare(sub(g, gradMean), [0], true),
      };
    },
    { w: vector, g: vector },
  );
}

export function createStatisticsTaker(runtime: Runtime, parameters: Arena, gradients: Arena): Promise<StatisticsTaker> {
  return ownedBy(async (owner) => {
    const { own } = owner;
    const program = own(await runtime.compile(pieceGraph(), { threads: "caller" }));
    const { layout } = parameters;
    const sizes = layout.parameters.map((parameter) => piecesOf(parameterElements(parameter)));
    const pieces = sizes.reduce((sum, { length }) => sum + length, 0);
    const results = own(runtime.allocate("float32", [pieces, figures.length]));
    const bindings: Binding[] = [];
    for (const [i, { name }] of layout.parameters.entries()) {
      let start = layout.offsets.get(name)!;
      for (const elements of sizes[i]!) {
        const part = (arena: Arena) => own(arena.flat.alias([elements], start * 4));
        const outputs: Record<string, DeviceTensor> = {};
        for (const [k, figure] of figures.entries()) {
          outputs[figure] = own(results.alias([1], (bindings.length * figures.length + k) * 4));
        }
        bindings.push(own(program.bind({ w: part(parameters), g: part(gradients) }, outputs)));
        start += elements;
      }
    }
    return {
      async take() {
        await runSideBySide(bindings, runtime.info.threads);
        const found = (await runtime.download(results)) as Float32Array;
        let piece = 0;
        return layout.parameters.map(({ name, shape }, i) => {
          const ofPieces = sizes[i]!.map((elements) => {
            const at = piece++ * figures.length;
            const [mean, square, max, negativeMin, gradMean, gradSquare] = found.subarray(at, at + figures.length);
            return {
              elements,
              mean: mean!,
              square: square!,
              max: max!,
              min: -negativeMin!,
              gradMean: gradMean!,
              gradSquare: gradSquare!,
            };
          });
          const weights = together(ofPieces.map(({ elements, mean, square }) => ({ elements, mean, square })));
          const gradient = together(
            ofPieces.map(({ elements, gradMean, gradSquare }) => ({ elements, mean: gradMean, square: gradSquare })),
          );
          return {
            name,
            shape,
            ...weights,
            min: Math.min(...ofPieces.map(({ min }) => min)),
            max: Math.max(...ofPieces.map(({ max }) => max)),
            gradMean: gradient.mean,
            gradStd: gradient.std,
          };
        });
      },
      dispose: () => owner.dispose(),
    };
  });
}

function piecesOf(elements: number): number[] {
  const pieces: number[] = [];
  for (let left = elements; left > 0; left -= pieceElements) pieces.push(Math.min(left, pieceElements));
  return pieces;
}

/** Mean and standard deviation of all pieces; `square` is Σ (x − mean)² of each. */
function together(pieces: readonly { elements: number; mean: number; square: number }[]) {
  const elements = pieces.reduce((sum, piece) => sum + piece.elements, 0);
  const mean = pieces.reduce((sum, piece) => sum + piece.elements * piece.mean, 0) / elements;
  const square = pieces.reduce((sum, piece) => sum + piece.square + piece.elements * (piece.mean - mean) ** 2, 0);
  return { mean, std: Math.sqrt(square / elements) };
}
