#!/usr/bin/env python3
"""Layouts of prompts with media as the reference makes them: placeholders expanded, positions.

    python3 -m venv ref && ref/bin/pip install transformers==5.17.0 torch numpy
    ref/bin/python tests/golden/make/prompt_layout.py            # writes ../prompt-layout/cases.json
    ref/bin/python tests/golden/make/prompt_layout.py 3000 7 /tmp/more.json    # cases, seed, file
    build/tests/test_media_prompt_layout /tmp/more.json

A case: text, media (kind, n_tokens, grid, second_per_grid, sound, in_video), per_second, the ids of the
expanded text (special tokens as in tiny-omni's config.json, any other byte as itself), axes [3][n] and
next [3]. Random, but for a few that are written down; the reference refuses none of them.
"""
import json
import os
import random
import re
import sys
from types import SimpleNamespace

import numpy as np
import torch
from transformers.models.qwen3_omni_moe import modeling_qwen3_omni_moe as modeling
from transformers.models.qwen3_omni_moe import processing_qwen3_omni_moe as processing

HERE = os.path.dirname(os.path.abspath(__file__))
CONFIG = json.load(open(os.path.join(HERE, "..", "tiny-omni", "config.json")))["thinker_config"]
TOKENS = {"<|image_pad|>": CONFIG["image_token_id"], "<|audio_pad|>": CONFIG["audio_token_id"],
          "<|video_pad|>": CONFIG["video_token_id"], "<|vision_start|>": CONFIG["vision_start_token_id"],
          "<|vision_end|>": CONFIG["vision_end_token_id"], "<|audio_start|>": CONFIG["audio_start_token_id"],
          "<|audio_end|>": CONFIG["audio_end_token_id"]}
MERGE = 2


def ids_of(text):
    parts = re.split("(" + "|".join(re.escape(t) for t in TOKENS) + ")", text)
    return [i for p in parts for i in ([TOKENS[p]] if p in TOKENS else p.encode())]


def audio_tokens(frames):
    return int(processing._get_feat_extract_output_lengths(torch.tensor(frames)))


def expand(text, audio_frames, images, videos, spg, in_video):
    processor = SimpleNamespace(image_processor=SimpleNamespace(merge_size=MERGE),
                                video_processor=SimpleNamespace(merge_size=MERGE),
                                audio_token="<|audio_pad|>", image_token="<|image_pad|>", video_token="<|video_pad|>",
                                vision_bos_token="<|vision_start|>", vision_eos_token="<|vision_end|>",
                                audio_bos_token="<|audio_start|>", audio_eos_token="<|audio_end|>")
    return processing.Qwen3OmniMoeProcessor.replace_multimodal_special_tokens(
        processor, [text], iter([audio_tokens(f) for f in audio_frames]), iter([torch.tensor(g) for g in images]),
        iter([torch.tensor(g) for g in videos]), video_second_per_grid=iter(spg), use_audio_in_video=in_video,
        position_id_per_seconds=13.0, seconds_per_chunk=2.0)[0]


def positions(ids, audio_frames, images, videos, spg, in_video, per_second):
    model = SimpleNamespace(spatial_merge_size=MERGE, config=SimpleNamespace(
        image_token_id=TOKENS["<|image_pad|>"], video_token_id=TOKENS["<|video_pad|>"],
        audio_token_id=TOKENS["<|audio_pad|>"], vision_start_token_id=TOKENS["<|vision_start|>"],
        audio_start_token_id=TOKENS["<|audio_start|>"], position_id_per_seconds=per_second,
        audio_config=SimpleNamespace(n_window=50)))
    kind = modeling.Qwen3OmniMoePreTrainedModelForConditionalGeneration
    model.get_llm_pos_ids_for_vision = lambda *a: kind.get_llm_pos_ids_for_vision(model, *a)
    ids = torch.tensor([ids])
    p, _ = kind.get_rope_index(model, ids, torch.tensor(images) if images else None,
                               torch.tensor(videos) if videos else None, torch.ones_like(ids), in_video,
                               torch.tensor(audio_frames) if audio_frames else None,
                               torch.tensor(spg) if videos else None)
    return p[:, 0].float().numpy()


def case(parts, in_video=False, per_second=13):
    """parts: str, ("image", h, w), ("audio", frames), ("video", t, h, w, spg[, frames]), ("bare", pad part)"""
    text, media, frames, images, videos, spg = "", [], [], [], [], []

    def sound(n, inside):
        frames.append(n)
        media.append({"kind": "audio", "n_tokens": audio_tokens(n), "in_video": inside})
    for p in parts:
        if isinstance(p, str):
            text += p
            continue
        bare = p[0] == "bare"
        p = p[1] if bare else p
        kind = {"image": "vision", "video": "vision", "audio": "audio"}[p[0]]
        pad = "<|%s_pad|>" % p[0]
        text += pad if bare else "<|%s_start|>%s<|%s_end|>" % (kind, pad, kind)
        if p[0] == "audio":
            sound(p[1], False)
        elif p[0] == "image":
            images.append([1, p[1], p[2]])
            media.append({"kind": "image", "n_tokens": p[1] * p[2] // MERGE**2, "grid": images[-1]})
        else:
            videos.append(list(p[1:4]))
            spg.append(p[4])
            media.append({"kind": "video", "n_tokens": p[1] * p[2] * p[3] // MERGE**2, "grid": videos[-1],
                          "second_per_grid": p[4]})
            if in_video:
                media[-1]["sound"] = len(media)
                sound(p[5], True)
    expanded = expand(text, frames, images, videos, spg, in_video)
    ids = ids_of(expanded)
    p = positions(ids, frames, images, videos, spg, in_video, per_second)
    assert p.shape == (3, len(ids))
    # Python writes the shortest decimals that give the double back, which is the f32 exactly.
    return {"text": text, "per_second": per_second, "media": media, "ids": ids,
            "axes": [[float(x) for x in row] for row in p], "next": [float(row[-1] + np.float32(1)) for row in p]}


FPS = [0.5, 0.7, 1, 1.5, 2, 3, 3.3, 7, 12.5, 23.976, 24, 25, 29.97, 30, 60]


def random_case(r, small):
    in_video = r.random() < 0.4
    side = (lambda: 2 * r.randint(1, 4)) if small else (lambda: 2 * r.randint(1, 12))
    length = (lambda: r.randint(1, 150)) if small else (lambda: r.choice([r.randint(1, 99), r.randint(100, 1200)]))
    parts, kinds = [], r.choice([["image"], ["video"], ["image", "audio"], ["video", "audio"], ["audio"],
                                 ["image", "video"], ["image", "video", "audio"]])
    for _ in range(r.randint(1, 3 if small else 6)):
        parts.append("".join(r.choice("ab <|>\n") for _ in range(r.choice([0, 0, 1, 3, 9]))))
        kind = r.choice(kinds)
        if kind == "image":
            parts.append(("image", side(), side()))
        elif kind == "audio":
            parts.append(("audio", length()))
        else:
            spg = 2.0 / r.choice(FPS) if r.random() < 0.8 else r.uniform(0.01, 4)
            parts.append(("video", r.randint(1, 4 if small else 9), side(), side(), spg, length()))
    parts.append("".join(r.choice("xyz") for _ in range(r.choice([0, 0, 1, 4]))))
    return case(parts, in_video, r.choice([13, 13, 13, 25, 12.5]))


def written_down():
    return [
        case(["abc", ("image", 4, 6), "x", ("audio", 20), "yz"]),                             # the page's A
        case(["a", ("video", 2, 4, 4, 1.0, 250), "b"], True),                                 # B
        case(["a", ("video", 2, 4, 4, 2 / 3), "b"]),                                          # C
        case(["", ("video", 1, 20, 2, 2.0, 40), "b"], True),                                  # D
        case([("bare", ("image", 4, 6)), "without marks"]),
        case([("bare", ("audio", 70)), "x", ("image", 2, 2), "sound without marks"]),
        case(["only text"]),
        case([("audio", 1), ("audio", 8), ("audio", 9), ("audio", 101)]),
        case(["<|audio_pad<|image_pad<|", ("image", 2, 2), "<<|vision_start|<|video_pad|"]),
        case([("image", 2, 2), ("image", 2, 8), ("image", 8, 2)]),
        case([("audio", 30), ("video", 3, 2, 4, 2 / 29.97, 33), ("audio", 9),
              ("video", 2, 4, 2, 2 / 29.97, 90), ("image", 4, 4)], True),
        case([("video", 1, 2, 16, 2.0, 9), "t"], True),
    ]


def main():
    n, seed = (int(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 2 else (48, 1)
    out = sys.argv[3] if len(sys.argv) > 3 else os.path.join(HERE, "..", "prompt-layout", "cases.json")
    r = random.Random(seed)
    cases = written_down() + [random_case(r, small=len(sys.argv) <= 2) for _ in range(n)]
    with open(out, "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")


main()
