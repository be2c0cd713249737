"""Peer of bench/tune-step.ts: a LoRA step of PEFT on Hugging Face's cpmant, one for each line on standard input.

    python cpm_ant_peft_step.py CONFIG.json ROWS COLUMNS THREADS

Rank 8 on project_q and project_v, AdamW over the factors, clipping by norm. COLUMNS counts the soft prompt. Prints one line
of JSON with versions, then one for each step.
"""

import json
import os
import resource
import sys
import time


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main():
    config_file, rows, columns, threads = sys.argv[1], *map(int, sys.argv[2:5])
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    try:
        import peft
        import torch
        import transformers
    except ImportError as error:
        print(json.dumps({"missing": str(error.name)}), flush=True)
        return
    torch.set_num_threads(threads)
    imported = peak_bytes()
    with open(config_file, encoding="utf-8") as file:
        settings = json.load(file)
    for name in ("architectures", "model_type", "torch_dtype", "mask_modules"):
        settings.pop(name, None)
    settings.update(init_std=1.0, dropout_p=0.0, eps=float(settings["eps"]))
    config = transformers.CpmAntConfig(**settings)
    torch.manual_seed(1)
    base = transformers.CpmAntForCausalLM(config)
    lora = peft.LoraConfig(r=8, lora_alpha=16, target_modules=["project_q", "project_v"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(base, lora)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.01)
    text = columns - config.prompt_length
    ids = torch.randint(6, config.vocab_size, (rows, text))
    labels = torch.randint(6, config.vocab_size, (rows, text))
    labels[:, : text // 2] = -100
    parameters = sum(p.numel() for p in base.parameters())
    about = {"torch": torch.__version__, "peft": peft.__version__, "parameters": parameters, "importedBytes": imported}
    print(json.dumps(about), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        ms = 1000 * (time.perf_counter() - began)
        step = {"ms": ms, "loss": loss.item(), "gradientNorm": norm.item(), "peakBytes": peak_bytes()}
        print(json.dumps(step), flush=True)


main()
