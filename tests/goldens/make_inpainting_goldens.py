#!/usr/bin/env python3
"""Makes inpainting_training.safetensors from a checkout of the public repository ai-forever/Kandinsky-2.

    python make_inpainting_goldens.py CHECKOUT [OUT_FOLDER]

needs torch, numpy and safetensors. One training step of an inpainting network: a clean latent, a mask (1 = keep), text
states and timesteps go in; the noise is drawn by sample number as ours is (golden_philox.py); out come the noisy latent,
the network's whole input, the loss terms of every sample, and a fingerprint of every weight's gradient of their sum times
LOSS_SCALE (make_unet_goldens.py tells what it is).

The input is put together here from the definition, [x_t | latent * mask | mask], and shares no code with ours. Weights
are those of golden_weights.py. Everything runs in float64 and is stored channels-last.
"""

import importlib
import os
import sys
import types

import numpy as np
import torch
from safetensors.numpy import save_file

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from golden_philox import RANDOM_TEST, fnv1a, philox_normal, philox_u32  # noqa: E402
from golden_weights import draw_weight  # noqa: E402
from reference_unet import build, import_reference  # noqa: E402

# The C test holds the same numbers (tests/model/test_inpainting.c).
CASE = dict(
    in_channels=9, out_channels=8, channels=32, mult=(1, 2), res_blocks=1, attention=(2,), head=16, context=24, text1=32,
    pooled=20, text2=16, heads2=2,
)
SIDE, ROWS, TIMESTEPS, FIRST_INDEX, SEED, LOSS_SCALE = 8, 6, (0, 300, 999), 5000000000, 17, 0.25
RANDOM_NOISE = 3
SIGN_SEED, BUCKETS = 21, 512


def sketch(name, gradient):
    flat = gradient.reshape(-1)
    signs = 1.0 - 2.0 * (philox_u32(SIGN_SEED, RANDOM_TEST, fnv1a(name), flat.size) & 1)
    return np.bincount(np.arange(flat.size) % BUCKETS, weights=flat * signs, minlength=BUCKETS)[: flat.size]


def import_diffusion():
    utils = types.ModuleType("kandinsky2.model.utils")  # the real one wants Pillow for one line
    utils.mean_flat = lambda tensor: tensor.mean(dim=list(range(1, len(tensor.shape))))
    sys.modules["kandinsky2.model.utils"] = utils
    return [importlib.import_module("kandinsky2.model." + name) for name in ("gaussian_diffusion", "respace")]


def in_double(reference):
    """What the reference casts to float32 stays float64; its timestep embedding is float32's."""
    to_type, to_float, embedding = torch.Tensor.type, torch.Tensor.float, reference.timestep_embedding

    def cast(tensor, dtype=None, **kwargs):
        if dtype is None:
            return to_type(tensor)
        return to_type(tensor, torch.float64 if dtype == torch.float32 else dtype, **kwargs)

    def embed(timesteps, channels):
        torch.Tensor.float = to_float
        value = embedding(timesteps.to(torch.float32), channels).to(torch.float64)
        torch.Tensor.float = torch.Tensor.double
        return value

    torch.Tensor.float, torch.Tensor.type, reference.timestep_embedding = torch.Tensor.double, cast, embed


def make_mask(samples):
    """A box to be painted, everything to be painted, nothing to be painted."""
    keep = np.ones((samples, SIDE, SIDE), dtype=np.float32)
    keep[0, 2:6, 1:5] = 0
    keep[1] = 0
    return keep


def last(tensor):
    """NCHW to NHWC."""
    return np.ascontiguousarray(np.moveaxis(tensor.detach().numpy(), 1, -1)).astype(np.float32)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder = sys.argv[2] if len(sys.argv) > 2 else os.path.dirname(os.path.abspath(__file__))
    torch.set_num_threads(1)
    reference = import_reference(sys.argv[1])
    gd, respace = import_diffusion()
    model = build(reference, CASE).double()
    model.dtype = torch.float64
    weights = {key: draw_weight(key, tuple(value.shape)) for key, value in model.state_dict().items()}
    model.load_state_dict({key: torch.from_numpy(value).double() for key, value in weights.items()})
    in_double(reference)

    n, channels = len(TIMESTEPS), CASE["out_channels"] // 2
    draw = np.random.default_rng(29)
    golden = {
        "x0": draw.standard_normal((n, SIDE, SIDE, channels)).astype(np.float32),
        "keep": make_mask(n),
        "timesteps": np.array(TIMESTEPS, dtype=np.float32),
        "full_emb1": draw.standard_normal((n, ROWS, CASE["text1"])).astype(np.float32),
        "pooled_emb1": draw.standard_normal((n, CASE["pooled"])).astype(np.float32),
        "full_emb2": draw.standard_normal((n, ROWS, CASE["text2"])).astype(np.float32),
    }
    count = SIDE * SIDE * channels
    noise = np.stack([philox_normal(SEED, RANDOM_NOISE, FIRST_INDEX + i, count) for i in range(n)])
    golden["noise"] = noise.reshape(n, SIDE, SIDE, channels)

    first = {key: torch.from_numpy(value).double() for key, value in golden.items()}
    x0, noise = (first[key].permute(0, 3, 1, 2) for key in ("x0", "noise"))
    mask = first["keep"][:, None]
    diffusion = respace.SpacedDiffusion(
        use_timesteps=respace.space_timesteps(1000, "1000"),
        betas=gd.get_named_beta_schedule("linear", 1000),
        model_mean_type=gd.ModelMeanType.EPSILON,
        model_var_type=gd.ModelVarType.LEARNED_RANGE,
        loss_type=gd.LossType.RESCALED_MSE,
        rescale_timesteps=True,
    )

    def network(x_t, timesteps):
        x = torch.cat([x_t, x0 * mask, mask], dim=1)
        golden["x_t"], golden["x"] = last(x_t), last(x)
        return model(
            x, timesteps.float(), full_emb1=first["full_emb1"], pooled_emb1=first["pooled_emb1"],
            full_emb2=first["full_emb2"],
        )

    terms = diffusion.training_losses(network, x0, torch.tensor(TIMESTEPS), noise=noise)
    (LOSS_SCALE * terms["loss"].sum()).backward()
    golden["terms"] = torch.stack([terms["mse"], terms["vb"]], dim=1).detach().numpy().astype(np.float32)
    for key, value in model.named_parameters():
        gradient = value.grad.numpy()
        golden["sketch." + key] = sketch(key, gradient).astype(np.float32)
        golden["norm." + key] = np.array([np.linalg.norm(gradient)], dtype=np.float32)
    save_file(golden, os.path.join(folder, "inpainting_training.safetensors"))
    print("terms", golden["terms"].tolist())


main()
