#!/usr/bin/env python3
"""Makes tests/golden/odd-vision: random vision encoders of odd shapes, pixels, and what the
reference implementation makes of them.

    python3 -m venv ref && ref/bin/pip install transformers==5.17.0 torch safetensors numpy
    ref/bin/python tests/golden/make/odd_vision.py tests/golden/odd-vision [SEED]

Without a seed: the shapes below. With one: three random small encoders, for comparing by hand
(FLOTILLA_VISION_CASES=DIR build/tests/test_encoders_vision).

A file E.safetensors each: config (int32, the order of CONFIG below, then the deep-stack layers),
thinker.visual.* (bf16), and of case C: C.frames (uint8 [frames][height][width][3], one temporal
patch), C.embeds [tokens][out], C.deepstack [n][tokens][out].
"""
import os
import random
import sys

import torch
from safetensors.torch import save_file
from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import (
    Qwen3OmniMoeVisionEncoderConfig)
from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import Qwen3OmniMoeVisionEncoder

CONFIG = ["depth", "hidden_size", "num_heads", "intermediate_size", "patch_size",
          "temporal_patch_size", "spatial_merge_size", "out_hidden_size", "num_position_embeddings"]
# Heads of 12 and 20 (quarters of 3 and 5), widths that fill no panel, blocks of 3 x 3 and single
# patches, a deep-stack layer that is the last block, none at all; grids (rows, columns, frames)
# from one block over a long strip to one that takes two slabs.
ODD = [
    (dict(depth=3, hidden_size=24, num_heads=2, intermediate_size=70, patch_size=3,
          temporal_patch_size=3, spatial_merge_size=3, out_hidden_size=36,
          num_position_embeddings=49, deepstack_visual_indexes=[0, 2]),
     [(3, 3, 1), (3, 120, 3), (27, 21, 2)]),
    (dict(depth=2, hidden_size=100, num_heads=5, intermediate_size=130, patch_size=2,
          temporal_patch_size=1, spatial_merge_size=1, out_hidden_size=65,
          num_position_embeddings=4, deepstack_visual_indexes=[]),
     [(1, 1, 1), (1, 65, 1), (13, 5, 1)]),
]


def random_encoder(rng):
    heads = rng.choice([1, 2, 3, 7])
    depth = rng.randint(1, 4)
    merge = rng.choice([1, 2, 2, 3, 4])
    config = dict(depth=depth, num_heads=heads, hidden_size=heads * 4 * rng.randint(1, 20),
                  intermediate_size=rng.randint(1, 200), patch_size=rng.randint(1, 9),
                  temporal_patch_size=rng.randint(1, 3), spatial_merge_size=merge,
                  out_hidden_size=rng.randint(1, 150),
                  num_position_embeddings=rng.randint(1, 12) ** 2,
                  deepstack_visual_indexes=sorted(rng.sample(range(depth), rng.randint(0, depth))))
    side = max(1, 40 // merge)
    return config, [(merge * rng.randint(1, side), merge * rng.randint(1, side),
                     rng.randint(1, config["temporal_patch_size"])) for _ in range(3)]


def make_model(fields):
    config = Qwen3OmniMoeVisionEncoderConfig(**fields)
    config._attn_implementation = "eager"
    model = Qwen3OmniMoeVisionEncoder(config).float()
    for name, p in model.named_parameters():
        if p.dim() >= 2:
            p.normal_(0, 1.0 / (p.numel() / p.shape[0]) ** 0.5)
        elif "norm" in name or "ln_q" in name:
            p.normal_(float(name.endswith("weight")), 0.1)
        else:
            p.normal_(0, 0.1)
        p.copy_(p.to(torch.bfloat16).float())  # what the file will hold
    return model.eval()


def patches_of(frames, fields, grid_h, grid_w):
    """[patches][channel, time, y, x] in merge-block order, the last frame repeated."""
    t, p, m = (fields[k] for k in ("temporal_patch_size", "patch_size", "spatial_merge_size"))
    frames = torch.cat([frames] + [frames[-1:]] * (t - frames.shape[0]))
    values = (frames.float() - 127.5) / 127.5
    values = values.reshape(t, grid_h // m, m, p, grid_w // m, m, p, 3)
    return values.permute(1, 4, 2, 5, 7, 0, 3, 6).reshape(grid_h * grid_w, -1)


def main():
    torch.set_grad_enabled(False)
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else None
    torch.manual_seed(seed or 0)
    rng = random.Random(seed)
    encoders = [random_encoder(rng) for _ in range(3)] if seed is not None else ODD
    for e, (fields, grids) in enumerate(encoders):
        out = {}
        model = make_model(fields)
        numbers = [fields[k] for k in CONFIG] + fields["deepstack_visual_indexes"]
        out["config"] = torch.tensor(numbers, dtype=torch.int32)
        for name, p in model.state_dict().items():
            out[f"thinker.visual.{name}"] = p.to(torch.bfloat16)
        for c, (grid_h, grid_w, n) in enumerate(grids):
            size = fields["patch_size"]
            frames = torch.randint(0, 256, (n, grid_h * size, grid_w * size, 3), dtype=torch.uint8)
            got = model(patches_of(frames, fields, grid_h, grid_w),
                        torch.tensor([[1, grid_h, grid_w]]))
            out[f"{c}.frames"] = frames
            out[f"{c}.embeds"] = got.pooler_output.contiguous()
            if got.deepstack_features:
                out[f"{c}.deepstack"] = torch.stack(list(got.deepstack_features))
        save_file(out, os.path.join(sys.argv[1], f"{e}.safetensors"))


main()
