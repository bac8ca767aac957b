#!/usr/bin/env python3
"""Records which frames the reference's video processor takes: tests/golden/video-sampling/cases.txt.

    python3 -m venv ref && ref/bin/pip install transformers==5.17.0 torch torchvision pillow
    ref/bin/python tests/golden/make/video_sampling.py

A line: number of frames, recorded rate, wanted rate (both exact, in hexadecimal), number of indices, indices. "fails": the
reference raises an error (no pair of frames); "past" after the indices: its last index lies past the end.
"""
import os
import random

from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
from transformers.video_utils import VideoMetadata

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "video-sampling", "cases.txt")
RATES = [24.0, 25.0, 30.0, 60.0, 24000 / 1001, 30000 / 1001, 60000 / 1001, 10.0, 6.0, 1.0, 0.5, 1000.0]


def line(processor, total, recorded, wanted):
    head = f"{total} {float(recorded).hex()} {float(wanted).hex()}"
    try:
        indices = [int(i) for i in processor.sample_frames(
            VideoMetadata(total_num_frames=total, fps=recorded), fps=wanted)]
    except ZeroDivisionError:
        return f"{head} 0 fails"
    past = len(indices) > 0 and indices[-1] >= total
    if past:
        indices.pop()
    return " ".join([head, str(len(indices))] + [str(i) for i in indices] + (["past"] if past else []))


def cases(rng):
    for total in range(1, 24):
        yield total, 25.0, 2.0
        yield total, 25.0, 1000.0
    yield 100, 25.0, 2.0
    yield 1800, 30.0, 2.0
    yield 17, 30000 / 1001, 27.34592503621472
    for total in (766, 767, 768, 769, 770, 1500):
        yield total, 30.0, 30.0
    for _ in range(90):
        yield rng.randint(4, 400), rng.choice(RATES), rng.choice([0.5, 1.0, 2.0, 3.0, rng.uniform(0.05, 8)])
    for _ in range(60):
        yield rng.randint(400, 3000), rng.uniform(5, 120), rng.uniform(0.05, 2.5)
    for _ in range(20):
        yield rng.randint(10**4, 16 * 10**6), rng.choice(RATES), rng.uniform(1e-4, 1e-3)


def main():
    processor = Qwen2VLVideoProcessor(patch_size=16)
    with open(OUT, "w") as out:
        for total, recorded, wanted in cases(random.Random(4)):
            print(line(processor, total, recorded, wanted), file=out)


if __name__ == "__main__":
    main()
