#!/usr/bin/env python3
"""Makes samplers.safetensors from a checkout of the public repository ai-forever/Kandinsky-2.

    python make_sampler_goldens.py CHECKOUT [OUT_FOLDER]

needs torch, numpy and safetensors; with diffusers installed it is asked for a second opinion on DPM-Solver++.
The public pipeline itself runs (Kandinsky2.generate_img, generate_img2img, generate_inpainting), with a toy in the
place of its networks and given numbers in the place of its random ones, in float64. Stored is what the network is
given at each evaluation and, last, the result: F32 (evaluations + 1, pictures, 8, 8, 4), channels last.

The toy (tests/model/test_sampler.c repeats it), for channel c of 4 at timestep t with condition y, which is 0 in the
unconditional half, known latent i and mask m (both 0 where the model is not given them):
    eps_c = tanh(0.7 x_c + 0.3 x_((c+1) mod 4) + 0.2 cos(0.01 t) + 0.5 y + 0.4 i_c m + 0.3 m)
    v_c   = sin(1.3 x_c + 0.003 t)

Our own samplers, which differ from these (docs/sampling.md), are held against formulas written here from the papers.
"""

import importlib
import os
import sys
import types

import numpy as np
import torch
from safetensors.numpy import save_file

SIDE, CHANNELS, PICTURES = 8, 4, 2
CONDITIONS = [0.3, -0.8]


def last(tensor):
    """NCHW to NHWC."""
    return np.ascontiguousarray(np.moveaxis(np.asarray(tensor), 1, -1)).astype(np.float32)


class Anything(types.ModuleType):
    """A module whose every name is a class that does nothing."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def import_pipeline(checkout):
    for package, folder in (
        ("kandinsky2", "kandinsky2"), ("kandinsky2.model", "kandinsky2/model"), ("kandinsky2.vqgan", "kandinsky2/vqgan"),
    ):
        module = types.ModuleType(package)
        module.__path__ = [os.path.join(checkout, folder)]
        sys.modules[package] = module
    for absent in (
        "PIL", "PIL.Image", "cv2", "omegaconf", "transformers", "einops", "kandinsky2.model.text_encoders",
        "kandinsky2.model.text2im_model", "kandinsky2.model.text2im_model2_1", "kandinsky2.vqgan.autoencoder",
    ):
        sys.modules[absent] = Anything(absent)
    tqdm = types.ModuleType("tqdm")
    tqdm.tqdm = lambda items, **_: items
    tqdm.auto = tqdm
    sys.modules["tqdm"] = sys.modules["tqdm.auto"] = tqdm
    return [importlib.import_module("kandinsky2." + name) for name in ("kandinsky2_model", "configs", "model.respace",
                                                                       "model.gaussian_diffusion")]


def on_processor_in_float64():
    to, full = torch.Tensor.to, torch.full

    def to_here(self, *where, **more):
        if where and ("cuda" in str(where[0]) or where[0] == torch.float32):
            return self
        return to(self, *where, **more)

    torch.Tensor.to = to_here
    torch.Tensor.float = torch.Tensor.double
    torch.full = lambda *a, device=None, dtype=None, **kw: full(
        *a, dtype=dtype or (torch.float64 if torch.is_tensor(a[1]) or isinstance(a[1], float) else None), **kw)


def toy_eps(x, t, y, known, mask):
    return torch.tanh(0.7 * x + 0.3 * torch.roll(x, -1, dims=1) + 0.2 * torch.cos(0.01 * t) + 0.5 * y
                      + 0.4 * known * mask + 0.3 * mask)


class Toy:
    """In the place of the UNet; keeps what it is given."""

    def __init__(self, pictures):
        self.pictures, self.visited, self.timesteps = pictures, [], []

    def del_cache(self):
        pass

    def __call__(self, x, ts, full_emb1=None, inpaint_image=None, inpaint_mask=None, **_):
        t = ts.to(torch.float64).reshape(-1, 1, 1, 1)
        self.visited.append(last(x[: self.pictures]))
        self.timesteps.append(float(ts.reshape(-1)[0]))
        zero = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
        known, mask = (zero if k is None else k for k in (inpaint_image, inpaint_mask))
        eps = toy_eps(x, t, full_emb1.reshape(-1, 1, 1, 1), known, mask)
        return torch.cat([eps, torch.sin(1.3 * x + 0.003 * t)], dim=1)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder = sys.argv[2] if len(sys.argv) > 2 else os.path.dirname(os.path.abspath(__file__))
    try:  # before others stand in the place of what it imports
        from diffusers import DPMSolverMultistepScheduler
    except ImportError:
        DPMSolverMultistepScheduler = None
    pipeline, configs, respace, gd = import_pipeline(sys.argv[1])
    on_processor_in_float64()
    torch.set_default_dtype(torch.float64)
    draw = np.random.default_rng(11)
    shape = (PICTURES, CHANNELS, SIDE, SIDE)
    numbers = [1.4 * draw.standard_normal(shape).astype(np.float32)] + [
        draw.standard_normal(shape).astype(np.float32) for _ in range(64)]
    numbers = [torch.from_numpy(k.astype(np.float32)).double() for k in numbers]
    known = torch.from_numpy(draw.uniform(-1.6, 1.6, (1, CHANNELS, SIDE, SIDE)).astype(np.float32)).double()
    mask = np.ones((64, 64), dtype=np.float64)  # of the picture: a hole, and a speck
    mask[24:44, 13:40] = 0
    mask[0, 56] = 0
    golden = {"start": last(numbers[0]), "noise": np.stack([last(k) for k in numbers[1:]]), "known": last(known),
              "mask": mask.astype(np.float32)}

    calls = [0]

    def next_numbers(shape):
        """x_T or the noise of img2img, then a step's; both halves of the guided batch get the same."""
        value = numbers[calls[0]]
        calls[0] += 1
        pictures = shape[0] if shape[0] == 1 else shape[0] // 2
        value = value[:pictures]
        return value if shape[0] == 1 else torch.cat([value, value])

    torch.randn = lambda *size, device=None, **_: next_numbers(size[0] if isinstance(size[0], tuple) else size)
    torch.randn_like = lambda x, **_: next_numbers(tuple(x.shape))
    for module in (pipeline, sys.modules["kandinsky2.utils"]):
        module.prepare_image = lambda _: torch.zeros(1, 3, SIDE * 8, SIDE * 8)
    pipeline.process_images = lambda samples: samples

    # The pipeline overwrites the name of its sampler with the sampler before it looks whether to pass ddim_eta on, and
    # so never does: given to the sampler here, which knows what to do with it.
    sample = pipeline.DDIMSampler.sample

    def pipeline_run(name, pictures, task, ddim_eta=0, **options):
        pipeline.DDIMSampler.sample = lambda self, *a, **more: sample(self, *a, **more, eta=ddim_eta)
        p = pipeline.Kandinsky2.__new__(pipeline.Kandinsky2)
        p.config, p.device, p.task_type, p.use_fp16 = configs.CONFIG_2_0, "cpu", task, False
        p.scale, p.use_image_enc = 1, True
        p.tokenizer1 = p.tokenizer2 = p.text_encoder1 = p.text_encoder2 = None
        posterior = types.SimpleNamespace(sample=lambda: known)
        p.image_encoder = types.SimpleNamespace(encode=lambda _: posterior, decode=lambda samples: samples)
        condition = torch.tensor(CONDITIONS[:pictures] + [0.0] * pictures)
        p.encode_text = lambda **_: (condition, None)
        p.model = Toy(pictures)
        calls[0] = 0
        crop = pipeline.Kandinsky2.generate_img
        if task != "text2img":  # which the public code runs at 512 x 512 only
            p.generate_img = types.MethodType(lambda self, **kw: crop(self, **kw, h=SIDE * 8, w=SIDE * 8), p)
        else:
            options |= {"h": SIDE * 8, "w": SIDE * 8}
        run = {"text2img": p.generate_text2img, "img2img": p.generate_img2img, "inpainting": p.generate_inpainting}[task]
        samples = run("", **({"batch_size": pictures} if task == "text2img" else {"pil_img": None}), **options)
        golden[name] = np.stack(p.model.visited + [last(samples[:pictures])])
        golden[name + ".timesteps"] = np.array(p.model.timesteps, dtype=np.float32)

    names = {"ddpm": "p_sampler", "ddim": "ddim_sampler", "plms": "plms_sampler"}
    for name, steps, scale, eta in (
        ("ddpm", 20, 7, 0), ("ddpm", 7, 1, 0), ("ddim", 30, 7, 0.0), ("ddim", 50, 4, 0.05), ("ddim", 12, 1, 1.0),
        ("plms", 25, 7, 0), ("plms", 4, 3, 0), ("plms", 1, 3, 0),
    ):
        pipeline_run(f"text.{name}.{steps}.{scale}.{eta:g}", PICTURES, "text2img", num_steps=steps,
                     guidance_scale=scale, sampler=names[name], ddim_eta=eta)
    for name, steps, strength, eta in (
        ("ddpm", 20, 0.7, 0), ("ddpm", 10, 0.25, 0), ("ddim", 25, 0.7, 0.05), ("ddim", 10, 0.5, 1.0),
        ("plms", 20, 0.35, 0),
    ):
        pipeline_run(f"image.{name}.{steps}.{strength}.{eta:g}", 1, "img2img", num_steps=steps, strength=strength,
                     guidance_scale=5, sampler=names[name], ddim_eta=eta)
    for name, steps, percentile, eta in (("ddpm", 15, 97.0, 0), ("ddim", 12, 99.5, 0.05), ("plms", 10, 99.5, 0)):
        pipeline_run(f"inpaint.{name}.{steps}.{percentile:g}.{eta:g}", 1, "inpainting", img_mask=mask, num_steps=steps,
                     guidance_scale=5, dynamic_threshold_v=percentile, sampler=names[name], ddim_eta=eta)
    latent_mask = pipeline.prepare_mask(torch.from_numpy(mask)[::8, ::8][None, None])
    golden["latent_mask"] = latent_mask[0, 0].numpy().astype(np.float32)

    # ---- ours, from the papers: thresholding and restoring in every sampler, per picture ----
    betas = np.linspace(1e-4, 0.02, 1000)
    bars = np.cumprod(1 - betas)
    y = torch.tensor(CONDITIONS).reshape(-1, 1, 1, 1)

    def make_x0(percentile, restore):
        def x0_of(x, eps, bar):
            x0 = (x - np.sqrt(1 - bar) * eps) / np.sqrt(bar)
            if percentile:
                for k in range(PICTURES):
                    s = max(np.percentile(np.abs(x0[k].numpy()), percentile), 1.0)
                    x0[k] = torch.clip(x0[k], -s, s) / s
            if restore:
                x0 = x0 * (1 - latent_mask) + known * latent_mask
            return x0
        return x0_of

    def evaluate(x, t, restore, visited):
        visited.append(last(x))
        m, i = (latent_mask, known) if restore else (torch.zeros(1), torch.zeros(1))
        t = torch.tensor(float(t))
        uncond, cond = (toy_eps(x, t, k, i, m) for k in (0 * y, y))
        return uncond + 5 * (cond - uncond)

    def keep(name, visited, x, timesteps):
        golden[name] = np.stack(visited + [last(x)])
        golden[name + ".timesteps"] = np.array(timesteps, dtype=np.float32)

    def ddim(name, timesteps, eta, percentile, restore, start=None):
        x, visited, x0_of = numbers[0] if start is None else start, [], make_x0(percentile, restore)
        for k, t in enumerate(timesteps):
            bar, next_bar = bars[t], bars[timesteps[k + 1]] if k + 1 < len(timesteps) else 1.0
            x0 = x0_of(x, evaluate(x, t, restore, visited), bar)
            eps = (x - np.sqrt(bar) * x0) / np.sqrt(1 - bar)
            sigma = eta * np.sqrt((1 - next_bar) / (1 - bar) * (1 - bar / next_bar))
            x = np.sqrt(next_bar) * x0 + np.sqrt(1 - next_bar - sigma**2) * eps + sigma * numbers[1 + k]
        keep(name, visited, x, timesteps)

    def ddpm(name, timesteps, percentile, restore):
        x, visited, x0_of = numbers[0], [], make_x0(percentile, restore)
        d = respace.SpacedDiffusion(use_timesteps=timesteps, betas=betas, model_mean_type=gd.ModelMeanType.EPSILON,
                                    model_var_type=gd.ModelVarType.LEARNED_RANGE, loss_type=gd.LossType.RESCALED_MSE)
        for k, t in enumerate(timesteps):
            step = torch.tensor([len(timesteps) - 1 - k] * PICTURES)
            x0 = x0_of(x, evaluate(x, t, restore, visited), bars[t])
            mean, _, low = d.q_posterior_mean_variance(x0, x, step)
            high = np.log(d.betas[step[0]])
            fraction = (torch.sin(1.3 * x + 0.003 * t) + 1) / 2
            spread = torch.exp(0.5 * (fraction * high + (1 - fraction) * low))
            x = mean + (spread * numbers[1 + k] if step[0] > 0 else 0)
        keep(name, visited, x, timesteps)

    def plms(name, timesteps, percentile, restore):
        x, visited, old, x0_of = numbers[0], [], [], make_x0(percentile, restore)

        def move(x, eps, k):
            bar, next_bar = bars[timesteps[k]], bars[timesteps[k + 1]] if k + 1 < len(timesteps) else 1.0
            x0 = x0_of(x, eps, bar)
            eps = (x - np.sqrt(bar) * x0) / np.sqrt(1 - bar)
            return np.sqrt(next_bar) * x0 + np.sqrt(1 - next_bar) * eps

        for k, t in enumerate(timesteps):
            eps = evaluate(x, t, restore, visited)
            history = [eps] + old[::-1]
            if not old:
                ahead = evaluate(move(x, eps, k), timesteps[min(k + 1, len(timesteps) - 1)], restore, visited)
                mixed = (eps + ahead) / 2
            else:
                weights = {1: [3, -1], 2: [23, -16, 5], 3: [55, -59, 37, -9]}[len(old)]
                mixed = sum(w * e for w, e in zip(weights, history)) / sum(weights)
            x = move(x, mixed, k)
            old = (old + [eps])[-3:]
        keep(name, visited, x, timesteps)

    def dpmpp(name, timesteps, percentile, restore):
        """Lu et al. 2022, algorithm 2; alpha, sigma and lambda as they write them."""
        x, visited, x0_of = numbers[0], [], make_x0(percentile, restore)
        alpha = [np.sqrt(bars[t]) for t in timesteps] + [1.0]
        sigma = [np.sqrt(1 - bars[t]) for t in timesteps] + [0.0]
        lam = [np.log(a / s) if s > 0 else np.inf for a, s in zip(alpha, sigma)]
        before = None
        for k, t in enumerate(timesteps):
            x0 = x0_of(x, evaluate(x, t, restore, visited), bars[t])
            h = lam[k + 1] - lam[k]
            d = x0
            if before is not None and sigma[k + 1] > 0:
                r = (lam[k] - lam[k - 1]) / h
                d = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * before
            x = sigma[k + 1] / sigma[k] * x - alpha[k + 1] * (np.exp(-h) - 1) * d
            before = x0
        keep(name, visited, x, timesteps)
        return x

    even = lambda n: [round(k) for k in np.linspace(0, 999, n)][::-1]

    def quadratic(n):
        """(T - 1) (k / (n - 1))^2, pushed apart to distinct ones."""
        out = []
        for k in range(n):
            t = int(np.rint(999 * (k / (n - 1)) ** 2)) if n > 1 else 999
            out.append(max(t, out[-1] + 1) if out else t)
        return [min(t, 999 - (n - 1 - k)) for k, t in enumerate(out)][::-1]

    for percentile, restore in ((0, False), (97, False), (97, True)):
        kind = f"{percentile}.{'restored' if restore else 'free'}"
        ddpm(f"own.ddpm.15.{kind}", even(15), percentile, restore)
        ddim(f"own.ddim.15.{kind}", even(15), 0.05, percentile, restore)
        plms(f"own.plms.15.{kind}", even(15), percentile, restore)
        dpmpp(f"own.dpm++.15.{kind}", quadratic(15), percentile, restore)
    dpmpp("own.dpm++.50.0.free", quadratic(50), 0, False)
    dpmpp("own.dpm++.2.0.free", quadratic(2), 0, False)
    dpmpp("own.dpm++.1.0.free", quadratic(1), 0, False)
    # img2img: of 20 steps the last (int)(20 * 0.7), from the picture with the first one's noise
    part = even(20)[-int(20 * (1 - 0.3)):]
    bar = bars[part[0]]
    ddim("own.image.ddim.20.0.3", part, 0.0, 97, False, np.sqrt(bar) * known + np.sqrt(1 - bar) * numbers[0])

    if DPMSolverMultistepScheduler is None:
        print("diffusers is not installed: no second opinion on DPM-Solver++")
    else:
        for n in (2, 15, 50):
            timesteps = quadratic(n)
            scheduler = DPMSolverMultistepScheduler(num_train_timesteps=1000, trained_betas=betas, solver_order=2,
                                                    algorithm_type="dpmsolver++", final_sigmas_type="zero")
            scheduler.set_timesteps(n)
            sigmas = [np.sqrt((1 - bars[t]) / bars[t]) for t in timesteps]
            scheduler.sigmas, scheduler.timesteps = torch.tensor(sigmas + [0.0]), torch.tensor(timesteps)
            x, rest = numbers[0], []
            for t in timesteps:
                x = scheduler.step(evaluate(x, t, False, rest), t, x).prev_sample
            ours = dpmpp("once more", timesteps, 0, False)
            del golden["once more"], golden["once more.timesteps"]
            print(f"diffusers' DPMSolverMultistepScheduler, {n} steps: differs by {(x - ours).abs().max():.1e}")

    save_file(golden, os.path.join(folder, "samplers.safetensors"))
    print({key: value.shape for key, value in golden.items()})


main()
