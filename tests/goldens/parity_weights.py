#!/usr/bin/env python3
"""Published weight files in, safetensors out, against torch, transformers and the public repository ai-forever/Kandinsky-2.

    python parity_weights.py CHECKOUT BUILD FOLDER [--full]

BUILD is a build folder with `vasily` and tests/train/make_test_shards; needs torch, numpy, einops, safetensors and
transformers.

1. Networks of the public classes, every tensor drawn at random, are saved by torch.save in the published layouts: the
   UNet's state dict (4 and 9 channels, zip and legacy, f16, transposed views), vae.ckpt with its discriminator and a
   trainer's state, XLM-R-CLIP's and mT5's pytorch_model.bin (mT5 with its decoder). `vasily import` must give every
   tensor of the network to the bit, and nothing else.
2. A run that begins with such a file (init.from) is trained for three steps and exported, in f32, bf16 and f16: Python's
   safetensors reads the file, the public UNet loads it with no missing or unexpected key, and both programs give the
   same output.

--full takes the published sizes for 1 (8 GB in FOLDER, 6 GB of memory) and prints the time and peak memory of each
import."""

import collections
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file
from transformers import MT5Config, MT5ForConditionalGeneration, XLMRobertaConfig, XLMRobertaModel

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import reference_autoencoder  # noqa: E402
import reference_unet  # noqa: E402

TINY_UNET = dict(in_channels=12, out_channels=24, channels=32, mult=(1, 2), res_blocks=1, attention=(2,), head=32,
                 context=32, text1=32, pooled=16, text2=32, heads2=2)

CONFIG = """
seed: 7
run: {dir: run}
train: {steps: 3, global_batch: 8, resolution: 16}
preview: {every: 0}
optim: {max_lr: 1.0e-3, pct_start: 0.5, ema_decay: 0.9}
model:
  in_channels: 12
  out_channels: 24
  channels: 32
  channel_mult: [1, 2]
  res_blocks: 1
  attention_levels: [2]
  head_channels: 32
  context_dim: 32
  text1_dim: 32
  pooled_dim: 16
  text2_dim: 32
  text2_heads: 2
  max_tokens: 8
  precision: f32
  autoencoder: {kind: patch, factor: 2}
  text_encoder1: {vocab: 200, layers: 2, heads: 2, feed_forward: 40, positions: 10}
  text_encoder2: {vocab: 200, layers: 2, heads: 2, head_channels: 8, feed_forward: 24}
device: {threads: 1}
data:
  sources: [{name: shapes, shards: ["shards/{000000..000003}.tar"]}]
  lanes: 4
  shuffle_block: 8
  filter: {min_side: 0}
  tokenizer1: {model: TOKENIZER, max_tokens: 8}
  tokenizer2: {model: TOKENIZER, max_tokens: 8}
"""


class Callback:
    """Something of a trainer that the reader does not know."""


def draw(module, seed):
    """Every parameter and buffer of floats at random, those that start at zero too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.state_dict().values():
            if value.is_floating_point():
                value.normal_(0, 0.05, generator=generator)
    return module


class XlmrClip(torch.nn.Module):
    def __init__(self, config, pooled):
        super().__init__()
        self.transformer = XLMRobertaModel(config)
        self.LinearTransformation = torch.nn.Linear(config.hidden_size, pooled)


# A process of its own, because the peak that the system tells counts what a parent of this size hands down.
MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stderr=subprocess.STDOUT).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


class Vasily:
    def __init__(self, build, folder):
        self.program, self.folder = os.path.join(os.path.abspath(build), "vasily"), folder

    def __call__(self, *arguments, wanted=0):
        result = subprocess.run([sys.executable, "-c", MEASURE, self.program, *arguments], cwd=self.folder, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)
        if result.returncode != wanted:
            sys.exit(f"vasily {' '.join(arguments)} gave {result.returncode}:\n{result.stdout}")
        said, self.peak_kb = result.stdout.rstrip("\n").rsplit("\n", 1)
        return said


def check_import(vasily, kind, path, wanted, *arguments):
    """`wanted`: the network's own tensors, by published name. Compared one at a time, to the bit."""
    out = os.path.join(vasily.folder, "imported.safetensors")
    start = time.time()
    said = vasily("import", kind, path, *arguments, "--out", out)
    seconds = time.time() - start
    with safe_open(out, "pt") as file:
        names = set(file.keys())
        if names != set(wanted):
            sys.exit(f"{path}: missing {set(wanted) - names}, too many {names - set(wanted)}")
        for name, value in wanted.items():
            have = file.get_tensor(name)
            if have.dtype != value.dtype or have.shape != value.shape:
                sys.exit(f"{path}: {name} is {have.dtype} {tuple(have.shape)}")
            if not torch.equal(have.contiguous().view(torch.uint8), value.contiguous().view(torch.uint8)):
                sys.exit(f"{path}: {name} has other bits")
    size = os.path.getsize(os.path.join(vasily.folder, path))
    memory = int(vasily.peak_kb) / 1e3
    print(f"| {path} | {kind} | {len(wanted)} | {size / 1e6:.1f} MB | {seconds:.1f} s | {memory:.0f} MB |", flush=True)
    os.unlink(out)
    return said


def save(vasily, value, name, **options):
    torch.save(value, os.path.join(vasily.folder, name), **options)
    return name


def floats(state):
    return {name: value for name, value in state.items() if value.is_floating_point()}


def check_unets(vasily, reference, config, sizes, full):
    legacy = dict(_use_new_zipfile_serialization=False)
    net = draw(reference_unet.build(reference, sizes), 1)
    state = net.state_dict()
    check_import(vasily, "unet", save(vasily, state, "Kandinsky-2-0.pt"), state, *config)
    if full:
        del net, state
        return
    check_import(vasily, "unet", save(vasily, state, "legacy.pt", **legacy), state, *config)
    check_import(vasily, "unet", save(vasily, dict(net.named_parameters()), "parameters.pt"), state, *config)
    check_import(vasily, "unet", save(vasily, {"module." + k: v for k, v in state.items()}, "parallel.pt"), state, *config)
    half = {name: value.half() for name, value in state.items()}
    check_import(vasily, "unet", save(vasily, half, "half.pt"), half, *config)
    turned = {name: value.t().contiguous().t() if value.dim() == 2 else value for name, value in state.items()}
    check_import(vasily, "unet", save(vasily, turned, "transposed.pt"), state, *config)
    flat = torch.cat([value.flatten() for value in state.values()])  # one storage for all
    at, shared = 0, collections.OrderedDict()
    for name, value in state.items():
        shared[name] = flat[at : at + value.numel()].view(value.shape)
        at += value.numel()
    check_import(vasily, "unet", save(vasily, shared, "one_storage.pt"), state, *config)
    wide = draw(reference_unet.build(reference, dict(sizes, in_channels=2 * sizes["in_channels"] + 1)), 2).state_dict()
    said = check_import(vasily, "unet", save(vasily, wide, "Kandinsky-2-0-inpainting.pt"), wide, *config)
    if "an inpainting network" not in said:
        sys.exit("import does not say that the network is one for inpainting")
    del state["out.2.bias"]
    state["strange"] = torch.ones(3)
    said = vasily("import", "unet", save(vasily, state, "wrong.pt"), *config, "--out", "no.safetensors", wanted=6)
    if "missing: out.2.bias" not in said or "unknown: strange" not in said:
        sys.exit("import does not name what does not fit:\n" + said)


def check_others(vasily, checkout, config, full):
    reference = reference_autoencoder.import_reference(checkout)
    size = (128, (1, 2, 4, 4), 2, 4) if full else (32, (1, 2), 1, 4)
    kl = [] if full else [*config, "model.autoencoder.kind=kl", "model.autoencoder.channels=32",
                          "model.autoencoder.channel_mult=[1,2]", "model.autoencoder.res_blocks=1",
                          "model.in_channels=4", "model.out_channels=8"]
    state = draw(reference_autoencoder.build(reference, *size), 3).state_dict()
    loss = {"loss.logvar": torch.zeros(()), "loss.discriminator.main.0.weight": torch.ones(64, 3, 4, 4)}
    checkpoint = {
        "epoch": 3, "global_step": 845000, "pytorch-lightning_version": "1.4.2",
        "state_dict": collections.OrderedDict({**state, **loss}), "callbacks": {Callback: Callback()},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(5)}}, "param_groups": [{"lr": 4.5e-6}]}],
    }
    check_import(vasily, "vae", save(vasily, checkpoint, "vae.ckpt"), state, *kl)

    sizes = dict(vocab_size=250002, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16,
                 intermediate_size=4096, max_position_embeddings=514) if full else dict(
        vocab_size=200, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40,
        max_position_embeddings=10)
    clip = draw(XlmrClip(XLMRobertaConfig(type_vocab_size=1, pad_token_id=1, **sizes), 640 if full else 16), 4)
    state = clip.state_dict()
    wanted = {name: value for name, value in floats(state).items() if ".pooler." not in name}
    state["transformer.embeddings.position_ids"] = torch.arange(sizes["max_position_embeddings"]).expand((1, -1))
    os.makedirs(os.path.join(vasily.folder, "text_encoder1"), exist_ok=True)
    save(vasily, state, "text_encoder1/pytorch_model.bin")
    check_import(vasily, "xlmr-clip", "text_encoder1/pytorch_model.bin", wanted, *config)
    del clip, state, wanted

    sizes = dict(vocab_size=250112, d_model=512, d_kv=64, d_ff=1024, num_layers=8, num_heads=6) if full else dict(
        vocab_size=200, d_model=32, d_kv=8, d_ff=24, num_layers=2, num_heads=2)
    state = draw(MT5ForConditionalGeneration(MT5Config(**sizes)), 5).state_dict()  # the token table under three names
    wanted = {name: value for name, value in state.items()
              if name == "shared.weight" or name.startswith("encoder.") and "embed_tokens" not in name}
    os.makedirs(os.path.join(vasily.folder, "text_encoder2"), exist_ok=True)
    save(vasily, state, "text_encoder2/pytorch_model.bin")
    check_import(vasily, "mt5", "text_encoder2/pytorch_model.bin", wanted, *config)


def check_export(vasily, build, reference):
    """From torch through a run and back; outputs of the public class and of ours, both in float32."""
    os.makedirs(os.path.join(vasily.folder, "shards"), exist_ok=True)
    maker = os.path.join(os.path.abspath(build), "tests", "train", "make_test_shards")
    subprocess.run([maker, "shards", "4", "24", "16"], cwd=vasily.folder, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(os.path.join(vasily.folder, "run"), ignore_errors=True)
    vasily("train", "config.yaml", "init.from=Kandinsky-2-0.pt")
    rng = np.random.default_rng(6)
    c = TINY_UNET
    inputs = {"x": rng.standard_normal((2, c["in_channels"], 8, 8)), "timesteps": np.array([3.0, 917.0]),
              "full_emb1": rng.standard_normal((2, 8, c["text1"])), "pooled_emb1": rng.standard_normal((2, c["pooled"])),
              "full_emb2": rng.standard_normal((2, 8, c["text2"]))}
    inputs = {key: value.astype(np.float32) for key, value in inputs.items()}
    save_arrays(inputs, os.path.join(vasily.folder, "inputs.safetensors"))
    tensors = {key: torch.from_numpy(value) for key, value in inputs.items()}
    x, timesteps = tensors.pop("x"), tensors.pop("timesteps")
    begun = torch.load(os.path.join(vasily.folder, "Kandinsky-2-0.pt"))
    print("\n| exported | keys | dtype | moved from the file it began with | output |\n|---|---|---|---|---|")
    for which, dtype in (("ema", "f32"), ("weights", "f32"), ("ema", "bf16"), ("ema", "f16")):
        vasily("export", "run", f"--{which}", "--dtype", dtype, "--out", "export.safetensors")
        state = load_file(os.path.join(vasily.folder, "export.safetensors"))
        net = reference_unet.build(reference, c)
        problems = net.load_state_dict(state, strict=True)
        if problems.missing_keys or problems.unexpected_keys:
            sys.exit(f"the public UNet does not take the export: {problems}")
        with torch.no_grad():
            want = net.eval()(x, timesteps, **tensors).numpy()
        vasily("probe", "unet", "config.yaml", "inputs.safetensors", "out.safetensors", "--weights", "export.safetensors")
        have = load_arrays(os.path.join(vasily.folder, "out.safetensors"))["out"].astype(np.float64)
        error = np.linalg.norm(have - want) / np.linalg.norm(want)
        moved = sum((state[k].double() - begun[k].double()).square().sum() for k in state).sqrt()
        moved /= sum(begun[k].double().square().sum() for k in state).sqrt()
        print(f"| {which} | {len(state)} | {dtype} | {moved:.1e} | {error:.2e} |")
        if not 0 < error < 1e-5 or not 1e-5 < moved < 0.5:
            sys.exit("the outputs differ, or the run did not begin with the file")


def main():
    full = sys.argv[-1] == "--full"
    arguments = [a for a in sys.argv[1:] if a != "--full"]
    if len(arguments) != 3:
        sys.exit(__doc__)
    checkout, build, folder = arguments
    os.makedirs(folder, exist_ok=True)
    vasily = Vasily(build, folder)
    with open(os.path.join(folder, "config.yaml"), "w") as file:
        file.write(CONFIG.replace("TOKENIZER", os.path.join(HERE, "..", "train", "tokenizer.model")))
    reference = reference_unet.import_reference(checkout)
    config = [] if full else ["config.yaml"]
    print("| file | kind | tensors, all to the bit | size | time | peak memory |\n|---|---|---|---|---|---|")
    check_unets(vasily, reference, config, reference_unet.FULL if full else TINY_UNET, full)
    check_others(vasily, checkout, config, full)
    if not full:
        check_export(vasily, build, reference)


main()
