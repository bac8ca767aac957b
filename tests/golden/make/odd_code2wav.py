#!/usr/bin/env python3
"""Makes tests/golden/odd-code2wav: random vocoders of odd shapes, random codes, and what the
reference implementation makes of them.

    python3 -m venv ref && ref/bin/pip install transformers==5.17.0 torch safetensors numpy
    ref/bin/python tests/golden/make/odd_code2wav.py tests/golden/odd-code2wav [SEED]

Without a seed: the shapes below. With one: four random small vocoders, for comparing by hand
(FLOTILLA_CODE2WAV_CASES=DIR build/tests/test_speech_code2wav).

A file E.safetensors each: config (int32, the order of CONFIG below), rates and ratios (int32),
code2wav.* (bf16), codes [quantizers][frames], wav_oneshot [samples], and the modules' outputs under
the names that code2wav_watch has: transformer [frames][hidden], upsample.i.conv, upsample.i.block
and decoder.i [channels][steps]; the larger ones every 7th step, under NAME_every7.
"""
import os
import random
import sys

import torch
from safetensors.torch import save_file
from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import (
    Qwen3OmniMoeCode2WavConfig)
from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import Qwen3OmniMoeCode2Wav

CONFIG = ["codebook_size", "num_quantizers", "hidden_size", "num_hidden_layers",
          "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size",
          "sliding_window", "decoder_dim"]
# Heads of 2 to 70 entries, groups of three heads, heads that are not hidden / heads; windows of one
# frame, of three, of 64, longer than two blocks of keys; widths that fill no panel, channels that
# halve to 1, 3 and 35; rates of 1 and 7, ratios of 1 and 3.
ODD = [
    (dict(codebook_size=11, num_quantizers=3, hidden_size=36, num_hidden_layers=2,
          num_attention_heads=6, num_key_value_heads=2, head_dim=10, intermediate_size=50,
          sliding_window=3, decoder_dim=24), (7, 1, 2), (3,), 40),
    (dict(codebook_size=70, num_quantizers=1, hidden_size=70, num_hidden_layers=1,
          num_attention_heads=1, num_key_value_heads=1, head_dim=70, intermediate_size=65,
          sliding_window=130, decoder_dim=70), (2,), (1,), 200),
    (dict(codebook_size=5, num_quantizers=16, hidden_size=9, num_hidden_layers=3,
          num_attention_heads=4, num_key_value_heads=4, head_dim=2, intermediate_size=7,
          sliding_window=1, decoder_dim=16), (3, 5, 1, 2), (1, 2, 1), 37),
    (dict(codebook_size=30, num_quantizers=4, hidden_size=34, num_hidden_layers=1,
          num_attention_heads=3, num_key_value_heads=1, head_dim=12, intermediate_size=66,
          sliding_window=64, decoder_dim=132), (1, 4), (2, 2), 70),
]


def random_vocoder(rng):
    kv, blocks = rng.choice([1, 2, 3]), rng.randint(1, 4)
    config = dict(codebook_size=rng.randint(2, 50), num_quantizers=rng.randint(1, 20),
                  hidden_size=rng.randint(1, 150), num_hidden_layers=rng.randint(1, 3),
                  num_attention_heads=kv * rng.randint(1, 4), num_key_value_heads=kv,
                  head_dim=2 * rng.randint(1, 40), intermediate_size=rng.randint(1, 200),
                  sliding_window=rng.randint(1, 150), decoder_dim=2 ** blocks * rng.randint(1, 40))
    rates = tuple(rng.randint(1, 9) for _ in range(blocks))
    ratios = tuple(rng.randint(1, 3) for _ in range(rng.randint(1, 3)))
    return config, rates, ratios, rng.randint(1, 120)


def make_model(fields, rates, ratios):
    config = Qwen3OmniMoeCode2WavConfig(**fields, upsample_rates=rates, upsampling_ratios=ratios)
    config._attn_implementation = "eager"
    model = Qwen3OmniMoeCode2Wav(config).float()
    for name, p in model.named_parameters():
        if "alpha" in name or "beta" in name or p.dim() < 2:
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            p.normal_(centre, 0.3)
        elif "upsample" in name and "0.conv" in name:  # [in, out, kernel]
            p.normal_(0, 1.0 / p.shape[0] ** 0.5)
        elif "block.1.conv" in name:
            p.normal_(0, 0.7 / p.shape[0] ** 0.5)
        else:
            p.normal_(0, 0.7 / (p.numel() / p.shape[0]) ** 0.5)
        p.copy_(p.to(torch.bfloat16).float())  # what the file will hold
    last = model.decoder[-1].conv.weight  # so that few samples are clipped
    last.copy_((last * 0.1).to(torch.bfloat16).float())
    return model.eval()


def put(out, name, rows):
    if rows.numel() > 4000:
        name, rows = name + "_every7", rows[..., ::7]
    out[name] = rows.contiguous().clone()


def main():
    torch.set_grad_enabled(False)
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else None
    torch.manual_seed(seed or 0)
    rng = random.Random(seed)
    vocoders = [random_vocoder(rng) for _ in range(4)] if seed is not None else ODD
    for e, (fields, rates, ratios, n_frames) in enumerate(vocoders):
        model = make_model(fields, rates, ratios)
        out = {"config": torch.tensor([fields[k] for k in CONFIG], dtype=torch.int32),
               "rates": torch.tensor(rates, dtype=torch.int32),
               "ratios": torch.tensor(ratios, dtype=torch.int32)}
        for name, p in model.named_parameters():
            out[f"code2wav.{name}"] = p.to(torch.bfloat16)

        def watch(module, name):
            module.register_forward_hook(lambda _m, _i, y: put(out, name, y[0]))
        for i, (conv, block) in enumerate(model.upsample):
            watch(conv, f"upsample.{i}.conv")
            watch(block, f"upsample.{i}.block")
        for i, block in enumerate(model.decoder):
            watch(block, f"decoder.{i}")
        model.pre_transformer.register_forward_hook(
            lambda _m, _i, y: out.update({"transformer": y.last_hidden_state[0].clone()}))
        codes = torch.randint(0, fields["codebook_size"], (1, fields["num_quantizers"], n_frames))
        wav = model(codes)
        out["codes"] = codes[0].to(torch.int32)
        put(out, "wav_oneshot", wav[0, 0])
        clipped = (wav.abs() >= 1).float().mean().item()
        print(f"{e}: {tuple(wav.shape)} samples, rms {wav.square().mean().sqrt():.3f}, "
              f"clipped {clipped:.3f}")
        save_file(out, os.path.join(sys.argv[1], f"{e}.safetensors"))


main()
