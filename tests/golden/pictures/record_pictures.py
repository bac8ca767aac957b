#!/usr/bin/env python3
"""Makes files/ with other programs and records pictures.txt: what Pillow loads from each of them.

record_pictures.py FOLDER, with Pillow 13, numpy, ImageMagick 6, ffmpeg, libwebp's tools, gifsicle
and exiftool. The loading is what people put in front of the reference's processor: orientation tag
honoured, alpha over white, then RGB. Files are not made again where they are there.
"""
import os
import struct
import subprocess
import sys
import tempfile
import zlib

import numpy as np
from PIL import Image, ImageOps

COMMANDS = """
convert drawn.png -quality 80 im-420.jpg
convert drawn.png -quality 90 -sampling-factor 4:4:4 -interlace JPEG im-444-progressive.jpg
convert drawn.png -quality 70 -sampling-factor 4:2:2 im-422.jpg
convert drawn.png -quality 70 -sampling-factor 1x2 im-440.jpg
convert drawn.png -quality 70 -sampling-factor 4:1:1 -interlace JPEG im-411-progressive.jpg
convert drawn.png -colorspace Gray im-grey.jpg
convert drawn.png -colorspace CMYK -quality 80 im-cmyk.jpg
ffmpeg -y -loglevel error -i drawn.png -q:v 4 -frames:v 1 ffmpeg.jpg
convert drawn.png -strip im-rgb.png
convert alpha.png -strip -interlace PNG im-rgba-interlaced.png
convert alpha.png -strip -depth 16 PNG64:im-rgba16.png
convert drawn.png -strip -depth 16 -interlace PNG PNG48:im-rgb16-interlaced.png
convert drawn.png -strip -colorspace Gray -depth 2 im-grey2.png
convert drawn.png -strip -monochrome -interlace PNG im-grey1-interlaced.png
convert alpha.png -strip -channel A -threshold 50% +channel -colors 13 PNG8:im-palette-transparent.png
ffmpeg -y -loglevel error -i drawn.png -pix_fmt gray16be -frames:v 1 ffmpeg-grey16.png
ffmpeg -y -loglevel error -i alpha.png -pix_fmt ya16be -frames:v 1 ffmpeg-greyalpha16.png
ffmpeg -y -loglevel error -i alpha.png -pix_fmt ya8 -frames:v 1 ffmpeg-greyalpha8.png
ffmpeg -y -loglevel error -i drawn.png -pix_fmt pal8 -frames:v 1 ffmpeg-palette.png
ffmpeg -y -loglevel error -i drawn.png -i alpha.png -filter_complex [0]format=rgba[a];[a][1]concat=n=2 -plays 0 -f apng ffmpeg-apng.png
cwebp -quiet -q 60 drawn.png -o cwebp-lossy.webp
cwebp -quiet -q 60 alpha.png -o cwebp-lossy-alpha.webp
cwebp -quiet -lossless alpha.png -o cwebp-lossless-alpha.webp
img2webp -lossy -q 40 drawn.png -d 30 alpha.png -o img2webp-animated.webp
convert drawn.png -colors 16 im.gif
convert drawn.png -colors 16 -interlace GIF im-interlaced.gif
convert alpha.png -channel A -threshold 50% +channel -colors 9 im-transparent.gif
convert drawn.png -crop 12x9+3+4 -repage 30x25+11+7 -colors 8 im-offset.gif
convert drawn.png -crop 12x9+3+4 -repage 10x8+11+7 -colors 8 im-over-the-screen.gif
gifsicle -O2 im.gif im-offset.gif -o gifsicle-two-frames.gif
gif2webp -quiet im-offset.gif -o gif2webp-offset.webp
"""


def drawn(width, height):
    y, x = np.mgrid[0:height, 0:width].astype(float)
    rng = np.random.default_rng(7)
    planes = [128 + 100 * np.sin(x / (4 + c) + y / (7 - c)) + rng.normal(0, 6, x.shape) for c in range(3)]
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, depth, kind, rows, *extra):
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(extra) +
            chunk(b"IDAT", zlib.compress(b"".join(b"\0" + r for r in rows))) + chunk(b"IEND", b""))


def hand_made():
    """What no program at hand writes: transparent colours of every type, indices past the palette's end."""
    ramp = [bytes(range(17 * y, 17 * y + 16)) for y in range(4)]
    grey16 = [struct.pack(">8H", 0, 1, 127, 128, 255, 256, 40000, 65535)]
    rgb = [bytes([1, 2, 3, 4, 5, 6, 1, 2, 3, 9, 9, 9])]
    palette = chunk(b"PLTE", bytes([10, 20, 30, 40, 50, 60, 70, 80, 90]))
    yield "hand-grey8-transparent.png", png(16, 4, 8, 0, ramp, chunk(b"tRNS", struct.pack(">H", 20)))
    yield "hand-grey4-transparent.png", png(32, 4, 4, 0, ramp, chunk(b"tRNS", struct.pack(">H", 0x33)))
    yield "hand-grey16-transparent.png", png(8, 1, 16, 0, grey16, chunk(b"tRNS", struct.pack(">H", 128)))
    yield "hand-rgb-transparent.png", png(4, 1, 8, 2, rgb, chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3)))
    yield "hand-palette-past-end.png", png(4, 1, 8, 3, [bytes([0, 2, 3, 255])], palette, chunk(b"tRNS", bytes([255, 7, 100])))
    yield "hand-grey-alpha.png", png(16, 4, 8, 4, [bytes(range(64 * y, 64 * y + 32)) for y in range(4)])
    yield "hand-1x1.png", png(1, 1, 8, 2, [b"\x07\x08\x09"])


def with_orientation(run):
    """All eight by exiftool in a JPEG, some elsewhere and in other ways."""
    for o in range(1, 9):
        run("convert small.png -quality 60 orientation-%d.jpg" % o)
        order = "-ExifByteOrder=%s" % ("MM" if o % 2 else "II")
        run("exiftool -q -overwrite_original -n %s -Orientation=%d -Make=Camera orientation-%d.jpg" % (order, o, o))
    run("convert orientation-6.jpg raw-profile-6.png")
    run("convert orientation-8.jpg exif-8.webp")
    image, tiff = Image.open("small.png"), b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x05\0\0\0\0\0\0"
    image.save("exif-5.png", exif=b"Exif\0\0" + tiff)
    plain = open("small.png", "rb").read()
    end = plain.rindex(b"IEND") - 4
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="7"/></x:xmpmeta>'
    note = chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(packet))
    open("exif-late-5.png", "wb").write(plain[:end] + chunk(b"eXIf", tiff) + plain[end:])
    open("xmp-7.png", "wb").write(plain[:33] + note + plain[33:])
    image.save("xmp-7.jpg", xmp=packet, quality=60)
    image.save("pillow-restarts.jpg", restart_marker_blocks=1, quality=60)


def make(folder):
    with tempfile.TemporaryDirectory() as work:
        def run(line):
            subprocess.run(line.split(" "), cwd=work, check=True)
        os.chdir(work)
        picture = Image.fromarray(drawn(29, 21))
        picture.save("drawn.png")
        Image.fromarray(drawn(19, 10)).save("small.png")
        picture.putalpha(Image.fromarray(drawn(29, 21)[::-1, ::-1, 1].copy()))
        picture.save("alpha.png")
        for line in COMMANDS.strip().splitlines():
            run(line)
        for name, data in hand_made():
            open(name, "wb").write(data)
        with_orientation(run)
        for name in ("drawn.png", "small.png", "alpha.png"):
            os.remove(name)
        for name in os.listdir("."):
            open(os.path.join(folder, name), "wb").write(open(name, "rb").read())


def loaded(path):
    im = ImageOps.exif_transpose(Image.open(path))
    if im.mode in ("RGBA", "LA") or "transparency" in im.info:
        im = im.convert("RGBA")
        im = Image.alpha_composite(Image.new("RGBA", im.size, (255, 255, 255, 255)), im)
    return np.asarray(im.convert("RGB"))


def fnv(data):
    h = 0xcbf29ce484222325
    for b in data:
        h = (h ^ b) * 0x100000001b3 & 0xffffffffffffffff
    return "%016x" % h


if __name__ == "__main__":
    here = os.path.abspath(sys.argv[1])
    files = os.path.join(here, "files")
    os.makedirs(files, exist_ok=True)
    if not os.listdir(files):
        make(files)
    with open(os.path.join(here, "pictures.txt"), "w") as out:
        print("# file width height, FNV-1a of the RGB bytes that Pillow loads", file=out)
        for name in sorted(os.listdir(files)):
            rgb = loaded(os.path.join(files, name))
            print(name, rgb.shape[1], rgb.shape[0], fnv(rgb.tobytes()), file=out)
