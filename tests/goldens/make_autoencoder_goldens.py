#!/usr/bin/env python3
"""Makes the goldens of the KL autoencoder from a checkout of the public repository ai-forever/Kandinsky-2.

    python make_autoencoder_goldens.py CHECKOUT [OUT_FOLDER]

needs torch, numpy, einops and safetensors. Writes into OUT_FOLDER (default: this folder)

    autoencoder_NAME.safetensors     pixels -> moments; noise, latent (sampled and scaled), mean; latent -> decoded
    autoencoder_full_params.txt      every parameter of the published autoencoder: name and shape

The network runs in float64. Every weight is randomised, those that start at zero or one included, by the rule of
make_unet_goldens.py under the names of the program, which are `autoencoder.` and the published ones, so that the C test
draws the same (tests/model/golden_unet.c)."""

import os
import sys

import numpy as np
import torch
from safetensors.numpy import save_file

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from golden_weights import draw_weight  # noqa: E402
from reference_autoencoder import build, import_reference  # noqa: E402

SEED = 30
SCALE = 0.0512
# The C test holds the same numbers (tests/model/test_autoencoder.c).
CASES = {
    "small": dict(ch=32, mult=(1, 2), res_blocks=1, channels=4, batch=2, height=24, width=40),
    "deep": dict(ch=32, mult=(1, 3, 2), res_blocks=2, channels=3, batch=1, height=32, width=16),
}


def run_case(reference, name, c, out_folder):
    model = build(reference, c["ch"], c["mult"], c["res_blocks"], c["channels"]).double().eval()
    weights = {key: draw_weight("autoencoder." + key, tuple(v.shape)) for key, v in model.state_dict().items()}
    model.load_state_dict({key: torch.from_numpy(value).double() for key, value in weights.items()})
    draw = np.random.default_rng(SEED)
    factor = 2 ** (len(c["mult"]) - 1)
    pixels = draw.uniform(-1, 1, (c["batch"], 3, c["height"], c["width"])).astype(np.float32)
    shape = (c["batch"], c["channels"], c["height"] // factor, c["width"] // factor)
    noise = draw.standard_normal(shape).astype(np.float32)
    given = (SCALE * draw.standard_normal(shape)).astype(np.float32)
    with torch.no_grad():
        posterior = model.encode(torch.from_numpy(pixels).double())
        latent = SCALE * (posterior.mean + posterior.std * torch.from_numpy(noise).double())
        decoded = model.decode(torch.from_numpy(given).double() / SCALE)
    golden = {
        "pixels": pixels,
        "noise": noise,
        "moments": posterior.parameters.numpy().astype(np.float32),
        "sampled": latent.numpy().astype(np.float32),
        "mean": (SCALE * posterior.mean).numpy().astype(np.float32),
        "latent": given,
        "decoded": decoded.numpy().astype(np.float32),
    }
    save_file(golden, os.path.join(out_folder, f"autoencoder_{name}.safetensors"))
    print(f"{name}: {len(weights)} tensors, {sum(v.size for v in weights.values())} parameters", *(
        f"|{key}| {np.sqrt(np.mean(golden[key].astype(np.float64) ** 2)):.3f}" for key in ("moments", "decoded")))
    print("   log variance from", posterior.parameters.chunk(2, 1)[1].min().item(), "to",
          posterior.parameters.chunk(2, 1)[1].max().item())


def list_full_params(reference, out_folder):
    with torch.device("meta"):
        model = build(reference, 128, (1, 2, 4, 4), 2, 4)
    with open(os.path.join(out_folder, "autoencoder_full_params.txt"), "w") as file:
        for key, value in model.state_dict().items():
            file.write("autoencoder." + key + " " + "x".join(str(d) for d in value.shape) + "\n")
    print("full:", len(model.state_dict()), "tensors,", sum(v.numel() for v in model.state_dict().values()), "parameters")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    out_folder = sys.argv[2] if len(sys.argv) > 2 else os.path.dirname(os.path.abspath(__file__))
    torch.set_num_threads(1)
    reference = import_reference(sys.argv[1])
    for name, case in CASES.items():
        run_case(reference, name, case, out_folder)
    list_full_params(reference, out_folder)


main()
