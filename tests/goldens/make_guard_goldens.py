#!/usr/bin/env python3
"""Writes tests/goldens/guard_goldens.h: mean squared errors and gradient norms of a real run (launch/demo), as its metrics.jsonl has
them, and the guard's z of some steps, by Python's statistics module: the distance of the logarithm from the median of
the 200 before, over 1.4826 times the median distance from it, at least 0.01.

    python3 tests/goldens/make_guard_goldens.py demo/run/metrics.jsonl
"""

import json
import math
import pathlib
import statistics
import sys

WINDOW, LEAST = 200, 0.01
NORMAL = 1 / statistics.NormalDist().inv_cdf(0.75)


def z(values, at):
    window = [math.log(v) for v in values[max(0, at - WINDOW):at]]
    middle = statistics.median(window)
    spread = NORMAL * statistics.median(abs(v - middle) for v in window)
    return (math.log(values[at]) - middle) / max(spread, LEAST)


def main():
    steps = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
    steps = steps[-700:]  # as many as keep the file small: the end, where z is highest
    run = [(float(f"{s['mse']:.6g}"), float(f"{s['grad_norm']:.6g}")) for s in steps]
    losses, norms = [r[0] for r in run], [r[1] for r in run]
    out = ["/* Written by make_guard_goldens.py; do not edit. */", "/* clang-format off */", "#ifndef GUARD_GOLDENS_H",
           "#define GUARD_GOLDENS_H", "", f"#define GUARD_STEPS {len(run)}",
           "static const double GUARD_RUN[GUARD_STEPS][2] = { /* mse, gradient norm */"]
    for i in range(0, len(run), 5):
        out.append("    " + " ".join(f"{{{a:.6g}, {b:.6g}}}," for a, b in run[i:i + 5]))
    checks = [100, 101, 102, 150, 199, 200, 201, 333, 500, len(run) - 1]
    out += ["};", "", f"#define GUARD_CHECKS {len(checks)}", "static const struct {", "    int step; /* from 0 */",
            "    double loss_z, norm_z;", "} GUARD_CHECK[GUARD_CHECKS] = {"]
    out += [f"    {{{at}, {z(losses, at):.17g}, {z(norms, at):.17g}}}," for at in checks]
    out += ["};", "", "#endif", ""]
    pathlib.Path(__file__).with_name("guard_goldens.h").write_text("\n".join(out))


if __name__ == "__main__":
    main()
