#!/usr/bin/env python3
"""Compares two safetensors files tensor by tensor: compare_tensors.py OURS EXPECTED [LIMIT].

`out` and input gradients by relative L2; the others are taken for weight gradients and held to
|d| / max(|g|, 1e-3 sqrt(n / N) |g of all|). Prints the worst and fails above LIMIT (1e-4) or 1e-5 for `out`."""

import sys

import numpy as np
from safetensors.numpy import load_file

ours, expected = load_file(sys.argv[1]), load_file(sys.argv[2])
limit = float(sys.argv[3]) if len(sys.argv) > 3 else 1e-4
whole = ("out", "x", "full_emb1", "pooled_emb1", "full_emb2")
missing = [name for name in expected if name not in ours]
if missing:
    sys.exit(f"missing: {missing[:8]}")
weights = [name for name in expected if name not in whole]
total = sum(expected[name].size for name in weights)
norm = {name: np.linalg.norm(expected[name].astype(np.float64)) for name in expected}
everything = np.sqrt(sum(norm[name] ** 2 for name in weights))
errors = []
for name in expected:
    difference = np.linalg.norm(ours[name].astype(np.float64) - expected[name])
    floor = 0 if name in whole else 1e-3 * np.sqrt(expected[name].size / total) * everything
    zero = name not in whole and norm[name] < 1e-10 * everything
    errors.append((difference / (1e-3 * everything if zero else max(norm[name], floor)), name, "zero" if zero else ""))
errors.sort(reverse=True)
for error, name, note in errors[:5]:
    print(f"{error:.3e} {name} {note}")
out = next(error for error, name, _ in errors if name == "out")
print(f"out {out:.3e}; {len(errors)} tensors compared")
sys.exit(out > limit / 10 or errors[0][0] > limit)
