#!/usr/bin/env python3
"""How near few steps come to the exact solution, by the spacing of their timesteps. Needs numpy.

Data is a mixture of Gaussians, whose best x0 is known; the exact solution is DPM-Solver++(2M) with 8000 steps. Prints
the median over 256 trajectories of |x - exact| / |exact|, in percent, as docs/sampling.md has it."""

import numpy as np

T, DIMENSIONS, TRAJECTORIES = 1000, 64, 256
BARS = np.cumprod(1 - np.linspace(1e-4, 0.02, T))
LOG_SNR = 0.5 * np.log(BARS / (1 - BARS))
draw = np.random.default_rng(0)
draw.standard_normal((64, DIMENSIONS))
spectrum = 1 / np.arange(1, DIMENSIONS + 1)
spectrum *= 0.4 / np.sqrt((spectrum**2).mean())
means = draw.standard_normal((8, DIMENSIONS)) * spectrum * 0.7
variance = (0.7 * spectrum) ** 2


def x0_of(x, bar, means):
    alpha, spread = np.sqrt(bar), bar * variance + 1 - bar
    log_weight = -((x[:, None] - alpha * means) ** 2 / spread / 2).sum(-1)
    weight = np.exp(log_weight - log_weight.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    mean = weight @ means
    return mean + alpha * variance / spread * (x - alpha * mean)


def guided(scale):
    return lambda x, bar: (1 - scale) * x0_of(x, bar, means) + scale * x0_of(x, bar, means[:1])


def dpm(network, x, bars):
    before = step_before = None
    for bar, following in zip(bars, list(bars[1:]) + [None]):
        x0 = network(x, bar)
        if following is None:
            return x0
        step = 0.5 * np.log(following / (1 - following)) - 0.5 * np.log(bar / (1 - bar))
        mixed = x0 if before is None else x0 + (x0 - before) * step / (2 * step_before)
        x = np.sqrt((1 - following) / (1 - bar)) * x - np.sqrt(following) * np.expm1(-step) * mixed
        before, step_before = x0, step


def ddim(network, x, bars):
    for bar, following in zip(bars, list(bars[1:]) + [1.0]):
        x0 = network(x, bar)
        x = np.sqrt(following) * x0 + np.sqrt(1 - following) * (x - np.sqrt(bar) * x0) / np.sqrt(1 - bar)
    return x


def distinct(timesteps):
    out = []
    for t in np.rint(timesteps).astype(int):
        out.append(max(t, out[-1] + 1) if out else t)
    return [min(t, T - len(out) + k) for k, t in enumerate(out)]


def spacing(kind, n):
    part = np.linspace(0, 1, n)
    if kind == "even":
        t = (T - 1) * part
    elif kind == "quadratic":
        t = (T - 1) * part**2
    else:
        ends = np.exp(-LOG_SNR[[0, -1]])
        sigma = (ends[0] ** (1 / 7) * (1 - part) + part * ends[1] ** (1 / 7)) ** 7
        at = np.log(sigma) if kind == "karras" else -np.linspace(LOG_SNR[0], LOG_SNR[-1], n)
        t = np.interp(at, -LOG_SNR, np.arange(T))
    return BARS[distinct(t)[::-1]]


start = draw.standard_normal((TRAJECTORIES, DIMENSIONS))
fine = np.exp(np.interp(np.linspace(T - 1, 0, 8000), np.arange(T), np.log(BARS)))
for title, scale in (("spectrum", 0), ("guided 4", 4), ("guided 7", 7)):
    network = guided(scale)
    exact = dpm(network, start, fine)
    for n in (10, 20):
        for sampler, kind in ((ddim, "even"), (dpm, "even"), (dpm, "log snr"), (dpm, "karras"), (dpm, "quadratic")):
            off = np.linalg.norm(sampler(network, start, spacing(kind, n)) - exact, axis=1)
            share = 100 * np.median(off / np.linalg.norm(exact, axis=1))
            print(f"{title}, {n} steps, {sampler.__name__} {kind}: {share:.1f}")
