#!/usr/bin/env python3
"""Both text encoders at Kandinsky 2.0's full size against Hugging Face transformers: parity_text.py VASILY WORK_FOLDER

needs torch, transformers, numpy and safetensors, 10 GB of memory and 3 GB of room in WORK_FOLDER. For each of XLM-R-CLIP
(24 layers, 560 M parameters) and mT5-small's encoder: makes a random network, saves it with torch.save in the published
layout as pytorch_model.bin, runs it in float64 and `vasily probe` on the file in float32 and in bfloat16, and prints the
relative L2 error of what comes out. Fails above 1e-5 and 2e-2.

Weights have the scales of transformers' own initialisation; norms and biases are random around theirs. The captions are
of random ids: an empty one, two of middling length, one that fills all 77 rows.
"""

import os
import subprocess
import sys
import time

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from transformers import MT5Config, MT5EncoderModel, XLMRobertaConfig, XLMRobertaModel

ROWS = 77
LIMITS = {"f32": 1e-5, "bf16": 2e-2}


def loosen(model):
    """Norms and biases start at exactly one and zero, where mistakes about them would not show."""
    for name, weight in model.named_parameters():
        if weight.ndim == 1:
            with torch.no_grad():
                weight.add_(0.1 * torch.randn(weight.shape))


def captions(vocab, bos, pad, eos):
    tokens, mask = np.full((4, ROWS), pad, np.int64), np.zeros((4, ROWS), np.int64)
    for row, length in enumerate((0, 9, 30, ROWS - len(bos) - 1)):
        ids = bos + torch.randint(4, vocab, (length,)).tolist() + [eos]
        tokens[row, : len(ids)], mask[row, : len(ids)] = ids, 1
    return tokens, mask


def xlmr_clip():
    config = XLMRobertaConfig(
        vocab_size=250002, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
        max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1,
    )
    net = torch.nn.Module()
    net.transformer = XLMRobertaModel(config, add_pooling_layer=False)
    net.LinearTransformation = torch.nn.Linear(1024, 640)
    return net, captions(config.vocab_size, [0], 1, 2)


def run_xlmr_clip(net, tokens, mask):
    states = net.transformer(input_ids=tokens, attention_mask=mask)[0]
    mean = (states * mask.unsqueeze(2)).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    return {"states": states, "pooled": net.LinearTransformation(mean)}


def mt5():
    config = MT5Config(  # google/mt5-small
        vocab_size=250112, d_model=512, d_kv=64, d_ff=1024, num_layers=8, num_heads=6,
        relative_attention_num_buckets=32, relative_attention_max_distance=128, feed_forward_proj="gated-gelu",
        layer_norm_epsilon=1e-6,
    )
    return MT5EncoderModel(config), captions(config.vocab_size, [], 0, 1)


def run_mt5(net, tokens, mask):
    return {"states": net(input_ids=tokens, attention_mask=mask)[0]}


def main():
    vasily, work = sys.argv[1], sys.argv[2]
    os.makedirs(work, exist_ok=True)
    at = {name: os.path.join(work, name) for name in ("pytorch_model.bin", "in.safetensors", "out.safetensors", "c.yaml")}
    with open(at["c.yaml"], "w") as config:
        config.write("seed: 1\n")
    failed = False
    for kind, make, run in (("xlmr-clip", xlmr_clip, run_xlmr_clip), ("mt5", mt5, run_mt5)):
        torch.manual_seed(1)
        net, (tokens, mask) = make()
        loosen(net)
        net.eval()
        count = sum(weight.numel() for weight in net.parameters())
        torch.save(net.state_dict(), at["pytorch_model.bin"])
        save_file({"tokens": tokens, "mask": mask}, at["in.safetensors"])
        net.double()
        with torch.no_grad():
            want = {key: value.numpy() for key, value in run(net, torch.from_numpy(tokens), torch.from_numpy(mask)).items()}
        del net
        for precision, limit in LIMITS.items():
            start = time.time()
            subprocess.run([vasily, "probe", kind, at["c.yaml"], at["in.safetensors"], at["out.safetensors"],
                            "model.precision=" + precision, "--weights", at["pytorch_model.bin"]], check=True)
            got = load_file(at["out.safetensors"])
            errors = {key: np.linalg.norm(got[key] - want[key]) / np.linalg.norm(want[key]) for key in want}
            failed |= not all(error <= limit for error in errors.values())
            print(f"{kind} {count / 1e6:.1f} M parameters, {precision}:",
                  ", ".join(f"{key} {error:.2e}" for key, error in errors.items()),
                  f"({time.time() - start:.1f} s)", flush=True)
        os.remove(at["pytorch_model.bin"])
    sys.exit(failed)


main()
