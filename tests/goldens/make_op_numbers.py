#!/usr/bin/env python3
"""Writes tests/engine/op_numbers.h: what PyTorch computes in float64 for the ops whose formulas are easiest to get
wrong. Inputs are waves that the C test makes again, so only results are stored. Needs transformers too.

    python3 tests/goldens/make_op_numbers.py > tests/engine/op_numbers.h
"""
import math

import numpy as np
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)


def wave(k, *shape):
    """Leaf number k: 1.3 sin(0.9 i (1 + 0.13 k) + k), rounded to float32."""
    i = np.arange(math.prod(shape), dtype=np.float64)
    values = (1.3 * np.sin(0.9 * i * (1 + 0.13 * k) + k)).astype(np.float32).astype(np.float64)
    return torch.tensor(values).reshape(shape).requires_grad_()


def emit(name, tensor):
    values = tensor.detach().contiguous().reshape(-1).tolist()
    print(f"static const double {name}[{len(values)}] = {{")
    for first in range(0, len(values), 6):
        print("    " + ", ".join(f"{v:.9e}" for v in values[first : first + 6]) + ",")
    print("};")


def gradients(name, y, seed, leaves):
    for k, grad in enumerate(torch.autograd.grad((y * seed.detach()).sum(), leaves)):
        emit(f"{name}_grad{k}", grad)


def conv():
    x, w, b, seed = wave(0, 2, 4, 6, 3), wave(1, 5, 3, 3, 3), wave(2, 5), wave(3, 2, 2, 3, 5)
    padded = F.pad(x.permute(0, 3, 1, 2), (0, 1, 0, 1))
    y = F.conv2d(padded, w.permute(0, 3, 1, 2), b, stride=2).permute(0, 2, 3, 1)
    emit("conv_y", y)
    gradients("conv", y, seed, [x, w, b])


def group_norm():
    n, h, w, c, groups = 2, 2, 3, 6, 3
    x, scale_shift, gamma, beta, seed = wave(0, n, h, w, c), wave(1, n, 2 * c), wave(2, c), wave(3, c), wave(4, n, h, w, c)
    v = F.group_norm(x.permute(0, 3, 1, 2), groups, gamma, beta, eps=1e-5).permute(0, 2, 3, 1)
    scale, shift = scale_shift[:, None, None, :c], scale_shift[:, None, None, c:]
    y = F.silu(v * (1 + scale) + shift)
    emit("group_norm_y", y)
    gradients("group_norm", y, seed, [x, scale_shift, gamma, beta])


def layer_norm():
    x, gamma, beta, seed = wave(0, 3, 5), wave(1, 5), wave(2, 5), wave(3, 3, 5)
    y = F.layer_norm(x, (5,), gamma, beta, eps=1e-5)
    emit("layer_norm_y", y)
    gradients("layer_norm", y, seed, [x, gamma, beta])


def rms_norm():
    x, gamma = wave(0, 3, 5), wave(1, 5)
    emit("rms_norm_y", F.rms_norm(x * 0.01, (5,), gamma, eps=1e-4))


def attention():
    n, t, s, heads, d = 2, 3, 2, 2, 4
    qkv, context, seed = wave(0, n, t, 3 * heads * d), wave(1, n, s, 2 * heads * d), wave(2, n, t, heads * d)
    q, k, v = qkv.reshape(n, t, heads, 3, d).permute(3, 0, 2, 1, 4)
    context_k, context_v = context.reshape(n, s, heads, 2, d).permute(3, 0, 2, 1, 4)
    k, v = torch.cat([context_k, k], 2), torch.cat([context_v, v], 2)
    scores = q @ k.transpose(-1, -2) / math.sqrt(d)
    y = (scores.softmax(-1) @ v).permute(0, 2, 1, 3).reshape(n, t, heads * d)
    emit("attention_y", y)
    emit("attention_lse", scores.logsumexp(-1))
    gradients("attention", y, seed, [qkv, context])


def attention_masked():
    n, t, s, heads, d = 2, 3, 4, 2, 4
    qkv, context, seed = wave(0, n, t, 3 * heads * d), wave(1, n, s, 2 * heads * d), wave(2, n, t, heads * d)
    mask = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0]], dtype=torch.bool)
    mask = torch.cat([mask, torch.ones(n, t, dtype=torch.bool)], 1)[:, None, None]
    q, k, v = qkv.reshape(n, t, heads, 3, d).permute(3, 0, 2, 1, 4)
    context_k, context_v = context.reshape(n, s, heads, 2, d).permute(3, 0, 2, 1, 4)
    y = F.scaled_dot_product_attention(q, torch.cat([context_k, k], 2), torch.cat([context_v, v], 2), mask)
    y = y.transpose(1, 2).reshape(n, t, heads * d)
    emit("attention_masked_y", y)
    gradients("attention_masked", y, seed, [qkv, context])


def cross_attention_masked():
    """The second sample sees no key: its rows are zeros and have no gradient."""
    n, t, s, heads, d = 2, 3, 5, 2, 4
    q, k, v, seed = wave(0, n, t, heads * d), wave(1, n, s, heads * d), wave(2, n, s, heads * d), wave(3, n, t, heads * d)
    keep = torch.tensor([0, 2, 3])
    qh, kh, vh = (a.reshape(n, -1, heads, d).transpose(1, 2) for a in (q, k, v))
    y = F.scaled_dot_product_attention(qh[:1], kh[:1, :, keep], vh[:1, :, keep])
    y = torch.cat([y, torch.zeros_like(y)]).transpose(1, 2).reshape(n, t, heads * d)
    emit("cross_attention_masked_y", y)
    gradients("cross_attention_masked", y, seed, [q, k, v])


def cross_attention():
    n, t, s, heads, d = 2, 3, 5, 2, 4
    q, k, v, seed = wave(0, n, t, heads * d), wave(1, n, s, heads * d), wave(2, n, s, heads * d), wave(3, n, t, heads * d)
    qh, kh, vh = (a.reshape(n, -1, heads, d).transpose(1, 2) for a in (q, k, v))
    y = (0.6 * qh @ kh.transpose(-1, -2)).softmax(-1) @ vh
    y = y.transpose(1, 2).reshape(n, t, heads * d)
    emit("cross_attention_y", y)
    gradients("cross_attention", y, seed, [q, k, v])


def masked_attention():
    n, t, s, heads, d = 2, 3, 5, 2, 4
    q, k, v, bias = wave(0, n, t, heads * d), wave(1, n, s, heads * d), wave(2, n, s, heads * d), wave(3, heads, t, s)
    mask = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)
    qh, kh, vh = (a.reshape(n, -1, heads, d).transpose(1, 2) for a in (q, k, v))
    scores = qh @ kh.transpose(-1, -2) / math.sqrt(d) + bias
    scores = scores.masked_fill(~mask[:, None, None, :], -math.inf)
    y = torch.nan_to_num(scores.softmax(-1), nan=0.0) @ vh  # no key to look at: zeros
    emit("masked_attention_y", y.transpose(1, 2).reshape(n, t, heads * d))


def multiply():
    a, b, seed = wave(0, 2, 8), wave(1, 2, 8), wave(2, 2, 8)
    y = a * b * a
    emit("multiply_y", y)
    gradients("multiply", y, seed, [a, b])


def round_values():
    """Waves times powers of two from below the smallest subnormal of half precision to above the largest finite."""
    scale = 2.0 ** (torch.arange(200) % 50 - 28)
    x = wave(0, 200).detach() * scale
    emit("round_f16", x.float().half().double().nan_to_num(posinf=1e30, neginf=-1e30))
    emit("round_bf16", x.float().bfloat16().double())


def position_ids():
    ids = torch.tensor([[5, 1, 7, 7, 1, 1, 9], [1, 1, 1, 1, 1, 1, 1], [0, 2, 3, 4, 5, 6, 1]])
    real = ids.ne(1).int()
    emit("position_ids_y", (real.cumsum(1) * real + 1).double())


def relative_buckets():
    """The bucket of each distance -149..149 (32 buckets up to 128), and -29..29 (6 up to 20)."""
    from transformers.models.mt5.modeling_mt5 import MT5Attention
    for rows, buckets, distance in ((150, 32, 128), (30, 6, 20)):
        found = MT5Attention._relative_position_bucket(torch.arange(1 - rows, rows), True, buckets, distance)
        emit(f"relative_buckets_{buckets}", found.double())


def posterior_sample():
    moments, noise = wave(0, 2, 2, 3, 8), wave(1, 2, 2, 3, 4)
    mean, log_variance = moments[..., :4], moments[..., 4:] * 30 - 5
    y = 0.0512 * (mean + (0.5 * log_variance.clamp(-30, 20)).exp() * noise)
    emit("posterior_sample_y", y)
    emit("posterior_mean_y", 0.0512 * mean)


def activations():
    x, seed = wave(0, 2, 8), wave(1, 2, 8)
    for name, y in (("silu", F.silu(x)), ("gelu", F.gelu(x)), ("gelu_tanh", F.gelu(x, approximate="tanh"))):
        emit(f"{name}_y", y)
        gradients(name, y, seed, [x])


def schedule():
    """The table of engine/ops.h for 1000 linear betas, rounded to float32 as the engine has it."""
    betas = np.linspace(1e-4, 0.02, 1000)
    bar = np.cumprod(1 - betas)
    before = np.append(1.0, bar[:-1])
    variance = betas * (1 - before) / (1 - bar)
    log_posterior = np.log(np.append(variance[1], variance[1:]))
    columns = [np.sqrt(bar), np.sqrt(1 - bar), betas * np.sqrt(before) / (1 - bar),
               (1 - before) * np.sqrt(1 - betas) / (1 - bar), log_posterior, np.log(betas), np.sqrt(1 / bar),
               np.sqrt(1 / bar - 1)]
    return torch.tensor(np.stack(columns, 1).astype(np.float32).astype(np.float64))


def diffusion_loss():
    """Nichol & Dhariwal 2021: eps-prediction, learned range, the mean frozen inside the bound."""
    n, h, w, c, loss_scale, vb_weight = 4, 2, 2, 3, 0.25, 0.75
    t = torch.tensor([0, 1, 700, 999])
    out, x0, noise = wave(0, n, h, w, 2 * c), wave(1, n, h, w, c).clamp(-1, 1), wave(2, n, h, w, c)
    x0, noise = x0.detach(), noise.detach()
    table = schedule()
    rows = [table[t, k].reshape(n, 1, 1, 1) for k in range(8)]
    x_t = (rows[0] * x0 + rows[1] * noise).to(torch.float32).to(torch.float64)
    eps, v = out[..., :c], out[..., c:]
    mse = ((noise - eps) ** 2).flatten(1).mean(1)
    x0_model = rows[6] * x_t - rows[7] * eps.detach()
    mean, true_mean = rows[2] * x0_model + rows[3] * x_t, rows[2] * x0 + rows[3] * x_t
    log_variance = (v + 1) / 2 * rows[5] + (1 - v) / 2 * rows[4]
    kl = torch.distributions.kl_divergence(
        torch.distributions.Normal(true_mean, (0.5 * rows[4]).exp().expand_as(true_mean)),
        torch.distributions.Normal(mean, (0.5 * log_variance).exp()))

    def cdf(z):
        return F.gelu(z, approximate="tanh") / z  # gelu(z) = z cdf(z), in the same tanh form

    sigma = (0.5 * log_variance).exp()
    upper, lower = cdf((x0 - mean + 1 / 255) / sigma), cdf((x0 - mean - 1 / 255) / sigma)
    upper, lower = torch.where(x0 > 0.999, torch.ones_like(upper), upper), torch.where(x0 < -0.999, torch.zeros_like(lower), lower)
    nll = -(upper - lower).clamp(min=1e-12).log()
    bits = torch.where((t == 0).reshape(n, 1, 1, 1), nll, kl).flatten(1).mean(1) / math.log(2)
    terms = torch.stack([mse, vb_weight * bits], 1)
    emit("diffusion_loss_y", terms)
    emit("diffusion_loss_grad0", torch.autograd.grad(loss_scale * terms.sum(), out)[0])


def timestep_embedding():
    t = torch.tensor([0.0, 3.0, 999.0])
    angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(4) / 4)[None]
    emit("timestep_embedding_y", torch.cat([angles.cos(), angles.sin()], 1))


print("/* Made by tests/goldens/make_op_numbers.py with PyTorch " + torch.__version__.split("+")[0] + " in float64. */")
print("/* clang-format off */")
for make in (conv, group_norm, layer_norm, rms_norm, attention, attention_masked, cross_attention,
             cross_attention_masked, masked_attention, activations, multiply, round_values, position_ids,
             relative_buckets, posterior_sample, diffusion_loss, timestep_embedding):
    make()
