#!/usr/bin/env python3
"""Makes the UNet goldens from a checkout of the public repository ai-forever/Kandinsky-2.

    python make_unet_goldens.py CHECKOUT [OUT_FOLDER [FULL_FOLDER]]

needs torch, numpy and safetensors. Writes into OUT_FOLDER (default: this folder)

    unet_NAME.safetensors    inputs, output, input gradients, and a fingerprint of every weight's gradient
    unet_full_params.txt     every parameter of the full Kandinsky 2.0 UNet: name and shape

and, with FULL_FOLDER, NAME.{weights,inputs,expected}.safetensors there: whole weights and gradients, for
`vasily probe unet` and compare_tensors.py.

The network runs in float64 with the reference's own float32 timestep embedding. Every weight is randomised, those that
start at zero included, by a rule that the C test repeats (golden_weights.py).

A fingerprint is a count sketch (Charikar et al. 2002): element i, with a random sign, is added to bucket i mod 512.
It keeps the norm of a difference to a few percent, and tensors of up to 512 elements wholly.
"""

import os
import sys

import numpy as np
import torch
from safetensors.numpy import save_file

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from golden_philox import RANDOM_TEST, fnv1a, philox_u32  # noqa: E402
from golden_weights import SEED, draw_weight  # noqa: E402
from reference_unet import FULL, build, import_reference  # noqa: E402

SIGN_SEED = 21
BUCKETS = 512

# The C test holds the same numbers (tests/model/golden_unet.c).
CASES = {
    "plain": dict(
        in_channels=4, out_channels=8, channels=32, mult=(1, 2), res_blocks=1, attention=(2,), head=16,
        context=48, text1=40, pooled=24, text2=512, heads2=8, batch=2, height=8, width=8, rows1=7, rows2=5,
        timesteps=(0.0, 731.0),
    ),
    "deep": dict(
        in_channels=4, out_channels=8, channels=64, mult=(1, 2, 3), res_blocks=1, attention=(2, 4), head=32,
        context=32, text1=24, pooled=40, text2=24, heads2=4, batch=2, height=8, width=12, rows1=5, rows2=9,
        timesteps=(999.0, 12.5),
    ),
    "inpainting": dict(
        in_channels=9, out_channels=8, channels=32, mult=(1, 3), res_blocks=2, attention=(1,), head=32,
        context=56, text1=16, pooled=8, text2=16, heads2=2, batch=3, height=10, width=6, rows1=4, rows2=6,
        timesteps=(3.0, 500.0, 999.0),
    ),
}


def sketch(name, gradient):
    flat = gradient.astype(np.float64).reshape(-1)
    signs = 1.0 - 2.0 * (philox_u32(SIGN_SEED, RANDOM_TEST, fnv1a(name), flat.size) & 1)
    return np.bincount(np.arange(flat.size) % BUCKETS, weights=flat * signs, minlength=BUCKETS)[: flat.size]


class InDouble:
    """While active, what the reference casts to float32 stays float64; its timestep embedding is float32's."""

    def __init__(self, reference):
        self.reference = reference

    def __enter__(self):
        self.float, self.type, self.embedding = torch.Tensor.float, torch.Tensor.type, self.reference.timestep_embedding
        to_type, to_float, embedding = self.type, self.float, self.embedding

        def in_double(tensor, dtype=None, **kwargs):
            if dtype is None:
                return to_type(tensor)
            return to_type(tensor, torch.float64 if dtype == torch.float32 else dtype, **kwargs)

        def embed(timesteps, channels):
            torch.Tensor.float = to_float
            value = embedding(timesteps.to(torch.float32), channels).to(torch.float64)
            torch.Tensor.float = torch.Tensor.double
            return value

        torch.Tensor.float, torch.Tensor.type = torch.Tensor.double, in_double
        self.reference.timestep_embedding = embed

    def __exit__(self, *_):
        torch.Tensor.float, torch.Tensor.type = self.float, self.type
        self.reference.timestep_embedding = self.embedding


def run_case(reference, name, c, out_folder, full_folder):
    model = build(reference, c).double()
    model.dtype = torch.float64
    weights = {key: draw_weight(key, tuple(value.shape)) for key, value in model.state_dict().items()}
    model.load_state_dict({key: torch.from_numpy(value).double() for key, value in weights.items()})

    draw = np.random.default_rng(SEED)
    def normal(*shape):
        return draw.standard_normal(shape).astype(np.float32)

    n, height, width = c["batch"], c["height"], c["width"]
    tensors = {
        "x": normal(n, c["in_channels"], height, width),
        "timesteps": np.array(c["timesteps"], dtype=np.float32),
        "full_emb1": normal(n, c["rows1"], c["text1"]),
        "pooled_emb1": normal(n, c["pooled"]),
        "full_emb2": normal(n, c["rows2"], c["text2"]),
        "grad_out": normal(n, c["out_channels"], height, width),
    }
    leaves = {key: torch.from_numpy(tensors[key]).double() for key in tensors}
    asked = ("x", "full_emb1", "pooled_emb1", "full_emb2")
    for key in asked:
        leaves[key].requires_grad_(True)
    with InDouble(reference):
        out = model(
            leaves["x"], leaves["timesteps"].float(), full_emb1=leaves["full_emb1"],
            pooled_emb1=leaves["pooled_emb1"], full_emb2=leaves["full_emb2"],
        )
    (out * leaves["grad_out"]).sum().backward()

    gradients = {key: value.grad.numpy() for key, value in model.named_parameters()}
    golden = dict(tensors)
    golden["out"] = out.detach().numpy().astype(np.float32)
    for key in asked:
        golden["grad." + key] = leaves[key].grad.numpy().astype(np.float32)
    for key, value in gradients.items():
        golden["sketch." + key] = sketch(key, value).astype(np.float32)
        golden["norm." + key] = np.array([np.linalg.norm(value)], dtype=np.float32)
    save_file(golden, os.path.join(out_folder, f"unet_{name}.safetensors"))
    count = sum(value.size for value in weights.values())
    print(f"{name}: {len(weights)} tensors, {count} parameters, |out| {np.linalg.norm(golden['out']):.4f}")

    if full_folder:
        save_file(weights, os.path.join(full_folder, f"{name}.weights.safetensors"))
        save_file(tensors, os.path.join(full_folder, f"{name}.inputs.safetensors"))
        expected = {"out": golden["out"]}
        expected.update({key: golden["grad." + key] for key in asked})
        expected.update({key: value.astype(np.float32) for key, value in gradients.items()})
        save_file(expected, os.path.join(full_folder, f"{name}.expected.safetensors"))


def list_full_params(reference, out_folder):
    with torch.device("meta"):
        model = build(reference, FULL)
    with open(os.path.join(out_folder, "unet_full_params.txt"), "w") as file:
        for key, value in model.state_dict().items():
            file.write(key + " " + "x".join(str(d) for d in value.shape) + "\n")
    print("full:", sum(value.numel() for value in model.state_dict().values()), "parameters")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    out_folder = sys.argv[2] if len(sys.argv) > 2 else os.path.dirname(os.path.abspath(__file__))
    full_folder = sys.argv[3] if len(sys.argv) > 3 else None
    torch.set_num_threads(1)
    reference = import_reference(sys.argv[1])
    for name, case in CASES.items():
        run_case(reference, name, case, out_folder, full_folder)
    list_full_params(reference, out_folder)


main()
