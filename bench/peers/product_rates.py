"""Peer of bench/product-rates.ts: PyTorch's matrix products, a measurement for each line `FORM ROWS OUTPUTS INPUTS`.

    python product_rates.py --threads 2

Forms are those of a linear layer: `forward` x Wᵀ, `dx` dy W, `dw` dyᵀ x. Answers with the median in milliseconds.
"""

import argparse
import json
import sys
import time


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    print(json.dumps({"ready": True, "torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        form, *sizes = line.split()
        rows, outputs, inputs = map(int, sizes)
        x, w, dy = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(rows, outputs)
        run = {"forward": lambda: x @ w.T, "dx": lambda: dy @ w, "dw": lambda: dy.T @ x}[form]
        run()
        times = []
        for _ in range(9):
            began = time.perf_counter()
            run()
            times.append(time.perf_counter() - began)
        print(json.dumps({"ms": sorted(times)[len(times) // 2] * 1000}), flush=True)


if __name__ == "__main__":
    main()
