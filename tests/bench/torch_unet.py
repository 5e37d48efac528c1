#!/usr/bin/env python3
"""Times one training step of a config's UNet in PyTorch and in Vasily, in turn, on this machine.

    tests/bench/torch_unet.py [--config configs/bench-15m.yaml] [--vasily build/release/vasily] [--rounds 3]
                              [--threads N] [--precision bf16,f32] [--steps 3]

The PyTorch side is the same network (this file's own modules, written from the architecture that docs/ describes), the
same hybrid loss, gradient clipping, fused AdamW and EMA, channels-last, bf16 under autocast or plain fp32. The two run
alternately, so that a machine whose speed drifts treats both alike; the ratio of the medians is what counts.

Needs torch and pyyaml from PyPI; Vasily itself needs neither.
"""
import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
import yaml


def time_features(t, channels):
    half = channels // 2
    freq = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32) / half)
    angle = t[:, None].float() * freq[None]
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class Residual(nn.Module):
    """GroupNorm-SiLU-conv twice, modulated by the time embedding; resamples where asked."""

    def __init__(self, cin, cout, cemb, resample=None):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(32, cin), nn.Conv2d(cin, cout, 3, padding=1)
        self.emb = nn.Linear(cemb, 2 * cout)
        self.norm2, self.conv2 = nn.GroupNorm(32, cout), nn.Conv2d(cout, cout, 3, padding=1)
        self.skip = nn.Identity() if cin == cout else nn.Conv2d(cin, cout, 1)
        self.resample = {None: nn.Identity(), "up": nn.Upsample(scale_factor=2), "down": nn.AvgPool2d(2)}[resample]

    def forward(self, x, emb, context):
        h = self.conv1(self.resample(F.silu(self.norm1(x))))
        scale, shift = self.emb(F.silu(emb))[:, :, None, None].chunk(2, dim=1)
        h = self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))
        return self.skip(self.resample(x)) + h


class Attention(nn.Module):
    """Image rows attend to [text ; image] rows."""

    def __init__(self, channels, head, ccontext):
        super().__init__()
        self.heads, self.head = channels // head, head
        self.norm = nn.GroupNorm(32, channels)
        self.qkv, self.kv = nn.Linear(channels, 3 * channels), nn.Linear(ccontext, 2 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x, emb, context):
        n, c, height, width = x.shape
        rows = self.norm(x).permute(0, 2, 3, 1).reshape(n, height * width, c)
        q, k, v = self.qkv(rows).view(n, -1, self.heads, 3, self.head).permute(3, 0, 2, 1, 4)
        ck, cv = self.kv(context).view(n, -1, self.heads, 2, self.head).permute(3, 0, 2, 1, 4)
        a = F.scaled_dot_product_attention(q, torch.cat([ck, k], 2), torch.cat([cv, v], 2))
        a = self.out(a.transpose(1, 2).reshape(n, -1, c))
        return x + a.view(n, height, width, c).permute(0, 3, 1, 2)


class Pooling(nn.Module):
    """Attention pooling: the first row attends to all rows."""

    def __init__(self, heads, cin, cout):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(cin, cin), nn.Linear(cin, cin), nn.Linear(cin, cin),
                                            nn.Linear(cin, cout))

    def forward(self, x):
        n, rows, c = x.shape
        split = lambda y: y.view(n, -1, self.heads, c // self.heads).transpose(1, 2)
        a = F.scaled_dot_product_attention(split(self.q(x[:, :1])), split(self.k(x)), split(self.v(x)))
        return self.out(a.transpose(1, 2).reshape(n, c))


class Unet(nn.Module):
    def __init__(self, m):
        super().__init__()
        c0, emb, ctx = m["channels"], 4 * m["channels"], m["context_dim"]
        levels, head = m["attention_levels"], m["head_channels"]
        self.c0 = c0
        self.time = nn.Sequential(nn.Linear(c0, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.text1, self.text2 = nn.Linear(m["text1_dim"], ctx), nn.Linear(m["text2_dim"], ctx)
        self.pooled, self.pool2 = nn.Linear(m["pooled_dim"], emb), Pooling(8, m["text2_dim"], emb)
        self.ln1, self.ln2, self.ln3 = nn.LayerNorm(ctx), nn.LayerNorm(emb), nn.LayerNorm(emb)
        self.first = nn.Conv2d(m["in_channels"], c0, 3, padding=1)
        self.down, self.up, self.skips = nn.ModuleList(), nn.ModuleList(), [c0]
        c, ds = c0, 1
        for level, mult in enumerate(m["channel_mult"]):
            for _ in range(m["res_blocks"]):
                block = [Residual(c, c0 * mult, emb)]
                c = c0 * mult
                if ds in levels:
                    block.append(Attention(c, head, ctx))
                self.down.append(nn.ModuleList(block))
                self.skips.append(c)
            if level + 1 < len(m["channel_mult"]):
                self.down.append(nn.ModuleList([Residual(c, c, emb, "down")]))
                self.skips.append(c)
                ds *= 2
        self.middle = nn.ModuleList([Residual(c, c, emb), Attention(c, head, ctx), Residual(c, c, emb)])
        skips = list(self.skips)
        for level, mult in reversed(list(enumerate(m["channel_mult"]))):
            for i in range(m["res_blocks"] + 1):
                block = [Residual(c + skips.pop(), c0 * mult, emb)]
                c = c0 * mult
                if ds in levels:
                    block.append(Attention(c, head, ctx))
                if level > 0 and i == m["res_blocks"]:
                    block.append(Residual(c, c, emb, "up"))
                    ds //= 2
                self.up.append(nn.ModuleList(block))
        self.norm, self.last = nn.GroupNorm(32, c), nn.Conv2d(c, m["out_channels"], 3, padding=1)

    def forward(self, x, t, full1, pooled1, full2):
        emb = self.time(time_features(t, self.c0)) + self.ln2(self.pooled(pooled1)) + self.ln3(self.pool2(full2))
        context = self.ln1(torch.cat([self.text1(full1), self.text2(full2)], dim=1))
        h = self.first(x)
        stack = [h]
        for block in self.down:
            for layer in block:
                h = layer(h, emb, context)
            stack.append(h)
        for layer in self.middle:
            h = layer(h, emb, context)
        for block in self.up:
            h = torch.cat([h, stack.pop()], dim=1)
            for layer in block:
                h = layer(h, emb, context)
        return self.last(F.silu(self.norm(h))).float()


class Diffusion:
    """Linear betas; eps MSE plus the variational bound of a learned-range variance."""

    def __init__(self, steps=1000):
        beta = torch.linspace(0.0001, 0.02, steps, dtype=torch.float64)
        bar = torch.cumprod(1 - beta, 0)
        prev = torch.cat([torch.ones(1, dtype=torch.float64), bar[:-1]])
        variance = beta * (1 - prev) / (1 - bar)
        f = lambda v: v.float()
        self.bar, self.log_beta = f(bar), f(beta.log())
        self.log_var = f(torch.cat([variance[1:2], variance[1:]]).log())
        self.c0, self.ct = f(beta * prev.sqrt() / (1 - bar)), f((1 - prev) * (1 - beta).sqrt() / (1 - bar))

    def loss(self, out, x0, xt, noise, t):
        at = lambda v: v[t][:, None, None, None]
        eps, frac = out.chunk(2, dim=1)
        mse = (eps - noise).square().mean(dim=(1, 2, 3))
        logvar = (frac + 1) / 2 * at(self.log_beta) + (1 - (frac + 1) / 2) * at(self.log_var)
        guess = (xt - (1 - at(self.bar)).sqrt() * eps.detach()) / at(self.bar).sqrt()
        delta = at(self.c0) * (x0 - guess)
        kl = 0.5 * (-1 + logvar - at(self.log_var) + (at(self.log_var) - logvar).exp() + delta**2 * (-logvar).exp())
        return (mse + kl.mean(dim=(1, 2, 3)) / math.log(2)).mean()


class TorchStep:
    def __init__(self, config, precision):
        m = config["model"]
        self.net = Unet(m).to(memory_format=torch.channels_last)
        self.ema = [p.detach().clone() for p in self.net.parameters()]
        self.batch = config["train"]["global_batch"]
        side = config["train"]["resolution"] // m["autoencoder"]["factor"]
        n, self.precision, self.diffusion = self.batch, precision, Diffusion()
        self.x0 = torch.randn(n, m["in_channels"], side, side).to(memory_format=torch.channels_last)
        rows = m["max_tokens"]
        self.text = (torch.randn(n, rows, m["text1_dim"]), torch.randn(n, m["pooled_dim"]),
                     torch.randn(n, rows, m["text2_dim"]))
        self.optim = torch.optim.AdamW(self.net.parameters(), lr=1e-4, fused=True)

    def parameters(self):
        return sum(p.numel() for p in self.net.parameters())

    def run(self):
        t = torch.randint(0, 1000, (self.batch,))
        noise = torch.randn_like(self.x0)
        bar = self.diffusion.bar[t][:, None, None, None]
        xt = bar.sqrt() * self.x0 + (1 - bar).sqrt() * noise
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            out = self.net(xt, t, *self.text)
        self.diffusion.loss(out, self.x0, xt, noise, t).backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optim.step()
        self.optim.zero_grad(set_to_none=False)
        torch._foreach_lerp_(self.ema, [p.detach() for p in self.net.parameters()], 1e-4)


def time_torch(step, steps):
    begin = time.perf_counter()
    for _ in range(steps):
        step.run()
    return steps * step.batch / (time.perf_counter() - begin)


def time_vasily(args, precision):
    command = [args.vasily, "bench", "step", args.config, "--steps", str(args.steps), "--json",
               f"model.precision={precision}", f"device.threads={args.threads}"]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(result.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/bench-15m.yaml")
    parser.add_argument("--vasily", default="build/release/vasily")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="steps of each side in a round")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--precision", default="bf16,f32")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = yaml.safe_load(open(args.config))
    print(f"torch {torch.__version__}, {args.threads} threads, {args.config}")
    for precision in args.precision.split(","):
        step = TorchStep(config, precision)
        for _ in range(2):
            step.run()
        ours, theirs = [], []
        for _ in range(args.rounds):
            theirs.append(time_torch(step, args.steps))
            report = time_vasily(args, precision)
            ours.append(report["images_per_second"])
        if report.get("parameters") not in (None, step.parameters()):
            sys.exit(f"not the same network: {step.parameters()} parameters here, {report['parameters']} in Vasily")
        ratio = [a / b for a, b in zip(ours, theirs)]
        print(f"{precision:5s} {step.parameters() / 1e6:.2f} M  torch {statistics.median(theirs):7.2f} images/s   "
              f"vasily {statistics.median(ours):7.2f} images/s   ratio {statistics.median(ratio):.2f} "
              f"(rounds {', '.join(f'{r:.2f}' for r in ratio)})   share of peak {report['share_of_peak']:.3f}")


if __name__ == "__main__":
    main()
