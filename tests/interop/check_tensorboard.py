#!/usr/bin/env python3
"""check_tensorboard.py RUN: what TensorBoard's reader makes of RUN/tensorboard is what RUN's own files say.

Compared: each scalar of metrics.jsonl (as a 32-bit float) and of validation.jsonl, that every step is there once, the
previews' bytes and sizes, and the config. Needs: pip install tensorboard
"""
import json
import os
import struct
import sys

import tensorboard
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TAGS = {
    "loss": "train/loss", "mse": "train/mse", "vb": "train/vb", "lr": "train/lr", "beta1": "train/beta1",
    "grad_norm": "train/grad_norm", "ema_decay": "train/ema_decay", "samples": "train/samples",
    "images_per_second": "speed/images_per_second", "step_seconds": "speed/step_seconds",
    "comm_wait_seconds": "speed/comm_wait_seconds", "data_wait_seconds": "data/wait_seconds",
    "rejected": "data/rejected", "peak_bytes": "memory/peak_bytes", "skipped_steps": "train/skipped_steps",
}


def lines(path):
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return [json.loads(line) for line in file]


def single(value):
    return struct.unpack("f", struct.pack("f", value))[0]


def main(run):
    board = EventAccumulator(os.path.join(run, "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    board.Reload()
    metrics = lines(os.path.join(run, "metrics.jsonl"))
    compared = 0
    for key, tag in TAGS.items():
        got = {e.step: e.value for e in board.Scalars(tag)}
        want = {m["step"]: single(m[key]) for m in metrics if m[key] is not None}
        assert len(got) == len(board.Scalars(tag)), f"{tag}: a step is there twice"
        assert set(got) <= set(want) and len(got) >= len(want) // 10, f"{tag}: {len(got)} of {len(want)} steps"
        for step in got:
            assert got[step] == want[step], f"{tag}: step {step}: {got[step]}, metrics.jsonl has {want[step]}"
        compared += len(got)
    for line in lines(os.path.join(run, "validation.jsonl")):
        tag = f"validation/loss_{line['weights']}"
        assert single(line["loss"]) in [e.value for e in board.Scalars(tag) if e.step == line["step"]], tag
        compared += 1
    pictures = 0
    for tag in board.Tags()["images"]:
        for image in board.Images(tag):
            mark = tag[len("previews"):].replace("/", "-", 1)
            path = os.path.join(run, "previews", f"step-{image.step:07d}{mark}.png")
            data = open(path, "rb").read()
            assert image.encoded_image_string == data, path
            assert (image.width, image.height) == struct.unpack(">II", data[16:24]), path
            pictures += 1
    assert pictures == len(os.listdir(os.path.join(run, "previews"))), f"{pictures} pictures"
    config = open(os.path.join(run, "config.yaml")).read()
    texts = [e.tensor_proto.string_val[0].decode() for e in board.Tensors("config")]
    shown = "".join(line[4:] + "\n" for line in texts[-1].splitlines())
    assert shown == config, "the config"
    print(f"TensorBoard {tensorboard.__version__}: {compared} numbers under {len(board.Tags()['scalars'])} tags, "
          f"{pictures} pictures and the config are those of {os.path.basename(run)}")


main(sys.argv[1])
