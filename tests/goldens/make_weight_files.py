#!/usr/bin/env python3
"""Makes the small PyTorch files that tests/model/test_pytorch_file.c reads.

    python make_weight_files.py [OUT_FOLDER]

needs torch and safetensors. Writes into OUT_FOLDER (default: tests/model/weights) NAME.pt by torch.save and, beside it,
NAME.safetensors with the same tensors under the names that the reader gives them, made contiguous.
"""

import collections
import os
import sys

import torch
from safetensors.torch import save_file


class Foreign:
    """A class that Vasily does not know: it must become inert."""

    def __init__(self, value):
        self.value = value


class Callback(dict):
    pass


def numbers(*shape, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed + 1)
    x = torch.randn(*shape, generator=g, dtype=torch.float64)
    if dtype == torch.bool:
        return x > 0
    if not dtype.is_floating_point:
        return (x * 50).to(dtype) if dtype != torch.uint8 else (x.abs() * 50).to(dtype)
    return x.to(dtype)


def flatten(value, name="", out=None):
    """Names as the reader makes them: keys and positions joined by dots."""
    out = {} if out is None else out
    if isinstance(value, torch.Tensor):
        out[name or "tensor"] = value.detach().clone().contiguous()
    elif isinstance(value, Foreign) or isinstance(value, Callback):
        pass
    elif isinstance(value, dict):
        for key, item in value.items():
            flatten(item, f"{name}.{key}" if name else str(key), out)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            flatten(item, f"{name}.{i}" if name else str(i), out)
    return out


def plain():
    return {
        "f32": numbers(3, 5),
        "f64": numbers(2, 2, dtype=torch.float64),
        "f16": numbers(7, dtype=torch.float16),
        "bf16": numbers(4, 3, dtype=torch.bfloat16),
        "i64": numbers(5, dtype=torch.int64),
        "i32": numbers(5, dtype=torch.int32),
        "i16": numbers(5, dtype=torch.int16),
        "i8": numbers(5, dtype=torch.int8),
        "u8": numbers(5, dtype=torch.uint8),
        "bool": numbers(9, dtype=torch.bool),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
        "five": numbers(2, 1, 3, 1, 2),
    }


def views():
    base = numbers(6, 8)
    flat = numbers(40, seed=3)
    half = numbers(4, 4, dtype=torch.float16, seed=4)
    return collections.OrderedDict(
        base=base,
        transposed=base.t(),
        rows=base[2:5],
        columns=base[:, 3:6],
        steps=base[::2, 1::3],
        shared_a=flat[:20].view(4, 5),
        shared_b=flat[10:30].view(2, 10),
        permuted=numbers(2, 3, 4, seed=5).permute(2, 0, 1),
        expanded=numbers(1, 3, seed=6).expand(4, 3),
        half_transposed=half.t(),
        last=flat[39:],
    )


def model():
    torch.manual_seed(7)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Conv1d(4, 2, 1), torch.nn.BatchNorm1d(2))
    return net


def parameters():
    tagged = torch.nn.Parameter(numbers(3, 2, seed=8))
    tagged.tag = "an attribute"  # makes torch save it by _rebuild_parameter_with_state
    plain_tensor = numbers(2, 2, seed=9)
    plain_tensor.tag = {"more": 1}
    return {"weight": torch.nn.Parameter(numbers(4, 2)), "tagged": tagged, "attributes": plain_tensor,
            "nested": {"deeper": [numbers(2), (numbers(3), None)], 7: numbers(1)}}


def lightning():
    net = model()
    optimizer = torch.optim.AdamW(net.parameters())
    net[0](torch.ones(2, 3)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    return {
        "epoch": 3,
        "global_step": 1234,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": net.state_dict(),
        "callbacks": {Callback: {"best": torch.tensor(0.25), "monitor": "val/rec_loss"}, "other": Foreign(3)},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [scheduler.state_dict()],
        "hyper_parameters": Callback(channels=4),
        "time": 1.5e9 + 0.25,
        "big": 1 << 200,
        "set": {1, 2},
        "device": torch.device("cpu"),
        "size": torch.Size([1, 2]),
        "dtype": torch.float32,
    }


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "..", "model", "weights")
    os.makedirs(out, exist_ok=True)
    legacy = dict(_use_new_zipfile_serialization=False)
    tables = [torch.full((4,), float(i)) for i in range(200)]
    cases = {
        "plain": (plain(), {}),
        "views": (views(), {}),
        "module": (model().state_dict(), {}),
        "parameters": (parameters(), {}),
        "lightning": (lightning(), {}),
        "protocol4": (parameters(), dict(pickle_protocol=4)),
        "protocol5": (lightning(), dict(pickle_protocol=5)),
        "unsigned": ({"u16": torch.arange(6, dtype=torch.int32).to(torch.uint16),
                      "u32": torch.arange(6).to(torch.uint32), "u64": torch.arange(6).to(torch.uint64)}, {}),
        "many": ({f"layer.{i}.weight": t for i, t in enumerate(tables)}, {}),
        "tensor": (numbers(3, 3), {}),
        "legacy_plain": (plain(), legacy),
        "legacy_views": (views(), legacy),
        "legacy_lightning": (lightning(), legacy),
        "legacy_protocol4": (plain(), dict(pickle_protocol=4, **legacy)),
    }
    for name, (value, options) in cases.items():
        torch.save(value, os.path.join(out, name + ".pt"), **options)
        flat = flatten(value)
        # keys of the callbacks dictionary are classes: their place is their name
        flat = {k.replace(f"callbacks.{Callback}", "callbacks.key0"): v for k, v in flat.items()}
        save_file(flat, os.path.join(out, name + ".safetensors"))
    # A view whose values are those of the storage with the other sign: refused.
    torch.save({"a": numbers(3), "b": torch._neg_view(numbers(4, seed=2))}, os.path.join(out, "negated.pt"))
    # Whole modules: refused, because nothing of a file is executed.
    torch.save(model(), os.path.join(out, "whole_module.pt"))


if __name__ == "__main__":
    main()
