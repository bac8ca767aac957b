#!/usr/bin/env python3
"""Records resize.txt and patches.txt: what the reference makes of pictures that a formula draws.

Needs torch, torchvision and transformers, on a CPU with AVX2 (elsewhere torch resizes 8-bit pixels
in another way): record_kernels.py FOLDER. Made with torchvision 0.29.2, torch 2.15.0 and
transformers 5.17.0. The formula is that of tests/unit/media/pattern.h.
"""
import random
import sys

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor


def pattern(kind, width, height, frame=0):
    y, x, c = np.meshgrid(*(np.arange(n, dtype=np.uint32) for n in (height, width, 3)), indexing="ij")
    if kind == "smooth":
        return ((x * 3 + y * 5 + c * 40 + frame * 60) // 2 % 256).astype(np.uint8)
    mixed = (x * np.uint32(73856093)) ^ (y * np.uint32(19349663)) ^ (c * np.uint32(83492791)) ^ np.uint32(frame * 2654435)
    noise = (mixed * np.uint32(2654435761) >> 24).astype(np.uint8)
    return noise if kind == "noise" else np.where(noise > 127, 255, 0).astype(np.uint8)


def fnv(data):
    h = 0xcbf29ce484222325
    for b in data:
        h = (h ^ b) * 0x100000001b3 & 0xffffffffffffffff
    return "%016x" % h


def resize_cases():
    r = random.Random(1)
    yield from [(5, 1, 8, 1), (1, 1, 64, 64), (1, 200, 32, 640), (200, 1, 640, 32), (2, 3, 96, 64), (100, 37, 96, 64),
                (64, 64, 64, 32), (64, 64, 32, 64), (64, 64, 64, 64), (3000, 3, 32, 32), (3, 3000, 32, 32), (700, 500, 32, 32),
                (16, 9, 160, 96), (33, 31, 32, 32), (31, 33, 32, 32), (97, 61, 5, 7), (480, 270, 288, 160)]
    for _ in range(40):
        yield tuple(int(2 ** r.uniform(0, 8)) for _ in range(2)) + tuple(int(2 ** r.uniform(1, 7)) for _ in range(2))


def record_resize(out):
    print("# width height to_width to_height pattern, FNV-1a of the bytes that torchvision's resize makes", file=out)
    for width, height, to_width, to_height in resize_cases():
        for kind in ("smooth", "noise", "sharp"):
            x = torch.from_numpy(pattern(kind, width, height)).permute(2, 0, 1)[None]
            y = F.resize(x, [to_height, to_width], interpolation=InterpolationMode.BICUBIC, antialias=True)
            print(width, height, to_width, to_height, kind, fnv(y[0].permute(1, 2, 0).numpy().tobytes()), file=out)


def record_patches(out):
    print("# width height n_frames (0: a picture) pattern, n_patches, FNV-1a of the processor's f32 patches", file=out)
    options = dict(patch_size=16, merge_size=2, temporal_patch_size=2, image_mean=[0.5] * 3, image_std=[0.5] * 3,
                   size={"shortest_edge": 1, "longest_edge": 1 << 30})
    for width, height, n in ((64, 32, 0), (96, 64, 0), (32, 96, 0), (64, 32, 2), (64, 96, 3), (32, 32, 5)):
        for kind in ("smooth", "noise"):
            frames = [pattern(kind, width, height, i) for i in range(max(n, 1))]
            if n == 0:
                got = Qwen2VLImageProcessor(**options)(images=frames, return_tensors="pt")["pixel_values"]
            else:
                got = Qwen2VLVideoProcessor(**options)(videos=[np.stack(frames)], do_sample_frames=False,
                                                       return_tensors="pt")["pixel_values_videos"]
            got = got.float().contiguous().numpy()
            print(width, height, n, kind, got.shape[0], fnv(got.tobytes()), file=out)


if __name__ == "__main__":
    assert "AVX" in torch.backends.cpu.get_cpu_capability()
    record_resize(open(sys.argv[1] + "/resize.txt", "w"))
    record_patches(open(sys.argv[1] + "/patches.txt", "w"))
