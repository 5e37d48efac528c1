#!/usr/bin/env python3
"""make_awkward_shards.py FOLDER [SAMPLES]: shards whose .json files have every oddity that data sets have: NaN and
Infinity, null, numbers as texts, fields of the wrong type, missing ones, several spellings at once, surrogate pairs and
halves, captions as objects, lists and .txt members, broken files. Plain Python; for recount.py."""
import io
import json
import os
import random
import struct
import sys
import tarfile
import zlib

NAMES = {
    "watermark": ["pwatermark", "watermark_score"],
    "unsafe": ["punsafe"],
    "similarity": ["similarity", "clip_similarity_vitb32", "clip_similarity_vitl14"],
    "aesthetic": ["aesthetic", "AESTHETIC_SCORE", "aesthetic_score_laion_v2"],
}
RANGES = {"watermark": (0, 1), "unsafe": (0, 1), "similarity": (0.1, 0.45), "aesthetic": (2, 8)}
TEXTS = ["a red circle", "кот в скафандре", "猫", "  blanks around \n", "turtle \U0001f422 and more of it" * 3, "", " \t",
         "é" * 300, "half \ud83d of a pair", "nul \0 inside", "word " * 200, "x"]
LANGUAGES = ["en", "ru", "fr", "de", "zh-CN", "zh-TW", "EN", "uk", "pt_BR", "ceb", "klingon", "", "x"]
STATUSES = ["success", "failed_to_download", "failed_to_resize", "", None, 3]


class Raw:
    """A value that is written as it is."""

    def __init__(self, text):
        self.text = text


def score(rng, low, high):
    value = round(rng.uniform(low, high), rng.choice([1, 2, 4, 15]))
    kind = rng.randrange(20)
    if kind < 13:
        return value
    return [str(value), f"+{value}", "much", None, Raw("NaN"), Raw(rng.choice(["Infinity", "-Infinity", "1e400"])),
            rng.choice([True, [value], {"v": value}, "", " 0.1", "1e", "0x1", 0, 1, -1, "1e999"])][kind - 13]


def side(rng):
    value = rng.choice([32, 48, 63, 64, 65, 100, 256, 511, 512, 1000, 4000])
    kind = rng.randrange(16)
    return value if kind < 12 else [str(value), 0, -value, value + 0.5][kind - 12]


def captions(rng):
    kind = rng.randrange(6)
    if kind == 0:
        return {rng.choice(LANGUAGES): rng.choice(TEXTS) for _ in range(rng.randrange(5))}
    if kind == 1:
        return {rng.choice(LANGUAGES): [rng.choice(TEXTS) for _ in range(rng.randrange(4))] for _ in range(3)}
    if kind == 2:
        return [rng.choice(TEXTS + [None, 5]) for _ in range(rng.randrange(4))]
    return rng.choice(["text", 3, None, {"en": None, "ru": 5}])


def fields(rng):
    out = {}
    for field, names in NAMES.items():
        for name in names:
            if rng.random() < 0.7 / len(names) + 0.1:
                out[name] = score(rng, *RANGES[field])
    for pair in (("original_width", "original_height"), ("WIDTH", "HEIGHT"), ("width", "height")):
        for name in pair:
            if rng.random() < 0.5:
                out[name] = side(rng)
    for name in ("caption", "TEXT", "top_caption"):
        if rng.random() < 0.4:
            out[name] = rng.choice(TEXTS + [None, 5])
    for name in ("LANGUAGE", "language"):
        if rng.random() < 0.3:
            out[name] = rng.choice(LANGUAGES + [None, 7])
    if rng.random() < 0.5:
        out["status"] = rng.choices(STATUSES, [20, 1, 1, 1, 1, 1])[0]
    if rng.random() < 0.4:
        out["captions"] = captions(rng)
    if rng.random() < 0.5:
        out["NSFW"] = rng.choice(["UNLIKELY", "UNSURE", "NSFW", None, True, "кот", 5])
    if rng.random() < 0.5:
        out["rank"] = rng.choice([1, 2, "3", 4.5, 10**30, None, Raw("NaN"), [1]])
    items = list(out.items())
    rng.shuffle(items)
    return items


def write_json(rng, items):
    ascii_only = rng.random() < 0.5
    parts = []
    for key, value in items:
        text = value.text if isinstance(value, Raw) else json.dumps(value, ensure_ascii=ascii_only)
        if not ascii_only:
            text = text.replace("\ud83d", "\\ud83d")  # half a pair has no UTF-8
        parts.append(json.dumps(key) + ": " + text)
    if items and rng.random() < 0.05:
        parts.append(parts[0].split(":")[0] + ": 0.123")  # a key twice: the last counts
    data = ("{" + ", ".join(parts) + "}").encode()
    kind = rng.randrange(200)
    if kind == 0:
        return data[:-1]
    if kind == 1:
        return b"[1]"
    if kind == 2:
        return data[:-1] + b', "x": "\xff"}'
    if kind == 3:
        return b"{" + b'"a": {' * 40 + b"}" * 40 + b"}"
    return data


def png(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"".join(b"\0" + b"\x80" * (3 * width) for _ in range(height)), 1)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def jpeg_head(width, height, padding):
    """Everything up to the frame header: no decoder would like it, but it tells the size."""
    segment = b"\xff\xe1" + struct.pack(">H", padding + 2) + b"\0" * padding
    return (b"\xff\xd8" + segment + b"\xff\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + b"\0" * 40)


def picture(rng):
    width, height = rng.choice([16, 63, 64, 80]), rng.choice([63, 64, 96])
    kind = rng.randrange(60)
    if kind == 0:
        return None
    if kind == 1:
        return b"GIF89a" + b"\0" * 30
    if kind == 2:
        return png(width, height)[:rng.choice([3, 12, 20])]
    if kind < 20:
        return jpeg_head(width, height, rng.choice([10, 3000, 5000, 65000]))
    if kind == 20:
        return jpeg_head(width, height, 6000)[:rng.choice([2, 3, 300, 5000])]
    return png(width, height)


def members(rng):
    out = []
    if rng.random() < 0.97:
        out.append(("json", write_json(rng, fields(rng))))
    if rng.random() < 0.5:
        text = rng.choice(TEXTS).replace("\ud83d", "?")
        out.append(("txt", text.encode() if rng.random() < 0.97 else b"not \xff utf-8"))
    for language in ("ru", "en", "pt-BR", "ocr"):
        if rng.random() < 0.06:
            out.append((language + ".txt", rng.choice(TEXTS).replace("\ud83d", "?").encode()))
    data = picture(rng)
    if data is not None:
        out.append((rng.choice(["jpg", "png", "JPG", "webp"]), data))
    if not out:
        out.append(("txt", b"alone"))
    if rng.random() < 0.005:
        out.append(out[0])
    rng.shuffle(out)
    return out


def make_shard(path, first, count, seed):
    rng = random.Random(seed)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for n in range(first, first + count):
            for suffix, data in members(rng):
                info = tarfile.TarInfo(f"{n:08d}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def make(folder, samples, prefix="awkward", shard_samples=1000):
    os.makedirs(folder, exist_ok=True)
    for s, first in enumerate(range(0, samples, shard_samples)):
        make_shard(os.path.join(folder, f"{prefix}-{s:04d}.tar"), first, min(shard_samples, samples - first),
                   f"{prefix} {s}")


if __name__ == "__main__":
    make(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20000)
