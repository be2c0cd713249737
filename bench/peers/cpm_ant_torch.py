"""Peer of bench/pytorch.ts: the same CPM-Ant training step in PyTorch, one step for each line on standard input.

    python cpm_ant_torch.py FIXTURE.safetensors CONFIG.json --mode eager|compile --threads 2

The fixture holds the weights under CPM-Live's names and a batch (`batch.*`); see bench/step-fixture.ts. The model is
written as a PyTorch user would write it for speed: one embedding of the bias for all layers, scores only for positions
that bear a loss, fused AdamW, clipping by norm. Prints one line of JSON with versions, then one for each step.
"""

import argparse
import json
import math
import resource
import sys
import time


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("fixture")
    parser.add_argument("config")
    parser.add_argument("--mode", choices=["eager", "compile"], default="eager")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--attention", choices=["explicit", "sdpa"], default="explicit")
    args = parser.parse_args()
    try:
        import torch
        from safetensors.torch import load_file
    except ImportError as error:
        print(json.dumps({"missing": str(error.name)}), flush=True)
        return
    import torch.nn.functional as F
    from torch import nn

    torch.set_num_threads(args.threads)
    imported_bytes = peak_bytes()
    with open(args.config, encoding="utf-8") as file:
        config = json.load(file)
    tensors = load_file(args.fixture)
    d, heads, width = config["dim_model"], config["num_heads"], config["dim_head"]
    prompt_length, eps = config["prompt_length"], config["eps"]

    def linear(x, weight):
        return F.linear(x, weight) * (1 / math.sqrt(weight.shape[1]))

    def norm(x, weight):
        return F.rms_norm(x, (d,), weight, eps)

    class Block(nn.Module):
        def __init__(self, layer):
            super().__init__()
            at = f"encoder.layers.{layer}."
            attention = at + "self_att.self_attention."

            def take(name):
                return nn.Parameter(tensors[name].clone())

            self.norm_a = take(at + "self_att.layernorm_before_attention.weight")
            self.q = take(attention + "project_q.weight")
            self.k = take(attention + "project_k.weight")
            self.v = take(attention + "project_v.weight")
            self.o = take(attention + "attention_out.weight")
            self.norm_f = take(at + "ffn.layernorm_before_ffn.weight")
            self.gate = take(at + "ffn.ffn.w_in.w_0.weight")
            self.value = take(at + "ffn.ffn.w_in.w_1.weight")
            self.out = take(at + "ffn.ffn.w_out.weight")

        def forward(self, h, bias):
            rows, columns, _ = h.shape
            x = norm(h, self.norm_a)
            q, k, v = (
                linear(x, weight).view(rows, columns, heads, width).transpose(1, 2)
                for weight in (self.q, self.k, self.v)
            )
            if args.attention == "sdpa":
                mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
            else:
                scores = q @ k.transpose(-1, -2) * (1 / math.sqrt(width)) + bias
                mixed = torch.softmax(scores, -1) @ v
            h = h + linear(mixed.transpose(1, 2).reshape(rows, columns, heads * width), self.o)
            x = norm(h, self.norm_f)
            return h + linear(F.gelu(linear(x, self.gate)) * linear(x, self.value), self.out)

    class CpmAnt(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(tensors["input_embedding.weight"].clone())
            self.prompt = nn.Parameter(tensors["prompt_embedding.weight"].clone())
            self.segment = nn.Parameter(tensors["segment_embedding.weight"].clone())
            self.bias = nn.Parameter(tensors["position_bias.relative_attention_bias"].clone())
            self.norm = nn.Parameter(tensors["encoder.output_layernorm.weight"].clone())
            self.blocks = nn.ModuleList(Block(layer) for layer in range(config["num_layers"]))

        def forward(self, prompt, tokens, segment, buckets, blocked, positions, targets):
            text = torch.cat([F.embedding(prompt, self.prompt), F.embedding(tokens, self.token)], 1)
            h = (text + F.embedding(segment, self.segment)) * (1 / math.sqrt(d))
            bias = F.embedding(buckets, self.bias).permute(0, 3, 1, 2) + blocked[:, None]
            for block in self.blocks:
                h = block(h, bias)
            hidden = norm(h.reshape(-1, d)[positions], self.norm)
            return F.cross_entropy(hidden @ self.token.T * (1 / math.sqrt(d)), targets)

    batch = {name[6:]: tensor.long() for name, tensor in tensors.items() if name.startswith("batch.")}
    model = CpmAnt()
    del tensors
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    ids = batch["input"]
    inputs = (
        ids[:, :prompt_length],
        ids[:, prompt_length:],
        batch["segment"],
        batch["buckets"],
        torch.where(batch["allowed"] == 1, 0.0, -1e9),
        batch["positions"],
        batch["targets"],
    )
    run = torch.compile(model) if args.mode == "compile" else model

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = run(*inputs)
        loss.backward()
        gradient_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item(), gradient_norm.item()

    print(
        json.dumps(
            {
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
                "parameters": sum(p.numel() for p in model.parameters()),
                "importedBytes": imported_bytes,
            }
        ),
        flush=True,
    )
    for _ in sys.stdin:
        began = time.perf_counter()
        loss, gradient_norm = step()
        ms = (time.perf_counter() - began) * 1000
        print(json.dumps({"ms": ms, "loss": loss, "gradientNorm": gradient_norm, "peakBytes": peak_bytes()}), flush=True)


if __name__ == "__main__":
    main()
