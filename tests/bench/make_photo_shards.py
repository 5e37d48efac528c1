"""Shards of JPEG photographs for tests/bench/data_speed.sh: squares cut at random from the photographs of a folder
(those that Debian's wallpaper packages install, say), some of them shrunk before, written as img2dataset writes shards.

    python3 tests/bench/make_photo_shards.py FOLDER OUT --pictures 6000 --side 512 --quality 92

Needs Pillow. The same arguments give the same shards.
"""
import argparse
import io
import json
import os
import random
import tarfile

from PIL import Image

Image.MAX_IMAGE_PIXELS = None


def photographs(folder, side):
    """Paths of the JPEGs that hold at least four squares: photographs rather than screenshots and icons."""
    found = []
    for base, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(base, name)
            if name.lower().endswith((".jpg", ".jpeg")) and not os.path.islink(path):
                with Image.open(path) as image:
                    if min(image.size) >= 2 * side:
                        found.append(path)
    return sorted(found)


def add(tar, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("out")
    parser.add_argument("--pictures", type=int, default=6000)
    parser.add_argument("--per-shard", type=int, default=1000)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--quality", type=int, default=92)
    options = parser.parse_args()
    rng = random.Random(7)
    paths = photographs(options.folder, options.side)
    if not paths:
        raise SystemExit(f"no JPEG of at least {2 * options.side} pixels a side below {options.folder}")
    os.makedirs(options.out, exist_ok=True)
    crops = []
    for at, path in enumerate(paths):
        count = options.pictures * (at + 1) // len(paths) - options.pictures * at // len(paths)
        whole = Image.open(path).convert("RGB")
        sizes = [whole]
        while min(sizes[-1].size) >= 2 * options.side:
            sizes.append(sizes[-1].reduce(2))
        for _ in range(count):
            image = rng.choice(sizes)
            left = rng.randrange(image.width - options.side + 1) if image.width > options.side else 0
            top = rng.randrange(image.height - options.side + 1) if image.height > options.side else 0
            crop = image.crop((left, top, left + options.side, top + options.side))
            buffer = io.BytesIO()
            crop.save(buffer, "JPEG", quality=options.quality)
            crops.append((buffer.getvalue(), os.path.basename(path)))
    rng.shuffle(crops)
    for shard in range(0, len(crops), options.per_shard):
        number = shard // options.per_shard
        with tarfile.open(os.path.join(options.out, f"{number:05d}.tar"), "w") as tar:
            for at, (data, name) in enumerate(crops[shard:shard + options.per_shard]):
                key = f"{number:05d}{at:04d}"
                caption = os.path.splitext(name)[0].replace("_", " ")
                facts = {"caption": caption, "key": key, "status": "success", "error_message": None,
                         "width": options.side, "height": options.side, "original_width": options.side,
                         "original_height": options.side, "similarity": 0.3, "pwatermark": 0.1}
                add(tar, key + ".jpg", data)
                add(tar, key + ".txt", caption.encode())
                add(tar, key + ".json", json.dumps(facts).encode())
    total = sum(len(data) for data, _ in crops)
    print(f"{len(crops)} squares of {len(paths)} photographs, {total / len(crops) / 1e3:.1f} kB each")


if __name__ == "__main__":
    main()
