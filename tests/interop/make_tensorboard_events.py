#!/usr/bin/env python3
"""make_tensorboard_events.py FILE: a small event file, made by TensorBoard's own writer, for tests/train/test_tensorboard.c.

Needs: pip install tensorboard (made with 2.20)
"""
import struct
import sys
import zlib

from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.summary.writer.record_writer import RecordWriter


def png(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(range(3 * width)) for _ in range(height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def event(second, step, value=None, **what):
    if value:
        what["summary"] = summary_pb2.Summary(value=[value])
    return event_pb2.Event(wall_time=1700000000 + second, step=step, **what)


def main(path):
    Value = summary_pb2.Summary.Value
    text = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[b"seed: 7"],
                                  tensor_shape=tensor_shape_pb2.TensorShapeProto(
                                      dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=1)]))
    metadata = summary_pb2.SummaryMetadata(plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name="text"))
    image = summary_pb2.Summary.Image(width=3, height=2, colorspace=3, encoded_image_string=png(3, 2))
    events = [
        event(0, 0, file_version="brain.Event:2"),
        event(1, 41, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START)),
        event(2.5, 50, Value(tag="train/loss", simple_value=0.125)),
        event(3, 60, Value(tag="train/zero", simple_value=0.0)),
        event(4, 60, Value(tag="previews", image=image)),
        event(5, 60, Value(tag="config", tensor=text, metadata=metadata)),
    ]
    with open(path, "wb") as file:
        writer = RecordWriter(file)
        for item in events:
            writer.write(item.SerializeToString())
        writer.flush()


main(sys.argv[1])
