"""Peer of bench/hf-decode.ts: greedy decoding of a CPM-Ant model with transformers' CpmAnt, one run for each line.

    python cpm_ant_hf_decode.py MODEL_FOLDER THREADS

MODEL_FOLDER is in Hugging Face's layout, float32. A line `decode N` reads a prompt of 32 ids, then generates N tokens with the
key/value cache of the library; the answer is one line of JSON with the median time of a token, in milliseconds.
"""

import json
import sys
import time


def main():
    folder, threads = sys.argv[1], int(sys.argv[2])
    try:
        import torch
        import transformers
    except ImportError as error:
        print(json.dumps({"missing": str(error.name)}), flush=True)
        return
    torch.set_num_threads(threads)
    model = transformers.CpmAntForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).eval()
    say = lambda value: print(json.dumps(value), flush=True)
    say({"ready": True, "torch": torch.__version__, "transformers": transformers.__version__})
    for line in sys.stdin:
        count = int(line.split()[1])
        ids = torch.tensor([[100 + (i * 37) % 900 for i in range(32)]])
        times = []
        with torch.inference_mode():
            out = model(input_ids=ids, use_cache=True)
            for _ in range(count):
                began = time.perf_counter()
                ids = torch.cat([ids, out.logits[:, -1].argmax(-1, keepdim=True)], 1)
                # The model takes all ids and computes those that its cache has not.
                out = model(input_ids=ids, past_key_values=out.past_key_values, use_cache=True)
                times.append((time.perf_counter() - began) * 1000)
        times.sort()
        say({"ms": times[len(times) // 2]})


if __name__ == "__main__":
    main()
