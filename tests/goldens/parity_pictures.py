#!/usr/bin/env python3
"""Full-size parity of the picture networks with the public repository ai-forever/Kandinsky-2, on random weights.

    python parity_pictures.py CHECKOUT VASILY FOLDER [vae | unet]

needs torch, numpy, einops and safetensors, 8 GB in FOLDER and 12 GB of memory (vae: 4 GB). Every tensor of the published
architecture is drawn, those that start at zero or one included; the weights are saved by torch.save in the published
layout (vae.ckpt: under `state_dict`), brought over by `vasily import`, and both programs run on the same inputs:

    vae     AutoencoderKL, encode and decode at 64, 128 and 256 pixels and at 128 x 192; the reference in float64
    unet    Text2ImUNet with 1,223.4 M parameters, forward at 256 pixels (a latent of 32 x 32); the reference in float32

Prints a row of relative L2 errors for each, in f32 and bf16, and fails above 1e-5 and 2e-2. The two programs run one
after the other, each in a process of its own, so that only one holds the weights in memory."""

import os
import subprocess
import sys

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

SEED = 40
SCALE = 0.0512
SIZES = ((1, 64, 64), (1, 128, 128), (1, 256, 256), (2, 128, 192))  # batch, height, width
LIMITS = {"f32": 1e-5, "bf16": 2e-2}
CONFIG = f"model: {{autoencoder: {{kind: kl, scale: {SCALE}}}}}\n"


def randomise(model):
    """Matrices and kernels uniform in +-sqrt(3 / fan_in), norm weights 1 +- 0.25, biases +-0.25."""
    draw = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.uniform_(-1, 1, generator=draw)
            if value.dim() > 1:
                value.mul_((3 / value[0].numel()) ** 0.5)
            else:
                value.mul_(0.25)
                if name.endswith("weight"):
                    value.add_(1)
    return model.eval().requires_grad_(False)


# ---- the reference's side, a process each ----


def reference_vae(checkout, folder):
    import reference_autoencoder as reference

    model = randomise(reference.build(reference.import_reference(checkout), 128, (1, 2, 4, 4), 2, 4))
    torch.save({"epoch": 1, "state_dict": model.state_dict()}, os.path.join(folder, "vae.ckpt"))
    model = model.double()
    draw = np.random.default_rng(SEED)
    for n, height, width in SIZES:
        shape = (n, 4, height // 8, width // 8)
        pixels = draw.uniform(-1, 1, (n, 3, height, width)).astype(np.float32)
        noise = draw.standard_normal(shape).astype(np.float32)
        latent = (SCALE * draw.standard_normal(shape)).astype(np.float32)
        posterior = model.encode(torch.from_numpy(pixels).double())
        sampled = SCALE * (posterior.mean + posterior.std * torch.from_numpy(noise).double())
        decoded = model.decode(torch.from_numpy(latent).double() / SCALE)
        name = os.path.join(folder, f"vae_{n}x{height}x{width}")
        save_file({"pixels": pixels, "noise": noise}, name + ".encode.in.safetensors")
        save_file({"latent": latent}, name + ".decode.in.safetensors")
        want = {"moments": posterior.parameters, "latent": sampled, "pixels": decoded}
        save_file({key: value.numpy() for key, value in want.items()}, name + ".want.safetensors")


def reference_unet(checkout, folder):
    import reference_unet as reference

    model = randomise(reference.build(reference.import_reference(checkout), reference.FULL))
    torch.save(model.state_dict(), os.path.join(folder, "unet.pt"))
    draw = np.random.default_rng(SEED)
    inputs = {
        "x": draw.standard_normal((1, 4, 32, 32)),
        "timesteps": np.array([731.0]),
        "full_emb1": draw.standard_normal((1, 77, 1024)),
        "pooled_emb1": draw.standard_normal((1, 640)),
        "full_emb2": draw.standard_normal((1, 77, 512)),
    }
    inputs = {key: value.astype(np.float32) for key, value in inputs.items()}
    save_file(inputs, os.path.join(folder, "unet.in.safetensors"))
    tensors = {key: torch.from_numpy(value) for key, value in inputs.items()}
    out = model(tensors.pop("x"), tensors.pop("timesteps"), **tensors)
    save_file({"out": out.numpy()}, os.path.join(folder, "unet.want.safetensors"))


# ---- ours ----


def vasily(program, *arguments):
    result = subprocess.run([program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        sys.exit(f"vasily {' '.join(arguments)} failed:\n{result.stdout}")


def error(ours, want):
    return np.linalg.norm(ours.astype(np.float64) - want) / np.linalg.norm(want.astype(np.float64))


def row(title, errors):
    """`errors`: per precision a dict of errors. Returns whether all are within the limits."""
    names = next(iter(errors.values()))
    cells = [f"{errors[p][name]:.2e}" for name in names for p in LIMITS]
    print(f"| {title} | " + " | ".join(cells) + " |", flush=True)
    return all(errors[p][name] <= LIMITS[p] for name in names for p in LIMITS)


def check_vae(program, folder, config):
    weights = os.path.join(folder, "vae.safetensors")
    vasily(program, "import", "vae", os.path.join(folder, "vae.ckpt"), "--out", weights)
    print("| autoencoder | moments f32 | bf16 | drawn latent f32 | bf16 | decoded f32 | bf16 |\n|" + "---|" * 7)
    good = True
    for n, height, width in SIZES:
        name = os.path.join(folder, f"vae_{n}x{height}x{width}")
        want, errors = load_file(name + ".want.safetensors"), {}
        for precision in LIMITS:
            for way in ("encode", "decode"):
                vasily(program, "probe", f"vae-{way}", config, f"{name}.{way}.in.safetensors", f"{name}.{way}.safetensors",
                       f"model.precision={precision}", "--weights", weights)
            encoded, decoded = load_file(name + ".encode.safetensors"), load_file(name + ".decode.safetensors")
            errors[precision] = {
                "moments": error(encoded["moments"], want["moments"]),
                "latent": error(encoded["latent"], want["latent"]),
                "pixels": error(decoded["pixels"], want["pixels"]),
            }
        good &= row(f"{n} of {width} x {height} pixels", errors)
    return good


def check_unet(program, folder, config):
    weights = os.path.join(folder, "unet.safetensors")
    vasily(program, "import", "unet", os.path.join(folder, "unet.pt"), "--out", weights)
    os.unlink(os.path.join(folder, "unet.pt"))
    print("| UNet, 1,223.4 M parameters | out f32 | bf16 |\n|" + "---|" * 3)
    want, errors = load_file(os.path.join(folder, "unet.want.safetensors"))["out"], {}
    for precision in LIMITS:
        out = os.path.join(folder, "unet.out.safetensors")
        vasily(program, "probe", "unet", config, os.path.join(folder, "unet.in.safetensors"), out,
               f"model.precision={precision}", "--weights", weights)
        errors[precision] = {"out": error(load_file(out)["out"], want)}
    return row("1 of 256 x 256 pixels", errors)


def main():
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    checkout, program, folder = sys.argv[1:4]
    if len(sys.argv) == 5 and sys.argv[4].startswith("reference-"):
        return {"reference-vae": reference_vae, "reference-unet": reference_unet}[sys.argv[4]](checkout, folder)
    os.makedirs(folder, exist_ok=True)
    config = os.path.join(folder, "config.yaml")
    with open(config, "w") as file:
        file.write(CONFIG)
    good = True
    for network, check in (("vae", check_vae), ("unet", check_unet)):
        if len(sys.argv) == 5 and sys.argv[4] != network:
            continue
        subprocess.run([sys.executable, __file__, checkout, program, folder, "reference-" + network], check=True)
        good &= check(program, folder, config)
    sys.exit(0 if good else "an error is above its limit")


main()
