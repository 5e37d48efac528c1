#!/usr/bin/env python3
"""compare.py VASILY SHARD...: every sample of the shards, read by webdataset and by `vasily data show`, is the same.

Compared: keys and their order, the members of each sample, their sizes and bytes (XXH3-128), picture sizes by PIL, and
the captions, by the rule of docs/data.md. What may differ: webdataset takes a dot-file in a folder for a member.
Needs: pip install webdataset pillow xxhash
"""
import io
import json
import math
import os
import subprocess
import sys

import webdataset
import xxhash
from PIL import Image

PICTURES = ["jpg", "jpeg", "png", "webp", "image", "img"]


def strip(text):
    return text.strip(" \t\n\r\f\v")


def captions(sample):
    """As data.sources[].caption: auto with caption_language: random."""
    fields = json.loads(sample["json"]) if "json" in sample else {}
    many = fields.get("captions")
    if isinstance(many, dict):
        found = [(k, strip(v)) for k, v in many.items() if isinstance(v, str) and strip(v)]
        if found:
            return found
    for name in ("caption", "TEXT", "top_caption"):
        text = fields.get(name)
        if isinstance(text, str) and strip(text):
            return [(fields.get("LANGUAGE") or "", strip(text))]
    text = strip(sample["txt"].decode()) if "txt" in sample else ""
    return [(fields.get("LANGUAGE") or "", text)] if text else []


def by_webdataset(shards):
    for sample in webdataset.WebDataset(shards, shardshuffle=False, empty_check=False):
        yield sample["__key__"], {k: v for k, v in sample.items() if not k.startswith("__")}


def check(number, theirs, ours):
    key, members = theirs
    assert ours["key"] == key, (number, key, ours["key"])
    assert [m["suffix"] for m in ours["members"]] == list(members), (key, list(members), ours["members"])
    for member in ours["members"]:
        data = members[member["suffix"]]
        assert member["bytes"] == len(data), (key, member)
        assert member["xxh3_128"] == xxhash.xxh3_128_hexdigest(data), (key, member)
        if member["suffix"] in PICTURES:
            image = Image.open(io.BytesIO(data))
            assert [member["width"], member["height"]] == list(image.size), (key, member)
            assert member["picture"].lower() == image.format.lower(), (key, member)
    expected = captions(members)
    assert [(c["language"], c["text"]) for c in ours["captions"]] == expected, (key, expected, ours["captions"])
    picture = any(s in members for s in PICTURES)
    verdict = "accepted" if expected and picture else "no_caption" if not expected else "no_picture"
    assert ours["verdict"] == verdict, (key, verdict, ours)


def main():
    vasily, shards = sys.argv[1], sys.argv[2:]
    shown = subprocess.run([vasily, "data", "show"] + shards, check=True, stdout=subprocess.PIPE).stdout
    ours = [json.loads(line) for line in shown.splitlines()]
    counts = {}
    number = 0
    for number, theirs in enumerate(by_webdataset(shards), 1):
        assert number <= len(ours), "vasily has no sample %d" % number
        check(number, theirs, ours[number - 1])
        verdict = ours[number - 1]["verdict"]
        counts[verdict] = counts.get(verdict, 0) + 1
    assert number == len(ours), (number, len(ours))
    print("%d shards, %d samples, all the same: %s" % (len(shards), number, counts))


if __name__ == "__main__":
    main()
