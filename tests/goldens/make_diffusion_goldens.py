#!/usr/bin/env python3
"""Makes diffusion.safetensors from a checkout of the public repository ai-forever/Kandinsky-2.

    python make_diffusion_goldens.py CHECKOUT [OUT_FOLDER]

needs torch, numpy and safetensors. Holds schedules, respacings, the hybrid loss with its gradient, and whole sampling
trajectories over a toy network with given noise. Everything runs in float64 and is stored channels-last.

The toy network, for channel c of C at timestep t (the C test repeats it):
    eps_c = tanh(0.7 x_c + 0.3 x_((c+1) mod C) + 0.2 cos(0.01 t)),  v_c = sin(1.3 x_c + 0.003 t)
"""

import importlib
import os
import sys
import types

import numpy as np
import torch
from safetensors.numpy import save_file

LOSS_TIMESTEPS = [0, 1, 250, 999, 0, 500]


def import_reference(checkout):
    for package, folder in (("kandinsky2", "kandinsky2"), ("kandinsky2.model", "kandinsky2/model")):
        module = types.ModuleType(package)
        module.__path__ = [os.path.join(checkout, folder)]
        sys.modules[package] = module
    utils = types.ModuleType("kandinsky2.model.utils")  # the real one wants Pillow for one line
    utils.mean_flat = lambda tensor: tensor.mean(dim=list(range(1, len(tensor.shape))))
    sys.modules["kandinsky2.model.utils"] = utils
    einops = types.ModuleType("einops")
    einops.repeat = None
    sys.modules["einops"] = einops
    tqdm = types.ModuleType("tqdm")
    tqdm.tqdm = lambda items, **_: items
    sys.modules["tqdm"] = tqdm
    return [
        importlib.import_module("kandinsky2.model." + name) for name in ("gaussian_diffusion", "respace", "samplers")
    ]


def make_diffusion(gd, respace, steps, sections):
    return respace.SpacedDiffusion(
        use_timesteps=respace.space_timesteps(steps, sections),
        betas=gd.get_named_beta_schedule("linear", steps),
        model_mean_type=gd.ModelMeanType.EPSILON,
        model_var_type=gd.ModelVarType.LEARNED_RANGE,
        loss_type=gd.LossType.RESCALED_MSE,
        rescale_timesteps=True,
    )


def toy(x, t):
    t = t.to(torch.float64).reshape(-1, 1, 1, 1)
    eps = torch.tanh(0.7 * x + 0.3 * torch.roll(x, -1, dims=1) + 0.2 * torch.cos(0.01 * t))
    return torch.cat([eps, torch.sin(1.3 * x + 0.003 * t)], dim=1)


def last(array):
    """NCHW to NHWC."""
    return np.ascontiguousarray(np.moveaxis(array, 1, -1)).astype(np.float32)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder = sys.argv[2] if len(sys.argv) > 2 else os.path.dirname(os.path.abspath(__file__))
    gd, respace, samplers = import_reference(sys.argv[1])
    torch.Tensor.float = torch.Tensor.double  # everything in float64
    draw = np.random.default_rng(7)
    golden = {}

    for name, steps, sections in (
        ("full", 1000, "1000"), ("short", 250, "250"), ("spaced", 1000, "25"), ("sections", 300, "10,15,20"),
        ("stride", 1000, "ddim30"),
    ):
        d = make_diffusion(gd, respace, steps, sections)
        golden[name + ".timesteps"] = np.array(d.timestep_map, dtype=np.int64)
        golden[name + ".table"] = np.stack(
            [
                d.sqrt_alphas_cumprod, d.sqrt_one_minus_alphas_cumprod, d.posterior_mean_coef1, d.posterior_mean_coef2,
                d.posterior_log_variance_clipped, np.log(d.betas), d.sqrt_recip_alphas_cumprod,
                d.sqrt_recipm1_alphas_cumprod,
            ],
            axis=1,
        )
    golden["cosine.betas"] = np.asarray(gd.get_named_beta_schedule("cosine", 100))

    # The loss, t = 0 included, with values at and beyond the ends where the discretised Gaussian has open bins.
    n, c, h, w = len(LOSS_TIMESTEPS), 3, 4, 5
    x0 = draw.uniform(-1.3, 1.3, (n, c, h, w)).astype(np.float32)
    noise, out = (draw.standard_normal((n, k, h, w)).astype(np.float32) for k in (c, 2 * c))
    # A good guess at t = 0 too, so that bins of ordinary probability are covered.
    out[4, :c] = noise[4]
    for name, steps in (("loss", 1000), ("loss250", 250)):
        t = torch.tensor(LOSS_TIMESTEPS) * steps // 1000
        d = make_diffusion(gd, respace, steps, str(steps))
        prediction = torch.from_numpy(out).double().requires_grad_(True)
        terms = d.training_losses(
            lambda x, ts: prediction, torch.from_numpy(x0).double(), t, noise=torch.from_numpy(noise).double()
        )
        (terms["loss"].sum() / 8).backward()
        golden[name + ".timesteps"] = t.numpy().astype(np.float32)
        golden[name + ".terms"] = torch.stack([terms["mse"], terms["vb"]], dim=1).detach().numpy()
        golden[name + ".grad"] = last(prediction.grad.numpy())
    golden["loss.x0"], golden["loss.noise"], golden["loss.out"] = last(x0), last(noise), last(out)

    # Trajectories of two pictures, each by itself: the reference takes the threshold of a batch's first.
    steps, n, c, h, w = 25, 2, 3, 4, 4
    start = (1.5 * draw.standard_normal((n, c, h, w))).astype(np.float32)
    noises = draw.standard_normal((64, n, c, h, w)).astype(np.float32)
    golden["start"] = last(start)
    golden["noise"] = np.stack([last(noises[i]) for i in range(64)])
    d = make_diffusion(gd, respace, 1000, str(steps))

    def trajectory(step):
        pictures = []
        for k in range(n):
            x, visited = torch.from_numpy(start[k : k + 1]).double(), []
            for i in reversed(range(steps)):
                gd.th.randn_like = lambda _: torch.from_numpy(noises[i, k : k + 1]).double()
                x = step(x, torch.tensor([i]))["sample"]
                visited.append(last(x.numpy()))
            pictures.append(np.concatenate(visited))
        return np.stack(pictures, axis=1)  # (steps, n, h, w, c)

    for name, clip in (("plain", False), ("threshold", True)):
        golden[f"ddpm.{name}"] = trajectory(lambda x, t: d.p_sample(toy, x, t, clip_denoised=clip))
        for eta in (0.0, 0.7):
            golden[f"ddim.{name}.{eta}"] = trajectory(
                lambda x, t: d.ddim_sample(toy, x, t, clip_denoised=clip, eta=eta)
            )

    # The reference's other ddim sampler, on a processor.
    full = make_diffusion(gd, respace, 1000, "1000")
    to, fill = torch.Tensor.to, torch.full
    torch.Tensor.to = lambda self, where, *a: self if "cuda" in str(where) else to(self, where, *a)
    torch.full = lambda *a, device=None, **kw: fill(*a, **kw)
    sampler = samplers.DDIMSampler(lambda x, t: toy(x, t)[:, :c], full)
    sampler.make_schedule(30, ddim_eta=0.7)
    count = len(sampler.ddim_timesteps)
    x, visited = torch.from_numpy(start).double(), []
    for index in reversed(range(count)):
        samplers.noise_like = lambda *_: torch.from_numpy(noises[index]).double()
        x, _ = sampler.p_sample_ddim(x, {}, fill((n,), int(sampler.ddim_timesteps[index])), index)
        visited.append(last(x.numpy()))
    golden["ddim.reference"] = np.stack(visited)

    save_file(golden, os.path.join(folder, "diffusion.safetensors"))
    print({key: value.shape for key, value in golden.items()})


main()
