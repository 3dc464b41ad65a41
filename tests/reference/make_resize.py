#!/usr/bin/env python3
"""Stores what Pillow and TensorFlow make of small drawn pictures when they resize them.

usage: make_resize.py [FOLDER]            (the folder `resize` beside this script, without an argument)
needs: Pillow 13, numpy, tensorflow-cpu 2.21 (only its tf.image.resize)

resize.csv has a line for every case: antialias (1 for Pillow's numbers, 0 for those of
`tf.image.resize(antialias=False)`), filter, source, width and height after, and the place of its first number in
resize.bin. There the numbers are 64 times as large, as little-endian 16-bit integers: rows, then columns, then red,
green, blue.
"""
import csv
import pathlib
import sys

import numpy as np
from PIL import Image

FOLDER = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "resize"
FILTERS = {"nearest": "nearest", "bilinear": "bilinear", "bicubic": "bicubic", "lanczos": "lanczos3"}
# Sources, and what becomes of them: smaller, larger, both at once, odd sizes, one pixel, the same size; the last source
# is one whose rows Pillow resizes first.
CASES = {
    (24, 18): [(11, 7), (29, 23), (12, 29), (33, 9), (24, 18), (1, 1)],
    (19, 37): [(12, 10), (26, 21)],
    (9, 90): [(7, 13)],
    (1, 1): [(5, 3)],
}


def drawn(width, height):
    """Smooth colours, hard edges and a little noise."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    red = 127 + 120 * np.sin(x / 3) * np.cos(y / 5)
    green = 255 * (((x // 4) + (y // 3)) % 2)
    blue = (x * 7919 + y * 104729) % 256
    return np.clip(np.stack([red, green, blue], axis=-1), 0, 255).astype(np.uint8)


def main():
    import tensorflow as tf

    FOLDER.mkdir(parents=True, exist_ok=True)
    rows, numbers = [], bytearray()
    for (width, height), sizes in CASES.items():
        source = drawn(width, height)
        name = f"source-{width}x{height}.png"
        Image.fromarray(source).save(FOLDER / name)
        for to_width, to_height in sizes:
            for name_of_filter, in_tensorflow in FILTERS.items():
                pillow = Image.fromarray(source).resize((to_width, to_height), Image.Resampling[name_of_filter.upper()])
                other = tf.image.resize(source, (to_height, to_width), in_tensorflow, antialias=False)
                for antialias, result in ((1, np.asarray(pillow, np.float64)), (0, np.asarray(other, np.float64))):
                    rows.append([antialias, name_of_filter, name, to_width, to_height, len(numbers) // 2])
                    numbers += np.rint(result * 64).astype("<i2").tobytes()
    with open(FOLDER / "resize.csv", "w", newline="") as out:
        table = csv.writer(out, lineterminator="\n")
        table.writerow(["antialias", "filter", "source", "width", "height", "start"])
        table.writerows(rows)
    (FOLDER / "resize.bin").write_bytes(bytes(numbers))


if __name__ == "__main__":
    main()
