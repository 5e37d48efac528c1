"""Makes tests/data/pictures: small pictures of every kind that the loader reads, and what Pillow makes of them
(transparency on white, middle square, bicubic resize) as raw RGB. Needs Pillow and numpy; run once, results committed.

    python3 tests/data/make_picture_goldens.py
"""
import os

import numpy as np
from PIL import Image

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pictures")
os.makedirs(here, exist_ok=True)
rng = np.random.default_rng(7)


def scene(width, height, channels):
    """Smooth waves with hard edges, so that overshoot and clipping happen."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = []
    for c in range(channels):
        wave = 127 + 110 * np.sin(x * (0.11 + 0.05 * c) + y * 0.07 * (c + 1))
        wave[(x // 9 + y // 7) % 3 == c % 3] = 255 * (c % 2)
        planes.append(wave + rng.normal(0, 6, wave.shape))
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def on_white(image):
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


def square(image):
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return image.crop((left, top, left + side, top + side))


def expect(name, image, resolution):
    out = square(image).resize((resolution, resolution), Image.BICUBIC)
    with open(os.path.join(here, f"{name}.{resolution}.rgb"), "wb") as file:
        file.write(np.asarray(out, dtype=np.uint8).tobytes())


def save(name, image, resolution=16, shown=None, **options):
    path = os.path.join(here, name)
    image.save(path, **options)
    expect(name, shown or on_white(Image.open(path)), resolution)


rgb = Image.fromarray(scene(61, 47, 3))
save("rgb.png", rgb)
save("rgb.png", rgb, 32)
save("rgb.png", rgb, 64)   # enlarged
save("rgb.png", rgb, 47)   # only cropped
save("tall.png", Image.fromarray(scene(30, 83, 3)), 7)
save("grey.png", Image.fromarray(scene(40, 33, 1)[:, :, 0]))
save("one_bit.png", Image.fromarray(scene(40, 33, 1)[:, :, 0]).convert("1"))
save("rgba.png", Image.fromarray(scene(45, 40, 4), "RGBA"))
save("grey_alpha.png", Image.fromarray(scene(45, 40, 2), "LA"))
save("palette.png", rgb.quantize(32))
palette = Image.fromarray(scene(50, 41, 3)).quantize(16)
save("palette_clear.png", palette, transparency=bytes([0, 128, 40] + [255] * 13))
wide = (scene(37, 35, 1)[:, :, 0].astype(np.uint16) * 257) ^ 0x35
eight = np.round(wide / 65535 * 255).astype(np.uint8)
Image.fromarray(wide).save(os.path.join(here, "grey16.png"))
expect("grey16.png", Image.fromarray(eight).convert("RGB"), 16)
save("baseline.jpg", rgb, quality=92)
save("small_chroma.jpg", rgb, quality=75, subsampling=2)
save("progressive.jpg", rgb, quality=85, progressive=True)
save("grey.jpg", Image.fromarray(scene(40, 33, 1)[:, :, 0]), quality=90)
cmyk = Image.fromarray(scene(48, 48, 4), "CMYK")
cmyk.save(os.path.join(here, "cmyk.jpg"), quality=95)
expect("cmyk.jpg", Image.open(os.path.join(here, "cmyk.jpg")).convert("RGB"), 16)
save("lossy.webp", rgb, quality=80)
save("lossless.webp", rgb, lossless=True)
save("alpha.webp", Image.fromarray(scene(45, 40, 4), "RGBA"), lossless=True)

# Two frames, which the loader refuses.
rgb.save(os.path.join(here, "animated.webp"), save_all=True, append_images=[rgb.rotate(180)], duration=100)
