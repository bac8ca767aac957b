#!/usr/bin/env python3
"""Makes tests/golden/odd-audio: random audio encoders of odd shapes, features of some sounds, and
what the reference implementation makes of them.

    python3 -m venv ref && ref/bin/pip install transformers==5.17.0 torch safetensors numpy
    ref/bin/python tests/golden/make/odd_audio.py tests/golden/odd-audio [SEED]

Without a seed: the shapes below. With one: three random small encoders, for comparing by hand
(FLOTILLA_AUDIO_CASES=DIR build/tests/test_encoders_audio).

A file E.safetensors each: config (int32, the order of CONFIG below), thinker.audio_tower.* (bf16),
and of call C: C.frames (int32, of each sound), C.features [bins][all frames], C.embeds
[all tokens][out]. n_window is 49 to 52: the reference counts 13 tokens for a whole chunk whatever
it is.
"""
import os
import random
import sys

import torch
from safetensors.torch import save_file
from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import (
    Qwen3OmniMoeAudioEncoderConfig)
from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import Qwen3OmniMoeAudioEncoder

CONFIG = ["num_mel_bins", "d_model", "encoder_layers", "encoder_attention_heads",
          "encoder_ffn_dim", "max_source_positions", "n_window", "n_window_infer",
          "downsample_hidden_size", "output_dim"]
# Heads of 9 and 70, widths that fill no panel, bins that halve unevenly, down to one row; a window
# of two chunks, one of seven, longer than a block of keys, and one of fourteen, of which a job is
# longer than what a product takes. Calls: several jobs, tails of one frame, whole chunks only,
# sounds shorter than a chunk alone and together.
ODD = [
    (dict(num_mel_bins=13, d_model=36, encoder_layers=2, encoder_attention_heads=4,
          encoder_ffn_dim=50, max_source_positions=15, n_window=51, n_window_infer=204,
          downsample_hidden_size=7, output_dim=30),
     [[1225, 103, 306], [37, 8, 9], [1], [204]]),
    (dict(num_mel_bins=3, d_model=140, encoder_layers=1, encoder_attention_heads=2,
          encoder_ffn_dim=70, max_source_positions=1500, n_window=49, n_window_infer=686,
          downsample_hidden_size=66, output_dim=65),
     [[1500], [97, 5], [687], [98]]),
    (dict(num_mel_bins=2, d_model=6, encoder_layers=2, encoder_attention_heads=1,
          encoder_ffn_dim=10, max_source_positions=13, n_window=50, n_window_infer=1400,
          downsample_hidden_size=3, output_dim=5),
     [[6950], [7001, 100], [1401], [1400, 1]]),
]


def random_encoder(rng):
    heads = rng.choice([1, 2, 4, 6])
    n_window = rng.randint(49, 52)
    config = dict(num_mel_bins=rng.randint(1, 40), d_model=heads * 2 * rng.randint(2, 30),
                  encoder_layers=rng.randint(1, 3), encoder_attention_heads=heads,
                  encoder_ffn_dim=rng.randint(1, 200), max_source_positions=rng.randint(13, 50),
                  n_window=n_window, n_window_infer=2 * n_window * rng.randint(1, 12),
                  downsample_hidden_size=rng.randint(1, 80), output_dim=rng.randint(1, 100))
    return config, [[rng.randint(1, most) for _ in range(rng.randint(1, 4))]
                    for most in (2000, 6 * n_window, 2 * n_window - 1, 20)]


def make_model(fields):
    config = Qwen3OmniMoeAudioEncoderConfig(**fields)
    config._attn_implementation = "eager"
    model = Qwen3OmniMoeAudioEncoder(config).float()
    for name, p in model.named_parameters():
        if p.dim() >= 2:
            p.normal_(0, 1.0 / (p.numel() / p.shape[0]) ** 0.5)
        elif "norm" in name or "ln_post" in name:
            p.normal_(float(name.endswith("weight")), 0.1)
        else:
            p.normal_(0, 0.1)
        p.copy_(p.to(torch.bfloat16).float())  # what the file will hold
    return model.eval()


def main():
    torch.set_grad_enabled(False)
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else None
    torch.manual_seed(seed or 0)
    rng = random.Random(seed)
    encoders = [random_encoder(rng) for _ in range(3)] if seed is not None else ODD
    for e, (fields, calls) in enumerate(encoders):
        model = make_model(fields)
        out = {"config": torch.tensor([fields[k] for k in CONFIG], dtype=torch.int32)}
        for name, p in model.named_parameters():
            out[f"thinker.audio_tower.{name}"] = p.to(torch.bfloat16)
        for c, frames in enumerate(calls):
            features = torch.randn(fields["num_mel_bins"], sum(frames))
            got = model(input_features=features, feature_lens=torch.tensor(frames))
            out[f"{c}.frames"] = torch.tensor(frames, dtype=torch.int32)
            out[f"{c}.features"] = features
            out[f"{c}.embeds"] = got.last_hidden_state.contiguous()
        save_file(out, os.path.join(sys.argv[1], f"{e}.safetensors"))


main()
