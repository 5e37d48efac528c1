#!/usr/bin/env python3
"""Writes tests/goldens/param_group_goldens.h: AdamW with parameter groups, clipping and EMA, by PyTorch in float64.

Four parameters of a toy, one behind the other, with weights cos(i) of the element i of all and, at step k, the gradient
of make_optim_goldens.py. The first is held: it has no gradient and is no part of the norm. The others have a learning
rate and a weight decay of their own, through the param groups of torch.optim.AdamW and the max_lr list of OneCycleLR.

    python3 tests/goldens/make_param_group_goldens.py
"""

import pathlib

import torch

from make_optim_goldens import numbers

SIZES = (21, 37, 5, 50)  # held, lr x 0.1 and decay x 20, as all, lr x 3 and no decay
FACTORS = (None, (0.1, 20.0), (1.0, 1.0), (3.0, 0.0))
TOTAL, MAX_LR, DECAY, CLIP, EMA = 200, 1e-2, 0.05, 0.7, 0.99
MARKS = (1, 2, 10, 100, 200)


def toy():
    index = torch.arange(sum(SIZES), dtype=torch.float64)
    a, b = 0.1 + (index % 7) / 5, torch.sin(3 * index)
    parts = [torch.nn.Parameter(x) for x in torch.split(torch.cos(index).float().double(), SIZES)]
    trained = [p for p, f in zip(parts, FACTORS) if f]
    factors = [f for f in FACTORS if f]
    optimizer = torch.optim.AdamW(
        [{"params": [p], "weight_decay": DECAY * f[1]} for p, f in zip(trained, factors)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=[MAX_LR * f[0] for f in factors], total_steps=TOTAL, pct_start=0.25, anneal_strategy="cos",
        base_momentum=0.85, max_momentum=0.95, div_factor=25.0, final_div_factor=1e4)
    ema = torch.cat([p.detach() for p in parts]).clone()
    rows = []
    for k in range(TOTAL):
        now = torch.cat([p.detach() for p in parts])
        grad = a * (now - b) + 0.5 * torch.sin(0.37 * k + index)
        for p, g, f in zip(parts, torch.split(grad, SIZES), FACTORS):
            p.grad = g.clone() if f else None
        norm = torch.nn.utils.clip_grad_norm_(parts, CLIP)
        optimizer.step()
        if k + 1 < TOTAL:
            scheduler.step()
        now = torch.cat([p.detach() for p in parts])
        ema = EMA * ema + (1 - EMA) * now
        if k + 1 in MARKS:
            rows.append((k + 1, float(norm), now.tolist(), ema.tolist()))
    return rows


def main():
    count = sum(SIZES)
    out = ["/* Written by make_param_group_goldens.py with PyTorch; do not edit. */", "/* clang-format off */",
           "#ifndef PARAM_GROUP_GOLDENS_H", "#define PARAM_GROUP_GOLDENS_H", "", f"#define GROUP_COUNT {count}",
           f"#define GROUP_TOTAL {TOTAL}", "", "typedef struct GoldenGroups {",
           "    int step; /* after so many updates */", "    double norm; /* of that update's gradient */",
           "    double weights[GROUP_COUNT];", "    double ema[GROUP_COUNT];", "} GoldenGroups;", "",
           "static const GoldenGroups GOLDEN_GROUPS[] = {"]
    for step, norm, weights, ema in toy():
        out += [f"    {{{step}, {norm:.17g},", f"     {{{numbers(weights)}}},", f"     {{{numbers(ema)}}}}},"]
    out += ["};", "", "#endif", ""]
    pathlib.Path(__file__).with_name("param_group_goldens.h").write_text("\n".join(out))


if __name__ == "__main__":
    main()
