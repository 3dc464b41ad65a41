#!/usr/bin/env python3
"""Draws the pictures that the decoder is tested with, in every format and mode that it reads, and stores what Pillow
makes of them.

usage: make_pictures.py [FOLDER]          (the folder `pictures` beside this script, without an argument)
needs: Pillow 13, numpy

Every picture has its pixels, as `Image.open(...).convert("RGB")` gives them, in pixels.png, and a line in pixels.csv:
file, width, height, place of its first byte among the bytes of pixels.png (a grey picture, to pack them), and the
largest difference that the test allows.
A picture is drawn by arithmetic alone, so that running this again gives the same files with the same libraries.
"""
import csv
import pathlib
import sys
import zlib

import numpy as np
from PIL import Image

WIDTH = 4096
FOLDER = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "pictures"


def drawn(width, height):
    """Smooth colours, hard edges and a little noise: what codecs find easy, hard and random."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    red = 127 + 120 * np.sin(x / 7) * np.cos(y / 11)
    green = 255 * (x + y) / (width + height)
    blue = 255 * (((x // 9) + (y // 6)) % 2)
    noise = (x * 7919 + y * 104729) % 23 - 11
    rgb = np.stack([red + noise, green - noise, blue], axis=-1)
    return np.clip(rgb, 0, 255).astype(np.uint8)


def picture(width=37, height=29):
    return Image.fromarray(drawn(width, height))


def save(image, name, **options):
    image.save(FOLDER / name, **options)


def jpegs():
    for name, chroma in [("444", 0), ("422", 1), ("420", 2)]:
        save(picture(), f"jpeg-{name}.jpg", quality=85, subsampling=chroma)
        save(picture(), f"jpeg-{name}-progressive.jpg", quality=85, subsampling=chroma, progressive=True)
    for width, height in [(1, 1), (2, 2), (3, 5), (16, 17), (17, 16), (8, 33)]:
        save(picture(width, height), f"jpeg-{width}x{height}.jpg", quality=70, subsampling=2)
    save(picture(), "jpeg-low.jpg", quality=5, subsampling=2)
    save(picture(), "jpeg-high.jpg", quality=100, subsampling=0)
    save(picture(), "jpeg-optimised.jpg", quality=60, optimize=True)
    save(picture(), "jpeg-restart.jpg", quality=80, restart_marker_blocks=3)
    save(picture(), "jpeg-restart-progressive.jpg", quality=80, restart_marker_blocks=3, progressive=True)
    save(picture().convert("L"), "jpeg-grey.jpg", quality=85)
    save(picture().convert("L"), "jpeg-grey-progressive.jpg", quality=85, progressive=True)
    save(picture(), "jpeg-rgb.jpg", quality=90, keep_rgb=True)
    save(picture().convert("CMYK"), "jpeg-cmyk.jpg", quality=90)
    ycck = (FOLDER / "jpeg-cmyk.jpg").read_bytes()
    # The same data under another colour transform: YCCK, as Adobe's programs write it.
    at = ycck.index(b"Adobe")
    (FOLDER / "jpeg-ycck.jpg").write_bytes(ycck[: at + 11] + b"\x02" + ycck[at + 12 :])
    for orientation in (3, 6, 8):
        exif = Image.Exif()
        exif[0x0112] = orientation
        save(picture(), f"jpeg-exif-{orientation}.jpg", quality=85, exif=exif)
    plain = (FOLDER / "jpeg-420.jpg").read_bytes()
    # Bytes that belong nowhere, before a marker and after the end.
    at = plain.index(b"\xff\xdb")
    (FOLDER / "jpeg-junk.jpg").write_bytes(plain[:at] + b"junk" + plain[at:] + b"after the end")


def chunk(kind, body):
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def png_of(width, height, depth, colour, rows, *extra):
    """A PNG with chunks that Pillow does not write."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, colour, 0, 0, 0])
    body = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", body), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def pngs():
    save(picture(), "png-rgb.png")
    save(picture().convert("L"), "png-grey.png")
    save(picture().convert("1"), "png-1bit.png")
    save(picture().quantize(200), "png-palette.png")
    save(picture().quantize(11), "png-palette-4bit.png")
    alpha = picture().convert("RGBA")
    alpha.putalpha(Image.fromarray(drawn(37, 29)[:, :, 1]))
    save(alpha, "png-alpha.png")
    save(alpha.convert("LA"), "png-grey-alpha.png")
    save(picture().quantize(16), "png-palette-transparent.png", transparency=3)
    deep = drawn(37, 29).astype(">u2") * 257 + (np.arange(37 * 3).reshape(1, 37, 3) % 200).astype(">u2")
    deep = np.minimum(deep.astype(np.int64), 65535).astype(">u2")
    (FOLDER / "png-rgb-16bit.png").write_bytes(png_of(37, 29, 16, 2, [row.tobytes() for row in deep]))
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    rows = [row.tobytes() for row in drawn(37, 29)]
    (FOLDER / "png-exif-6.png").write_bytes(png_of(37, 29, 8, 2, rows, chunk(b"eXIf", exif)))


def gifs():
    save(picture().quantize(64), "gif-plain.gif")
    save(picture().quantize(16), "gif-transparent.gif", transparency=3)
    frames = [picture().quantize(32), Image.fromarray(255 - drawn(37, 29)).quantize(32)]
    save(frames[0], "gif-animated.gif", save_all=True, append_images=frames[1:], duration=100, loop=0)
    save(picture().quantize(32), "gif-interlaced.gif", interlace=1)
    save(picture().convert("L"), "gif-grey.gif")
    plain = bytearray((FOLDER / "gif-plain.gif").read_bytes())
    # A screen larger than its frame, which stands away from the corner.
    plain[6:10] = (45).to_bytes(2, "little") + (33).to_bytes(2, "little")
    at = plain.index(b"\x2c\0\0\0\0", 13 + 3 * 64)
    plain[at + 1 : at + 5] = (5).to_bytes(2, "little") + (3).to_bytes(2, "little")
    (FOLDER / "gif-offset.gif").write_bytes(plain)


def tiffs():
    for name, compression in [("raw", None), ("lzw", "tiff_lzw"), ("deflate", "tiff_adobe_deflate"), ("packbits", "packbits")]:
        save(picture(), f"tiff-{name}.tiff", compression=compression)
    save(picture(), "tiff-jpeg.tiff", compression="jpeg", quality=90)
    save(picture().convert("L"), "tiff-grey.tiff", compression="tiff_lzw")
    save(picture().convert("1"), "tiff-1bit.tiff")
    save(picture().convert("1"), "tiff-fax4.tiff", compression="group4")
    save(picture().quantize(99), "tiff-palette.tiff", compression="tiff_lzw")
    save(picture().convert("CMYK"), "tiff-cmyk.tiff", compression="tiff_adobe_deflate")
    alpha = picture().convert("RGBA")
    alpha.putalpha(Image.fromarray(drawn(37, 29)[:, :, 1]))
    save(alpha, "tiff-alpha.tiff", compression="tiff_adobe_deflate")
    save(picture(), "tiff-orientation-6.tiff", compression="tiff_lzw", tiffinfo={274: 6})
    save(picture(), "tiff-pages.tiff", save_all=True, append_images=[Image.new("RGB", (9, 9))], compression="tiff_lzw")


def bmps():
    save(picture(), "bmp-rgb.bmp")
    save(picture().convert("L"), "bmp-grey.bmp")
    save(picture().convert("1"), "bmp-1bit.bmp")
    save(picture().quantize(50), "bmp-palette.bmp")
    save(picture().convert("RGBA"), "bmp-rgba.bmp")


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for make in (jpegs, pngs, gifs, tiffs, bmps):
        make()
    pixels = bytearray()
    with open(FOLDER.parent / "pixels.csv", "w", newline="") as out:
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(["file", "width", "height", "start", "tolerance"])
        for path in sorted(FOLDER.iterdir()):
            image = Image.open(path).convert("RGB")
            # The TIFF library brings its own JPEG decoder, which rounds chroma otherwise.
            tolerance = 8 if path.name == "tiff-jpeg.tiff" else 0
            rows.writerow([path.name, image.width, image.height, len(pixels), tolerance])
            pixels += image.tobytes()
    rows = -(-len(pixels) // WIDTH)
    grey = np.frombuffer(bytes(pixels).ljust(rows * WIDTH, b"\0"), np.uint8).reshape(rows, WIDTH)
    Image.fromarray(grey).save(FOLDER.parent / "pixels.png", optimize=True)


if __name__ == "__main__":
    main()
