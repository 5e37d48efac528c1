#!/usr/bin/env python3
"""make_img2dataset.py FOLDER [PICTURES]: lets the real img2dataset write webdataset shards into FOLDER.

A server on this machine serves pictures that PIL makes (JPEG with EXIF, PNG, WebP; some URLs fail, some serve rubbish);
the captions are of many scripts, some empty or missing, and the columns hold NaN and infinities.
Needs: pip install img2dataset
"""
import http.server
import io
import json
import math
import os
import sys
import threading

import numpy
import pyarrow
import pyarrow.parquet
from PIL import Image

CAPTIONS = ["a red square", "красный квадрат", "赤い四角", "مربع أحمر", "🟥 carré rouge", "  blanks around\n", "",
            None, 'quotes " and \\ and \u2028 and \t tab', "e\u0301 decomposed"]


def picture(number):
    """The bytes of picture `number`, and its type."""
    generator = numpy.random.default_rng(number)
    width, height = 24 + number % 41, 20 + number % 37
    small = generator.integers(0, 256, (4, 4, 3), dtype=numpy.uint8)
    image = Image.fromarray(small).resize((width, height), Image.BICUBIC)
    out = io.BytesIO()
    kind = ["jpeg", "png", "webp"][number % 3]
    if kind == "jpeg":
        exif = Image.Exif()
        exif[0x010E] = "picture %d \u00fc" % number
        exif[0x0110] = "no camera"
        image.save(out, "jpeg", quality=92, exif=exif)
    else:
        image.save(out, kind)
    return out.getvalue(), "image/" + kind


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        number = int(self.path.strip("/").split(".")[0])
        if number % 11 == 5:
            self.send_error(404)
            return
        data, kind = picture(number)
        if number % 13 == 7:
            data = b"this is no picture"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def main():
    folder, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 60
    os.makedirs(folder, exist_ok=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = "http://127.0.0.1:%d/" % server.server_address[1]
    odd = [0.0, 0.25, math.nan, math.inf, -math.inf, 1e-30, 0.5]
    table = pyarrow.table({
        "url": [base + "%d.img" % i for i in range(count)],
        "caption": [CAPTIONS[i % len(CAPTIONS)] for i in range(count)],
        "similarity": pyarrow.array([odd[i % 7] for i in range(count)], from_pandas=False),
        "pwatermark": [odd[(i * 3) % 7] for i in range(count)],
        "LANGUAGE": [["en", "ru", "ja", "ar", "fr", None][i % 6] for i in range(count)],
        "punsafe": [None if i % 5 == 0 else 0.01 for i in range(count)],
    })
    pyarrow.parquet.write_table(table, os.path.join(folder, "urls.parquet"))
    from img2dataset import download
    for name, options in {"jpg": {}, "png": {"encode_format": "png", "encode_quality": 6},
                          "webp": {"encode_format": "webp"}}.items():
        download(url_list=os.path.join(folder, "urls.parquet"), input_format="parquet", url_col="url",
                 caption_col="caption", output_format="webdataset", output_folder=os.path.join(folder, name),
                 processes_count=1, thread_count=4, image_size=48, resize_mode="keep_ratio",
                 number_sample_per_shard=25, save_additional_columns=["similarity", "pwatermark", "LANGUAGE", "punsafe"],
                 extract_exif=True, compute_hash="sha256", retries=0, timeout=20, enable_wandb=False, **options)
    server.shutdown()
    print(json.dumps({n: sorted(os.listdir(os.path.join(folder, n))) for n in ("jpg", "png", "webp")}))


if __name__ == "__main__":
    main()
