#!/usr/bin/env python3
"""Makes tests/golden/odd-shapes: a random checkpoint whose shapes meet no block size, and what the
reference implementation computes with it.

    python3 -m venv ref && ref/bin/pip install transformers==5.17.0 torch safetensors numpy
    ref/bin/python tests/golden/make/odd_shapes.py tests/golden/odd-shapes

What is odd: hidden size 72 and expert size 24 (no multiples of 64), 3 heads of 20 (60 is not 72),
as many KV heads as query heads, a dense MLP in layers 0, 2, 3 and 4 (decoder_sparse_step 2,
mlp_only_layers [3]), 7 experts, weights of the chosen experts not normalised, a vocabulary of 1,100
(one whole grain of the LM head and a part). The file holds the tensors of the text part alone. The
tokenizer knows the 256 bytes; prompts are ids.
"""
import json
import os
import sys

import torch
from safetensors.torch import save_file
from transformers import Qwen3OmniMoeThinkerConfig, Qwen3OmniMoeThinkerForConditionalGeneration

LAYERS, TOKENS, GREEDY = 6, 70, 8
SEED = 4  # no choice of an expert or a token is close
VOCAB = 1100
TEXT = dict(vocab_size=VOCAB, hidden_size=72, num_hidden_layers=LAYERS, num_attention_heads=3,
            num_key_value_heads=3, head_dim=20, num_experts=7, num_experts_per_tok=3,
            moe_intermediate_size=24, intermediate_size=50, norm_topk_prob=False,
            decoder_sparse_step=2, mlp_only_layers=[3], rms_norm_eps=1e-5, hidden_act="silu",
            max_position_embeddings=4096, attention_bias=False, tie_word_embeddings=False,
            use_sliding_window=False, sliding_window=None, rope_theta=10000.0,
            rope_scaling=dict(rope_type="default", mrope_section=[4, 3, 3],
                              interleaved=True, mrope_interleaved=True))
AUDIO = dict(d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=16,
             num_mel_bins=128, output_dim=72, downsample_hidden_size=8, n_window=50,
             n_window_infer=800, max_source_positions=1500)
VISION = dict(depth=3, hidden_size=16, num_heads=2, intermediate_size=16, patch_size=16,
              spatial_merge_size=2, temporal_patch_size=2, in_channels=3, out_hidden_size=72,
              num_position_embeddings=16, deepstack_visual_indexes=[0, 1, 2])
TOKEN_IDS = dict(audio_token_id=1090, image_token_id=1091, video_token_id=1092,
                 vision_start_token_id=1093, vision_end_token_id=1094, audio_start_token_id=1095,
                 audio_end_token_id=1096)
TOP = dict(im_start_token_id=1080, im_end_token_id=1081, system_token_id=1082, user_token_id=1083,
           assistant_token_id=1084, tts_pad_token_id=1085, tts_bos_token_id=1086,
           tts_eos_token_id=1087)


def make_model():
    torch.manual_seed(SEED)
    torch.set_grad_enabled(False)
    config = Qwen3OmniMoeThinkerConfig(audio_config=AUDIO, vision_config=VISION, text_config=TEXT,
                                       position_id_per_seconds=13, user_token_id=1083, **TOKEN_IDS)
    model = Qwen3OmniMoeThinkerForConditionalGeneration._from_config(
        config, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager")
    for name, p in model.named_parameters():
        if p.dim() >= 2:
            p.normal_(0, 1.0 / p.shape[-1] ** 0.5)
        elif name.endswith("norm.weight"):
            p.normal_(1, 0.1)
        p.copy_(p.to(torch.bfloat16).float())  # what the file will hold
    return model.eval()


def published_names(model):
    """The text part as published: one tensor for each expert's matrix."""
    out = {}
    for name, p in model.state_dict().items():
        if not name.startswith(("model.", "lm_head.")):
            continue
        p = p.to(torch.bfloat16)
        if name.endswith("experts.gate_up_proj"):
            size = p.shape[1] // 2
            for e in range(p.shape[0]):
                stem = "thinker.%s.%d." % (name.removesuffix(".gate_up_proj"), e)
                out[stem + "gate_proj.weight"] = p[e, :size]
                out[stem + "up_proj.weight"] = p[e, size:]
        elif name.endswith("experts.down_proj"):
            for e in range(p.shape[0]):
                out["thinker.%s.%d.down_proj.weight" % (name.removesuffix(".down_proj"), e)] = p[e]
        else:
            out["thinker." + name] = p
    return {k: v.contiguous().clone() for k, v in out.items()}


def prompt_pass(model, ids):
    got, hooks = {}, []

    def keep(name, x):
        got[name] = x.detach().clone()

    layers = model.model.layers
    for i, layer in enumerate(layers):
        hooks.append(layer.register_forward_pre_hook(
            lambda m, x, k, i=i: keep("hidden.%d" % i, (x[0] if x else k["hidden_states"])[0]),
            with_kwargs=True))
        if hasattr(layer.mlp, "gate"):
            hooks.append(layer.mlp.gate.register_forward_hook(
                lambda m, x, o, i=i: [keep("router_%s.%d" % (n, i), v)
                                      for n, v in zip(("logits", "weights", "ids"), o)] and None))
    hooks.append(model.model.norm.register_forward_pre_hook(
        lambda m, x: keep("hidden.%d" % LAYERS, x[0][0])))
    hooks.append(model.model.norm.register_forward_hook(
        lambda m, x, o: keep("hidden.norm", o[0])))
    out = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    for h in hooks:
        h.remove()
    logits = out.logits[0]
    at = list(range(0, TOKENS, 23)) + [TOKENS - 1]
    got["logits_at"] = torch.tensor(at)
    got["logits"] = logits[at]
    return got, logits


def greedy(model, ids):
    out = []
    gap = 1e9
    for _ in range(GREEDY):
        model.rope_deltas = None
        row = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0, -1]
        best = row.topk(2).values
        gap = min(gap, float(best[0] - best[1]))
        out.append(int(row.argmax()))
        ids = torch.cat([ids, torch.tensor([[out[-1]]])], 1)
    return torch.tensor(out), gap


def tensor_facts(t):
    if not t.is_floating_point():
        return dict(shape=list(t.shape), atol=0.0, rtol=0.0, dtype="int32")
    rms = float(t.pow(2).mean().sqrt())
    return dict(shape=list(t.shape), rms=round(rms, 6), max_abs=round(float(t.abs().max()), 6),
                atol=float("%.2g" % (5e-4 * rms)), rtol=1e-3, dtype="float32")


def save_case(folder, model):
    ids = torch.randint(0, 1080, (1, TOKENS), generator=torch.Generator().manual_seed(SEED))
    model.rope_deltas = None
    got, logits = prompt_pass(model, ids)
    got["input_ids"] = ids[0]
    got["greedy_ids"], gap = greedy(model, ids)
    router_gap = min(float((s[:, TEXT["num_experts_per_tok"] - 1] -
                            s[:, TEXT["num_experts_per_tok"]]).min())
                     for s in (v.sort(-1, descending=True).values
                               for k, v in got.items() if k.startswith("router_logits")))
    got = {k: (v.float() if v.is_floating_point() else v.to(torch.int32)).contiguous()
           for k, v in sorted(got.items())}
    os.makedirs(folder, exist_ok=True)
    save_file(got, folder + "/tensors.safetensors")
    case = dict(section="thinker", name="odd-%03d" % TOKENS,
                description="%d random ids through a model of odd shapes" % TOKENS, inputs={},
                facts=dict(tokens=TOKENS, smallest_top1_top2_logit_gap=gap,
                           smallest_router_logit_gap=router_gap),
                tensors={k: tensor_facts(v) for k, v in got.items()})
    with open(folder + "/case.json", "w") as f:
        json.dump(case, f, indent=1)
        f.write("\n")
    print("gaps", gap, router_gap)


def byte_names():
    """The printable names that byte-level vocabularies give to bytes."""
    plain = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255]
    rest = [b for b in range(256) if b not in plain]
    return {**{chr(b): b for b in plain}, **{chr(256 + i): b for i, b in enumerate(rest)}}


def save_tokenizer(folder):
    special = {"<|im_start|>": TOP["im_start_token_id"], "<|im_end|>": TOP["im_end_token_id"]}
    decoder = {str(i): dict(content=t, lstrip=False, normalized=False, rstrip=False,
                            single_word=False, special=True) for t, i in special.items()}
    config = dict(tokenizer_class="Qwen2Tokenizer", added_tokens_decoder=decoder,
                  eos_token="<|im_end|>", unk_token=None)
    for name, what in (("vocab.json", byte_names()), ("tokenizer_config.json", config)):
        with open(folder + "/" + name, "w") as f:
            json.dump(what, f)
            f.write("\n")
    with open(folder + "/merges.txt", "w") as f:
        f.write("#version: 0.2\n")


def save_model(folder, model):
    os.makedirs(folder, exist_ok=True)
    save_file(published_names(model), folder + "/model.safetensors", metadata={"format": "pt"})
    thinker = dict(model_type="qwen3_omni_moe_thinker", text_config=TEXT, audio_config=AUDIO,
                   vision_config=VISION, position_id_per_seconds=13, user_token_id=1083,
                   **TOKEN_IDS)
    config = dict(architectures=["Qwen3OmniMoeForConditionalGeneration"],
                  model_type="qwen3_omni_moe", enable_audio_output=False, dtype="bfloat16",
                  thinker_config=thinker, **TOP)
    with open(folder + "/config.json", "w") as f:
        json.dump(config, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    root = sys.argv[1]
    the_model = make_model()
    save_model(root + "/model", the_model)
    save_tokenizer(root + "/model")
    save_case(root + "/thinker/odd-%03d" % TOKENS, the_model)
