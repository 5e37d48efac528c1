#!/usr/bin/env python3
"""make_webdataset.py FOLDER [SAMPLES]: lets webdataset's own ShardWriter write shards into FOLDER, plain and .tar.gz.

Keys with folders, of other scripts, and long ones; upper-case suffixes; .txt, .json, .cls, .jpg, .png and parts of any
name; a second set with tarfile's GNU and pax formats, members that are passed over, links and folders among them.
Needs: pip install webdataset pillow
"""
import io
import json
import os
import sys
import tarfile

import numpy
import webdataset
from PIL import Image


def picture(number, kind):
    generator = numpy.random.default_rng(1000 + number)
    small = generator.integers(0, 256, (3, 3, 3), dtype=numpy.uint8)
    out = io.BytesIO()
    Image.fromarray(small).resize((16 + number % 17, 18 + number % 11), Image.BICUBIC).save(out, kind)
    return out.getvalue()


def key(number):
    keys = ["plain%06d" % number, "folder/%06d" % number, "./dot/%06d" % number, "ключ/%06d" % number,
            "v1.2/deep/%06d" % number, "long/" + "n" * 120 + "%06d" % number, "キー%06d" % number,
            "e\u0301%06d" % number]
    return keys[number % len(keys)]


def sample(number):
    kind, suffix = [("jpeg", "jpg"), ("png", "png"), ("webp", "webp"), ("jpeg", "JPG"), ("png", "seg.PNG")][number % 5]
    out = {"__key__": key(number), suffix: picture(number, kind), "json": {"number": number, "caption": "nº %d" % number},
           "cls": number % 10}
    if number % 2:
        out["txt"] = "caption %d ÿ 字" % number
    if number % 7 == 0:
        out["pyd"] = {"any": "thing"}
    if suffix == "seg.PNG":
        out["jpg"] = picture(number, "jpeg")
    return out


def write(folder, count):
    with webdataset.ShardWriter(os.path.join(folder, "writer-%04d.tar"), maxcount=40, verbose=0) as sink:
        for number in range(count):
            sink.write(sample(number))
    with webdataset.TarWriter(os.path.join(folder, "packed.tar.gz"), compress=True, encoder=True) as sink:
        for number in range(30):
            sink.write(sample(number))


def write_by_hand(path, tar_format):
    """What no ShardWriter writes, but tar does."""
    with tarfile.open(path, "w", format=tar_format) as tar:
        def add(name, data, kind=tarfile.REGTYPE, link=""):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode = kind, link, 0o644
            info.size = len(data) if kind in (tarfile.REGTYPE, tarfile.CONTTYPE) else 0
            info.mtime = 1.5 if tar_format == tarfile.PAX_FORMAT else 1
            tar.addfile(info, io.BytesIO(data))

        add("folder", b"", tarfile.DIRTYPE)
        for number in range(20):
            name = "folder/" + ("x" * (number * 13)) + "é%03d" % number
            add(name + ".jpg", picture(number, "jpeg"))
            if number % 3 == 0:
                add("folder/link%d.jpg" % number, b"", tarfile.SYMTYPE, "../../etc/passwd")
            if number % 4 == 0:
                add("__meta__/%d.json" % number, b"{}")
            if number % 5 == 0:
                add(".hidden.jpg", b"hidden")
            if number % 6 == 0:
                add("README", b"no suffix")
            add(name + ".TXT", b"by hand %d" % number)


def main():
    folder, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 200
    os.makedirs(folder, exist_ok=True)
    write(folder, count)
    write_by_hand(os.path.join(folder, "gnu.tar"), tarfile.GNU_FORMAT)
    write_by_hand(os.path.join(folder, "pax.tar"), tarfile.PAX_FORMAT)
    print(json.dumps(sorted(os.listdir(folder))))


if __name__ == "__main__":
    main()
