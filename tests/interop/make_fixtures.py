#!/usr/bin/env python3
"""make_fixtures.py: makes tests/data/interop anew: small shards by the real img2dataset and by webdataset, gzipped, and
expected.txt, what webdataset reads of them. tests/data/test_interop.c reads them without Python.

Needs: pip install img2dataset webdataset pillow xxhash
"""
import glob
import gzip
import os
import subprocess
import sys
import tempfile

import webdataset
import xxhash

import compare

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "data", "interop")


def describe(path):
    for sample in webdataset.WebDataset(path, shardshuffle=False):
        members = {k: v for k, v in sample.items() if not k.startswith("__")}
        yield "sample %s" % sample["__key__"]
        for suffix, data in members.items():
            yield "member %s %d %s" % (suffix, len(data), xxhash.xxh3_128_hexdigest(data))
        for language, text in compare.captions(members):
            yield "caption %s %s" % (language or "-", text)


def main():
    os.makedirs(OUT, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        for script, count in (("make_img2dataset.py", "12"), ("make_webdataset.py", "10")):
            subprocess.run([sys.executable, os.path.join(HERE, script), os.path.join(work, script), count], check=True,
                           stdout=subprocess.DEVNULL)
        found = {"img2dataset-jpg": "make_img2dataset.py/jpg/00000.tar", "img2dataset-webp": "make_img2dataset.py/webp/00000.tar",
                 "webdataset": "make_webdataset.py/writer-0000.tar", "gnu": "make_webdataset.py/gnu.tar",
                 "pax": "make_webdataset.py/pax.tar"}
        lines = []
        for name, path in found.items():
            path = glob.glob(os.path.join(work, path))[0]
            lines += ["shard %s" % name, *describe(path)]
            with open(path, "rb") as tar, open(os.path.join(OUT, name + ".tar.gz"), "wb") as out:
                with gzip.GzipFile("", "wb", 9, out, 0) as packed:
                    packed.write(tar.read())
        with open(os.path.join(OUT, "expected.txt"), "w", encoding="utf-8") as out:
            out.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
