#!/usr/bin/env python3
"""Writes tests/goldens/optim_goldens.h: schedules, and AdamW with clipping and EMA on a toy, by PyTorch in float64.

The toy: COUNT weights p_i, from cos(i), with the gradient at step k
    g_i = A_i (p_i - B_i) + 0.5 sin(0.37 k + i),  A_i = 0.1 + (i mod 7) / 5,  B_i = sin(3 i)
which never dies out, so that a wrong beta or bias correction shows to the end.

    python3 tests/goldens/make_optim_goldens.py
"""

import math
import pathlib

import torch

COUNT = 37
MARKS = (1, 2, 10, 100, 500, 1000)


def one_cycle(optimizer, total, pct, cycle, max_lr=1e-4, div=25.0, final=1e4, base=0.85, top=0.95):
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=max_lr, total_steps=total, pct_start=pct, anneal_strategy="cos", cycle_momentum=cycle,
        base_momentum=base, max_momentum=top, div_factor=div, final_div_factor=final)


def schedule(total, pct, cycle):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = one_cycle(optimizer, total, pct, cycle)
    shown = set(range(min(total, 12))) | {total - 1, total // 2, total // 3, max(total - 2, 0)}
    rows = []
    for k in range(total):
        if k in shown:
            group = optimizer.param_groups[0]
            rows.append((k, float(group["lr"]), float(group["betas"][0])))
        optimizer.step()
        if k + 1 < total:
            scheduler.step()
    return rows


def toy(total, pct, cycle, max_lr, clip, decay, warmup):
    index = torch.arange(COUNT, dtype=torch.float64)
    p = torch.nn.Parameter(torch.cos(index).float().double())
    a = 0.1 + (index % 7) / 5
    b = torch.sin(3 * index)
    optimizer = torch.optim.AdamW([p], lr=1.0, weight_decay=0.01)
    scheduler = one_cycle(optimizer, total, pct, cycle, max_lr=max_lr)
    ema = p.detach().clone()
    snapshots = []
    for k in range(total):
        p.grad = a * (p.detach() - b) + 0.5 * torch.sin(0.37 * k + index)
        norm = torch.nn.utils.clip_grad_norm_([p], clip if clip > 0 else math.inf)
        optimizer.step()
        if k + 1 < total:
            scheduler.step()
        n = k + 1
        d = min(decay, (1 + n) / (10 + n)) if warmup else decay
        ema = d * ema + (1 - d) * p.detach()
        if n in MARKS:
            snapshots.append((n, float(norm), p.detach().tolist(), ema.tolist()))
    return snapshots


def numbers(values):
    return ", ".join(f"{v:.17g}" for v in values)


def main():
    out = ["/* Written by make_optim_goldens.py with PyTorch; do not edit. */", "/* clang-format off */",
           "#ifndef OPTIM_GOLDENS_H", "#define OPTIM_GOLDENS_H", "", f"#define GOLDEN_COUNT {COUNT}", "",
           "typedef struct GoldenSchedule {", "    int total;", "    double pct_start;", "    int cycle;", "    int step;",
           "    double lr, beta1;", "} GoldenSchedule;", "", "static const GoldenSchedule GOLDEN_SCHEDULES[] = {"]
    cases = ((500, 0.01, True), (1000, 0.01, True), (1000, 0.3, True), (97, 0.25, True), (97, 0.25, False),
             (30, 0.01, True), (7, 0.5, True), (3, 0.9, True), (2, 0.01, True), (1, 0.3, True))
    for total, pct, cycle in cases:
        for k, lr, beta1 in schedule(total, pct, cycle):
            out.append(f"    {{{total}, {pct}, {int(cycle)}, {k}, {lr:.17g}, {beta1:.17g}}},")
    out += ["};", "", "typedef struct GoldenToy {", "    int total;", "    double pct_start, max_lr, clip, ema_decay;",
            "    int cycle, ema_warmup;", "    int step; /* after so many updates */",
            "    double norm; /* of that update's gradient */", "    double weights[GOLDEN_COUNT];",
            "    double ema[GOLDEN_COUNT];", "} GoldenToy;", "", "static const GoldenToy GOLDEN_TOYS[] = {"]
    for total, pct, cycle, max_lr, clip, decay, warmup in (
            (1000, 0.01, True, 1e-2, 1.0, 0.9999, True), (1000, 0.3, True, 1e-4, 0.0, 0.99, False),
            (100, 0.25, False, 1e-2, 0.1, 0.999, True)):
        for n, norm, weights, ema in toy(total, pct, cycle, max_lr, clip, decay, warmup):
            settings = f"{total}, {pct}, {max_lr}, {clip}, {decay}, {int(cycle)}, {int(warmup)}"
            out.append(f"    {{{settings}, {n}, {norm:.17g},")
            out.append(f"     {{{numbers(weights)}}},")
            out.append(f"     {{{numbers(ema)}}}}},")
    out += ["};", "", "#endif", ""]
    pathlib.Path(__file__).with_name("optim_goldens.h").write_text("\n".join(out))


if __name__ == "__main__":
    main()
