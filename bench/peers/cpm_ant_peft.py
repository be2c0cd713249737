"""Peer of bench/peft.ts: PEFT on Hugging Face's cpmant, adapters in both directions.

    python cpm_ant_peft.py JOBS.json

The file holds `base` (a folder), `ids` (token ids) and `jobs`: of each `adapter` (a folder), `output` (a safetensors file
that gets `logits` [T, V]), and perhaps `make`, a kind of adapter that is made here with random numbers and written to the
folder; else the folder is loaded. Prints one line of JSON.
"""

import json
import os
import sys


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        order = json.load(file)
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    try:
        import peft
        import torch
        import transformers
        from safetensors.torch import save_file
    except ImportError as error:
        print(json.dumps({"missing": str(error.name)}))
        return
    from peft import IA3Config, LoraConfig, PeftModel, get_peft_model

    kinds = {
        "lora": lambda: LoraConfig(r=3, lora_alpha=7, target_modules=["project_q", "project_v"]),
        "rslora": lambda: LoraConfig(r=4, lora_alpha=5, use_rslora=True, target_modules=["w_0", "attention_out"]),
        "dora": lambda: LoraConfig(r=2, lora_alpha=4, use_dora=True, target_modules=["project_k", "w_out"]),
        "patterns": lambda: LoraConfig(
            r=2,
            lora_alpha=4,
            target_modules=["project_q", "w_1"],
            rank_pattern={"w_1": 5},
            alpha_pattern={"w_1": 3},
        ),
        "ia3": lambda: IA3Config(target_modules=["project_k", "project_v", "w_out"], feedforward_modules=["w_out"]),
    }
    ids = torch.tensor([order["ids"]])
    for job in order["jobs"]:
        model = transformers.CpmAntForCausalLM.from_pretrained(order["base"], dtype=torch.float32)
        if "make" in job:
            config = kinds[job["make"]]()
            config.task_type = "CAUSAL_LM"
            tuned = get_peft_model(model, config)
            torch.manual_seed(1)
            with torch.no_grad():
                for name, parameter in tuned.named_parameters():
                    if "lora_" in name or "ia3_" in name:
                        parameter.add_(0.2 * torch.randn_like(parameter))
            tuned.save_pretrained(job["adapter"])
        else:
            tuned = PeftModel.from_pretrained(model, job["adapter"])
        tuned.eval()
        with torch.no_grad():
            logits = tuned(input_ids=ids).logits[0]
        save_file({"logits": logits.float().contiguous()}, job["output"])
    print(json.dumps({"peft": peft.__version__, "torch": torch.__version__, "transformers": transformers.__version__}))


main()
