#!/usr/bin/env python3
"""Times training steps of a config's UNet in PyTorch on this machine's GPU or processor, beside Vasily's.

    tests/bench/torch_unet.py [--config configs/bench-15m.yaml] [--device cuda|cpu] [--precision bf16,f32]
                              [--resolution N] [--batch N] [--steps N] [--rounds N] [--compile | --no-compile]
                              [--vasily PROGRAM] [--json]

The PyTorch side is the same network and loss (torch_network.py), bf16 under autocast or plain fp32, channels-last,
gradient clipping, fused AdamW, and an EMA by torch._foreach_lerp_; eager, and through torch.compile. On a GPU steps are
timed by CUDA events. Where the batch does not fit, it is halved, and that is said. FLOPs are counted as Vasily counts
them; their rate is held against a large matrix product measured in the same run, and on a GPU against 989 TFLOP/s, what
an H100 or H200 states for dense bf16.

With --vasily (on a processor: build/release/vasily, if it is there) the sides run in turn, --rounds times, so that a
machine whose speed drifts treats all alike; the ratio of the medians is what counts. On a GPU each side has the memory
to itself while it runs.

Needs torch; reads the config without PyYAML where that is missing. Vasily itself needs neither.
"""
import argparse
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import torch

from read_config import read_config
from torch_network import Diffusion, Unet, parameters_of, sizes, training_flops

HOPPER_BF16 = 989e12  # dense, as NVIDIA states it for H100 SXM and H200
here = os.path.dirname(os.path.abspath(__file__))
home = os.path.dirname(os.path.dirname(here))


def say(*words):
    print(*words, file=sys.stderr, flush=True)


class TorchStep:
    """One training step on made-up inputs, as the trainer makes it."""

    def __init__(self, m, resolution, batch, device, precision, compiled):
        channels, side, rows = sizes(m, resolution)
        self.device, self.batch, self.precision = device, batch, precision
        last = torch.channels_last
        self.net = Unet(m).to(device=device, memory_format=last)
        self.diffusion = Diffusion(device)
        self.parameters = [p for p in self.net.parameters()]
        self.ema = [p.detach().clone() for p in self.parameters]
        self.x0 = torch.randn(batch, channels, side, side, device=device).to(memory_format=last)
        self.text = (torch.randn(batch, rows, m["text1_dim"], device=device),
                     torch.randn(batch, m["pooled_dim"], device=device),
                     torch.randn(batch, rows, m["text2_dim"], device=device))
        self.optim = torch.optim.AdamW(self.parameters, lr=1e-4, fused=True)
        self.forward = torch.compile(self.loss) if compiled else self.loss

    def loss(self, noise, t):
        xt = self.diffusion.noised(self.x0, noise, t)
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            out = self.net(xt, t, *self.text)
        return self.diffusion.loss(out, self.x0, xt, noise, t)

    def run(self):
        t = torch.randint(0, 1000, (self.batch,), device=self.device)
        noise = torch.randn_like(self.x0)
        self.forward(noise, t).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
        self.optim.step()
        self.optim.zero_grad(set_to_none=self.device == "cuda")
        torch._foreach_lerp_(self.ema, [p.detach() for p in self.parameters], 1e-4)


def time_steps(step, steps):
    """Seconds of each."""
    if step.device != "cuda":
        seconds = []
        for _ in range(steps):
            begin = time.perf_counter()
            step.run()
            seconds.append(time.perf_counter() - begin)
        return seconds
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(steps + 1)]
    torch.cuda.synchronize()
    marks[0].record()
    for i in range(steps):
        step.run()
        marks[i + 1].record()
    torch.cuda.synchronize()
    return [a.elapsed_time(b) / 1e3 for a, b in zip(marks, marks[1:])]


def matmul_peak(device, precision):
    """FLOP/s of a large square product, the best of about a second."""
    n = 8192 if device == "cuda" else 2048
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    out = torch.empty(n, n, device=device, dtype=dtype)
    best, begin = float("inf"), time.perf_counter()
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    for i in range(1000):
        wait()
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        wait()
        if i:  # the first one chooses its kernel
            best = min(best, time.perf_counter() - start)
        if i and time.perf_counter() - begin > 1:
            break
    return 2.0 * n**3 / best


def release_memory(device):
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device):
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def out_of_memory(error):
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error).lower()


class TorchSide:
    """PyTorch with or without torch.compile. Keeps its step between rounds, but for a GPU, whose memory it gives back."""

    def __init__(self, args, m, resolution, precision, compiled):
        self.args, self.m, self.resolution, self.precision, self.compiled = args, m, resolution, precision, compiled
        self.name = "torch.compile" if compiled else "torch eager"
        self.batch, self.step, self.failure = args.batch, None, None
        self.seconds, self.peak_bytes = [], 0

    def measure(self):
        while not self.failure and not self.try_measure():
            self.step = None
            release_memory(self.args.device)
            if self.batch == 1:
                self.failure = "not even a batch of 1 fits into the memory"
            else:
                say(f"{self.name}: a batch of {self.batch} does not fit into the memory; {self.batch // 2} instead")
                self.batch //= 2
                self.seconds = []

    def try_measure(self):
        """False: out of memory."""
        try:
            if self.step is None:
                self.step = TorchStep(self.m, self.resolution, self.batch, self.args.device, self.precision,
                                      self.compiled)
                begin = time.perf_counter()
                for _ in range(self.args.warmup):
                    self.step.run()
                say(f"{self.name}: {self.args.warmup} steps of warm-up took {time.perf_counter() - begin:.1f} s")
            self.seconds += time_steps(self.step, self.args.steps)
            self.peak_bytes = max(self.peak_bytes, peak_memory(self.args.device))
        except Exception as error:  # torch.compile raises all kinds
            if out_of_memory(error):
                return False
            lines = str(error).strip().splitlines() or [type(error).__name__]
            self.failure = f"{type(error).__name__}: {lines[0]}"
        if self.args.device == "cuda" or self.failure:
            self.step = None
            torch.compiler.reset()
            release_memory(self.args.device)
        return True


class VasilySide:
    """`vasily bench step` on the same network, resolution and batch."""

    name = "vasily"

    def __init__(self, args, resolution, precision):
        self.batch, self.failure, self.seconds, self.peak_bytes, self.report = args.batch, None, [], 0, None
        self.command = [args.vasily, "bench", "step", args.config, "--steps", str(args.steps), "--warmup",
                        str(args.warmup), "--json", f"model.precision={precision}", f"device.name={args.device}",
                        f"train.resolution={resolution}"]
        if args.device == "cpu":
            self.command.append(f"device.threads={args.threads}")

    def measure(self):
        if self.failure:
            return
        batch = [f"train.global_batch={self.batch}", f"train.micro_batch={self.batch}"]
        result = subprocess.run(self.command + batch, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if result.returncode != 0:
            self.failure = (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]
            return
        self.report = json.loads(result.stdout)
        self.seconds.append(self.report["step_seconds"])
        self.peak_bytes = max(self.peak_bytes, self.report["peak_bytes"])


def result_of(side, flops, peak, device):
    if side.failure:
        return {"side": side.name, "batch": side.batch, "failed": side.failure}
    seconds = statistics.median(side.seconds)
    rate = flops * side.batch / seconds
    result = {"side": side.name, "batch": side.batch, "step_seconds": seconds, "best_step_seconds": min(side.seconds),
              "images_per_second": side.batch / seconds, "tflops": rate / 1e12, "share_of_matmul_peak": rate / peak,
              "peak_bytes": side.peak_bytes}
    if device == "cuda":
        result["share_of_989_tflops"] = rate / HOPPER_BF16
    return result


def compare(args, config, precision):
    m, resolution = config["model"], args.resolution or config["train"]["resolution"]
    flops, peak = training_flops(m, resolution), matmul_peak(args.device, precision)
    sides = [TorchSide(args, m, resolution, precision, compiled) for compiled in args.variants]
    if args.vasily:
        sides.append(VasilySide(args, resolution, precision))
    for _ in range(args.rounds):
        for side in sides:
            side.measure()
    for side in sides:
        if isinstance(side, TorchSide):
            side.step = None
    release_memory(args.device)
    peak = max(peak, matmul_peak(args.device, precision))
    report = {"precision": precision, "resolution": resolution, "parameters": parameters_of(m),
              "flops_per_image": flops, "matmul_peak_tflops": peak / 1e12,
              "results": [result_of(side, flops, peak, args.device) for side in sides]}
    for side in sides:
        theirs = side.report and side.report["parameters"] if isinstance(side, VasilySide) else None
        if theirs not in (None, report["parameters"]):
            sys.exit(f"not the same network: {report['parameters']} parameters here, {theirs} in Vasily")
    return report


def in_flops(number, unit):
    return f"{number / 1e12:.3f} T{unit}" if number >= 1e11 else f"{number / 1e9:.3f} G{unit}"


def show(report):
    print(f"{report['precision']}, {report['resolution']} pixels, {report['parameters'] / 1e6:.2f} M parameters, "
          f"{in_flops(report['flops_per_image'], 'FLOP')} an image; "
          f"matmul peak {in_flops(report['matmul_peak_tflops'] * 1e12, 'FLOP/s')}")
    ours = next((r for r in report["results"] if r["side"] == "vasily" and "failed" not in r), None)
    for r in report["results"]:
        if "failed" in r:
            print(f"  {r['side']:14s} FAILED at batch {r['batch']}: {r['failed']}")
            continue
        line = (f"  {r['side']:14s} batch {r['batch']:4d}  {r['images_per_second']:9.2f} images/s  "
                f"{in_flops(r['tflops'] * 1e12, 'FLOP/s'):>16s}  {100 * r['share_of_matmul_peak']:5.1f}% of the peak")
        if "share_of_989_tflops" in r:
            line += f"  {100 * r['share_of_989_tflops']:5.1f}% of 989"
        line += f"  {r['peak_bytes'] / 1e9:7.2f} GB"
        if ours and r is not ours:
            line += f"  vasily/this {ours['images_per_second'] / r['images_per_second']:.2f}"
        print(line)
    sys.stdout.flush()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=os.path.join(home, "configs", "bench-15m.yaml"))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", help="bf16, f32 or both with a comma (default: bf16 on a GPU, else both)")
    parser.add_argument("--resolution", type=int, help="pixels a side (default: the config's)")
    parser.add_argument("--batch", type=int, help="images of a step (default: micro_batch, or global_batch)")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of each side in a round")
    parser.add_argument("--warmup", type=int, default=2, help="steps before them")
    parser.add_argument("--rounds", type=int, help="default: 1 on a GPU, else 3")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction,
                        help="only with, only without torch.compile (default: both)")
    parser.add_argument("--vasily", help="the program to time beside it; none: leave it out")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the lines")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch finds no GPU")
    args.precision = args.precision or ("bf16" if args.device == "cuda" else "bf16,f32")
    args.rounds = args.rounds or (1 if args.device == "cuda" else 3)
    args.variants = [False, True] if args.compile is None else [args.compile]
    built = os.path.join(home, "build", "release", "vasily")
    if args.vasily is None and args.device == "cpu" and os.access(built, os.X_OK):
        args.vasily = built
    if args.vasily == "none":
        args.vasily = None
    return args


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True
    config = read_config(args.config)
    args.batch = args.batch or config["train"].get("micro_batch") or config["train"]["global_batch"]
    device = torch.cuda.get_device_name() if args.device == "cuda" else f"{args.threads} threads"
    heading = f"torch {torch.__version__}, {device}, {args.config}"
    if not args.json:
        print(heading, flush=True)
    reports = []
    for precision in args.precision.split(","):
        reports.append(compare(args, config, precision))
        if not args.json:
            show(reports[-1])
    if args.json:
        print(json.dumps({"torch": torch.__version__, "device": device, "config": args.config, "reports": reports}))
    if all("failed" in result for report in reports for result in report["results"]):
        sys.exit(1)


if __name__ == "__main__":
    main()
