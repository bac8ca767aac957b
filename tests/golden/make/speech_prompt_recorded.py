#!/usr/bin/env python3
"""Recorded answers of tiny-omni as cases of speech_prompt.py: which ids the recorded rows were made of.

    ref/bin/python tests/golden/make/speech_prompt_recorded.py SPEECH    # writes ../speech-prompt/recorded.json

SPEECH is the folder of the reference's recorded spoken answers, CASE/case.json and CASE/tensors.safetensors.
A row's id is that whose text_projection is nearest once the row's code is taken off: at most 2e-3 away, the
next one is over 0.1.
"""
import glob
import json
import os
import sys

import torch
from safetensors.torch import load_file

HERE = os.path.dirname(os.path.abspath(__file__))
MODEL = os.path.join(HERE, "..", "tiny-omni")
CONFIG = json.load(open(os.path.join(MODEL, "config.json")))
THINKER, TALKER = CONFIG["thinker_config"], CONFIG["talker_config"]
PLACEHOLDERS = [THINKER[k + "_token_id"] for k in ("audio", "image", "video")]
MEDIA = {"audio": [{"kind": "audio", "n_tokens": 5, "in_video": False}],
         "image": [{"kind": "image", "n_tokens": 6, "grid": [1, 4, 6]}]}


def load_model():
    weights = {}
    for path in glob.glob(os.path.join(MODEL, "*.safetensors")):
        weights.update(load_file(path))
    part = lambda name: weights["talker.text_projection." + name].float()
    x = weights["thinker.model.embed_tokens.weight"].float() @ part("linear_fc1.weight").T + part("linear_fc1.bias")
    texts = torch.nn.functional.silu(x) @ part("linear_fc2.weight").T + part("linear_fc2.bias")
    return texts, weights["talker.model.codec_embedding.weight"].float()


def id_of(row, texts):
    d = torch.cdist(row[None], texts)[0].sort()
    assert d.values[0] < 2e-3 and d.values[1] > 0.1, d.values[:2]
    return int(d.indices[0])


def main():
    texts, code_rows = load_model()
    cases = []
    for name in ["text", "text-two-turns", "audio", "image"]:
        t = load_file(os.path.join(sys.argv[1], name, "tensors.safetensors"))
        speaker = json.load(open(os.path.join(sys.argv[1], name, "case.json")))["inputs"]["speaker"].lower()
        ids, answer, rows = t["input_ids"].tolist(), t["thinker_new_ids"].tolist(), t["talker_prefill_ids"].tolist()
        n = len(rows)
        codes = [-1] * (n - 6) + [TALKER["codec_nothink_id"], TALKER["codec_think_bos_id"],
                                  TALKER["codec_think_eos_id"], TALKER["speaker_id"][speaker],
                                  TALKER["codec_pad_id"], TALKER["codec_bos_id"]]
        plain = [row - (code_rows[c] if c >= 0 else 0) for row, c in zip(t["talker_prefill_embeds"], codes)]
        case = {"ids": ids, "answer": answer, "is_end": answer[-1] == CONFIG["im_end_token_id"], "per_second": 13,
                "media": MEDIA.get(name, []), "speaker": speaker, "next": float(t["talker_step1_position"][0, 0]),
                "text": [-1 if i in PLACEHOLDERS else id_of(row, texts) for i, row in zip(rows, plain)],
                "hidden": [at for at, i in enumerate(ids) if i in PLACEHOLDERS], "codes": codes,
                "trail": [id_of(row, texts) for row in t["trailing_text_hidden"]]}
        assert len(case["hidden"]) == (t["media_hidden"].shape[0] if "media_hidden" in t else 0)
        if t["talker_position_ids"].tolist() != [list(range(n))] * 3:
            case["axes"] = t["talker_position_ids"].tolist()
        cases.append(case)
    with open(os.path.join(HERE, "..", "speech-prompt", "recorded.json"), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")


main()
