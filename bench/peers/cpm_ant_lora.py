"""Peer of bench/lora.ts: a LoRA step with PEFT on Hugging Face's cpmant, one for each line on standard input.

    python cpm_ant_lora.py BASE ADAPTER BATCH.json --threads 2 --rate 1e-3 --logits all|targets

BASE is a folder that Transformers reads, ADAPTER one that PEFT reads, the batch token ids and labels of each row. The step
is as a user writes it: forward with labels, backward, clipping, AdamW over what is trained. With `--logits targets` scores
are computed for the last half of each row only. Prints one line of JSON with versions, then one for each step.
"""

import argparse
import json
import os
import re
import sys
import time


def peak_bytes():
    with open("/proc/self/status", encoding="utf-8") as file:
        return int(re.search(r"VmHWM:\s+(\d+)", file.read()).group(1)) * 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("base")
    parser.add_argument("adapter")
    parser.add_argument("batch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--logits", choices=["all", "targets"], default="all")
    args = parser.parse_args()
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    try:
        import peft
        import torch
        import transformers
    except ImportError as error:
        print(json.dumps({"missing": str(error.name)}), flush=True)
        return

    torch.set_num_threads(args.threads)
    # Loaded when first used; they count as libraries.
    from transformers.models.cpmant.modeling_cpmant import CpmAntForCausalLM

    imported_bytes = peak_bytes()
    base = CpmAntForCausalLM.from_pretrained(args.base, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, args.adapter, is_trainable=True)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=args.rate, weight_decay=0.01)
    with open(args.batch, encoding="utf-8") as file:
        batch = json.load(file)
    ids = torch.tensor(batch["ids"])
    labels = torch.tensor(batch["labels"])
    more = {}
    if args.logits == "targets":
        first = int((labels[0] != -100).nonzero()[0])
        more = {"logits_to_keep": labels.shape[1] - first}
        labels = labels[:, first:].contiguous()

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = model(input_ids=ids, labels=labels, use_cache=False, **more).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        return loss.item()

    hello = {
        "ready": True,
        "peft": peft.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "trained": sum(p.numel() for p in trained),
        "importedBytes": imported_bytes,
        "readyBytes": peak_bytes(),
    }
    print(json.dumps(hello), flush=True)
    for _ in sys.stdin:
        began, processor = time.perf_counter(), time.process_time()
        loss = step()
        line = {
            "ms": (time.perf_counter() - began) * 1000,
            "processorMs": (time.process_time() - processor) * 1000,
            "loss": loss,
            "peakBytes": peak_bytes(),
        }
        print(json.dumps(line), flush=True)


main()
