"""Kandinsky 2.0's UNet, its loss and its count of FLOPs in PyTorch: what torch_unet.py times. Written from the
architecture that model/unet.c describes; channels-last."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F


def time_features(t, channels):
    half = channels // 2
    freq = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
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


class Attend(nn.Module):
    """softmax(q k^T / sqrt(d)) v of (N,heads,rows,d); a module of its own so that its FLOPs can be counted."""

    def forward(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v)


class Attention(nn.Module):
    """Image rows attend to [text ; image] rows."""

    def __init__(self, channels, head, ccontext):
        super().__init__()
        self.heads, self.head = channels // head, head
        self.norm = nn.GroupNorm(32, channels)
        self.qkv, self.kv = nn.Linear(channels, 3 * channels), nn.Linear(ccontext, 2 * channels)
        self.attend, self.out = Attend(), nn.Linear(channels, channels)

    def forward(self, x, emb, context):
        n, c, height, width = x.shape
        rows = self.norm(x).permute(0, 2, 3, 1).reshape(n, height * width, c)
        q, k, v = self.qkv(rows).view(n, -1, self.heads, 3, self.head).permute(3, 0, 2, 1, 4)
        ck, cv = self.kv(context).view(n, -1, self.heads, 2, self.head).permute(3, 0, 2, 1, 4)
        a = self.attend(q, torch.cat([ck, k], 2), torch.cat([cv, v], 2))
        a = self.out(a.transpose(1, 2).reshape(n, -1, c))
        return x + a.view(n, height, width, c).permute(0, 3, 1, 2)


class Pooling(nn.Module):
    """Attention pooling: the first row attends to all rows."""

    def __init__(self, heads, cin, cout):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = nn.Linear(cin, cin), nn.Linear(cin, cin), nn.Linear(cin, cin)
        self.attend, self.out = Attend(), nn.Linear(cin, cout)

    def forward(self, x):
        n, _, c = x.shape
        split = lambda y: y.view(n, -1, self.heads, c // self.heads).transpose(1, 2)
        a = self.attend(split(self.q(x[:, :1])), split(self.k(x)), split(self.v(x)))
        return self.out(a.transpose(1, 2).reshape(n, c))


class Unet(nn.Module):
    """`m` is the section `model` of a config."""

    def __init__(self, m):
        super().__init__()
        c0, emb, ctx = m["channels"], 4 * m["channels"], m["context_dim"]
        levels, head = m["attention_levels"], m["head_channels"]
        self.c0 = c0
        self.time = nn.Sequential(nn.Linear(c0, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.text1, self.text2 = nn.Linear(m["text1_dim"], ctx), nn.Linear(m["text2_dim"], ctx)
        self.pooled, self.pool2 = nn.Linear(m["pooled_dim"], emb), Pooling(m["text2_heads"], m["text2_dim"], emb)
        self.ln1, self.ln2, self.ln3 = nn.LayerNorm(ctx), nn.LayerNorm(emb), nn.LayerNorm(emb)
        self.first = nn.Conv2d(m["in_channels"], c0 * m["channel_mult"][0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        c, ds = c0 * m["channel_mult"][0], 1
        skips = [c]
        for level, mult in enumerate(m["channel_mult"]):
            for _ in range(m["res_blocks"]):
                block = [Residual(c, c0 * mult, emb)]
                c = c0 * mult
                if ds in levels:
                    block.append(Attention(c, head, ctx))
                self.down.append(nn.ModuleList(block))
                skips.append(c)
            if level + 1 < len(m["channel_mult"]):
                self.down.append(nn.ModuleList([Residual(c, c, emb, "down")]))
                skips.append(c)
                ds *= 2
        self.middle = nn.ModuleList([Residual(c, c, emb), Attention(c, head, ctx), Residual(c, c, emb)])
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
        """x (N,C,H,W), t (N), full1 (N,T,.), pooled1 (N,.), full2 (N,T,.) -> noise and variance (N,2C,H,W) in f32."""
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

    def __init__(self, device, steps=1000):
        beta = torch.linspace(0.0001, 0.02, steps, dtype=torch.float64)
        bar = torch.cumprod(1 - beta, 0)
        prev = torch.cat([torch.ones(1, dtype=torch.float64), bar[:-1]])
        variance = beta * (1 - prev) / (1 - bar)
        f = lambda v: v.float().to(device)
        self.bar, self.log_beta = f(bar), f(beta.log())
        self.log_var = f(torch.cat([variance[1:2], variance[1:]]).log())
        self.c0, self.ct = f(beta * prev.sqrt() / (1 - bar)), f((1 - prev) * (1 - beta).sqrt() / (1 - bar))

    def noised(self, x0, noise, t):
        bar = self.bar[t][:, None, None, None]
        return bar.sqrt() * x0 + (1 - bar).sqrt() * noise

    def loss(self, out, x0, xt, noise, t):
        at = lambda v: v[t][:, None, None, None]
        eps, frac = out.chunk(2, dim=1)
        mse = (eps - noise).square().mean(dim=(1, 2, 3))
        logvar = (frac + 1) / 2 * at(self.log_beta) + (1 - (frac + 1) / 2) * at(self.log_var)
        guess = (xt - (1 - at(self.bar)).sqrt() * eps.detach()) / at(self.bar).sqrt()
        delta = at(self.c0) * (x0 - guess)
        kl = 0.5 * (-1 + logvar - at(self.log_var) + (at(self.log_var) - logvar).exp() + delta**2 * (-logvar).exp())
        return (mse + kl.mean(dim=(1, 2, 3)) / math.log(2)).mean()


def sizes(m, resolution):
    """The inputs of one image: channels and side of the latent, rows of text."""
    return m["in_channels"], resolution // m["autoencoder"].get("factor", 8), m["max_tokens"]


def parameters_of(m):
    with torch.device("meta"):
        return sum(p.numel() for p in Unet(m).parameters())


def training_flops(m, resolution):
    """FLOPs of one image, forward and backward, as Vasily counts them (engine/op_*.c): two for a multiply and add;
    weight gradients, and input gradients where any are wanted, cost what the forward pass costs; attention's backward
    pass has five products for the forward's two. Norms and activations do not count."""
    total = 0.0

    def count(forward, module, inputs, output):
        nonlocal total
        total += forward * (3 if inputs[0].requires_grad else 2)

    def conv(module, inputs, output):
        fan_in = module.in_channels * module.kernel_size[0] * module.kernel_size[1]
        count(2.0 * output.numel() * fan_in, module, inputs, output)

    def linear(module, inputs, output):
        count(2.0 * output.numel() * module.in_features, module, inputs, output)

    def attend(module, inputs, output):
        nonlocal total
        total += 7 * 2.0 * output.numel() * inputs[1].shape[2]

    hooks = {nn.Conv2d: conv, nn.Linear: linear, Attend: attend}
    channels, side, rows = sizes(m, resolution)
    with torch.device("meta"):
        net = Unet(m)
        for module in net.modules():
            if type(module) in hooks:
                module.register_forward_hook(hooks[type(module)])
        net(torch.empty(1, channels, side, side), torch.empty(1), torch.empty(1, rows, m["text1_dim"]),
            torch.empty(1, m["pooled_dim"]), torch.empty(1, rows, m["text2_dim"]))
    return total
