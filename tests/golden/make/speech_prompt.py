#!/usr/bin/env python3
"""What the reference's generate gives the talker: rows of its prompt, positions, trailing text.

    python3 -m venv ref && ref/bin/pip install transformers==5.17.0 torch numpy
    ref/bin/python tests/golden/make/speech_prompt.py          # writes ../speech-prompt/cases.json
    ref/bin/python tests/golden/make/speech_prompt.py 3000 7 /tmp/more.json    # cases, seed, file
    build/tests/test_speech_prompt /tmp/more.json

The reference's own methods run, with stand-ins for the models: the embedding of an id is (id, 0, 0), the
hidden state of position i (0, i + 1, 0), the embedding of code c (0, 0, c + 1), and both projections leave
them as they are, so the talker's input says what it was made of. Where the reference raises an error, the case
names what is done instead ("instead"):
  silent   no user turn, no assistant turn, or too short an answer: nothing is said
  counted  sounds beside pictures or videos: the talker's config gets the field that it lacks
  grids    media in turns that are dropped: only the user turns' grids are given

A case: ids, answer, is_end (the answer's last id is the end id), media (kind, n_tokens, grid,
second_per_grid, sound, in_video), per_second, and either "instead": "silent" or text (id of each row, -1: a
hidden state), hidden (its positions in the prompt), codes (of each row, -1: none), axes [3][rows] (left out
where they are 0, 1, 2, ...), next (position of the first frame), trail (ids behind the prompt, up to
tts_eos). Special tokens as in tiny-omni's config.json. Random, but for a few that are written down.
"""
import json
import os
import random
import sys
from types import SimpleNamespace

import torch
from transformers.models.qwen3_omni_moe import modeling_qwen3_omni_moe as modeling

HERE = os.path.dirname(os.path.abspath(__file__))
CONFIG = json.load(open(os.path.join(HERE, "..", "tiny-omni", "config.json")))
THINKER, TALKER = CONFIG["thinker_config"], CONFIG["talker_config"]
START, END = CONFIG["im_start_token_id"], CONFIG["im_end_token_id"]
USER, ASSISTANT, SYSTEM = (CONFIG[r + "_token_id"] for r in ("user", "assistant", "system"))
PAD, EOS = CONFIG["tts_pad_token_id"], CONFIG["tts_eos_token_id"]
AUDIO, IMAGE, VIDEO = (THINKER[k + "_token_id"] for k in ("audio", "image", "video"))
VISION_START, VISION_END = THINKER["vision_start_token_id"], THINKER["vision_end_token_id"]
AUDIO_START, AUDIO_END = THINKER["audio_start_token_id"], THINKER["audio_end_token_id"]
MERGE, SPEAKER, NEWLINE = 2, "ethan", 10


class Given(Exception):
    """What the talker was given."""


def reference(ids, answer, is_end, media, per_second, grids):
    """The talker's inputs, by the reference's generate; whatever it raises instead."""
    n, layer = len(ids), TALKER["accept_hidden_layer"]
    embed = lambda x: torch.stack([x.float(), torch.zeros(x.shape), torch.zeros(x.shape)], dim=-1)
    code = lambda x: torch.stack([torch.zeros(x.shape), torch.zeros(x.shape), x.float() + 1], dim=-1)

    def thinker(input_ids, **_):
        sequence = torch.tensor([ids + answer])
        at = torch.arange(len(ids + answer)).unsqueeze(0)
        hidden = torch.stack([torch.zeros(at.shape), at.float() + 1, torch.zeros(at.shape)], dim=-1)
        cuts = [(0, n)] + [(n + k, n + k + 1) for k in range(len(answer) - 1)]
        states = [[embed(sequence[:, a:b])] + [hidden[:, a:b]] * layer for a, b in cuts]
        return SimpleNamespace(sequences=sequence, hidden_states=states)

    def talker(**given):
        raise Given(given)

    kind = modeling.Qwen3OmniMoeForConditionalGeneration
    config = SimpleNamespace(
        im_start_token_id=START, user_token_id=USER, assistant_token_id=ASSISTANT, tts_pad_token_id=PAD,
        tts_bos_token_id=CONFIG["tts_bos_token_id"], tts_eos_token_id=EOS,
        thinker_config=SimpleNamespace(audio_token_id=AUDIO, image_token_id=IMAGE, video_token_id=VIDEO),
        talker_config=SimpleNamespace(speaker_id=TALKER["speaker_id"], accept_hidden_layer=layer,
                                      text_config=SimpleNamespace(vocab_size=4096, hidden_size=3),
                                      **{k: v for k, v in TALKER.items() if k.startswith("codec_")}))
    model = SimpleNamespace(
        has_talker=True, config=config,
        thinker=SimpleNamespace(generate=thinker, device="cpu", get_input_embeddings=lambda: embed),
        talker=SimpleNamespace(generate=talker, dtype=torch.float32, text_projection=lambda x: x,
                               hidden_projection=lambda x: x, get_input_embeddings=lambda: code))
    model._get_talker_user_parts = lambda *a: kind._get_talker_user_parts(model, *a)
    model._get_talker_assistant_parts = lambda *a: kind._get_talker_assistant_parts(model, *a)
    extra = {}
    images = [m["grid"] for m in media if m["kind"] == "image" and m["name"] in grids]
    videos = [m["grid"] for m in media if m["kind"] == "video" and m["name"] in grids]
    sounds = [m["frames"] for m in media if m["kind"] == "audio" and m["name"] in grids]
    if images:
        extra["image_grid_thw"] = torch.tensor(images)
    if videos:
        extra["video_grid_thw"] = torch.tensor(videos)
        extra["video_second_per_grid"] = torch.tensor(
            [m["second_per_grid"] for m in media if m["kind"] == "video" and m["name"] in grids])
    if sounds:
        extra["feature_attention_mask"] = torch.tensor(
            [[1] * f + [0] * (max(sounds) - f) for f in sounds])
    eos = [END, answer[-1]] if is_end else END
    try:
        kind.generate.__wrapped__(model, torch.tensor([ids]), speaker=SPEAKER, thinker_eos_token_id=eos, **extra)
    except Given as g:
        given = g.args[0]
    return given


def positions(given, per_second, with_audio):
    """Of the prompt and of the first frame, as the talker's forward makes them."""
    config = SimpleNamespace(
        image_token_id=IMAGE, video_token_id=VIDEO, audio_token_id=AUDIO, vision_start_token_id=VISION_START,
        audio_start_token_id=AUDIO_START, position_id_per_seconds=per_second)
    if with_audio:
        config.audio_config = SimpleNamespace(n_window=50)
    model = SimpleNamespace(spatial_merge_size=MERGE, config=config)
    kind = modeling.Qwen3OmniMoeTalkerForConditionalGeneration
    model.get_llm_pos_ids_for_vision = lambda *a: kind.get_llm_pos_ids_for_vision(model, *a)
    mask = given["attention_mask"]
    p, delta = kind.get_rope_index(
        model, given["talker_input_ids"], given.get("image_grid_thw"), given.get("video_grid_thw"), mask, None,
        given.get("audio_feature_lengths"), given.get("video_second_per_grid"))
    delta = delta - (1 - mask).sum(dim=-1).unsqueeze(1)
    first = torch.arange(1).view(1, -1).add(mask.shape[1] + delta)
    return p[:, 0].float(), float(first[0, 0])


def user_media(ids, places):
    """Names of the media in user turns."""
    return [name for name, at in places.items()
            if ids[min(max([i for i in range(at + 1) if ids[i] == START], default=0) + 1, len(ids) - 1)] == USER]


def case(ids, answer, is_end, media, places, per_second):
    c = {"ids": ids, "answer": answer, "is_end": is_end, "per_second": per_second,
         "media": [{k: v for k, v in m.items() if k not in ("frames", "name")} for m in media]}
    in_user = user_media(ids, places)
    own = [m["name"] for m in media if m["name"] in in_user]
    try:
        given = reference(ids, answer, is_end, media, per_second, own)
    except (RuntimeError, IndexError):
        return dict(c, instead="silent")
    embeds, trail = given["inputs_embeds"][0], given["trailing_text_hidden"][0]
    if given["attention_mask"].shape[1] != embeds.shape[0]:
        return dict(c, instead="silent")  # no user turn: all rows, but none in the mask
    kinds = {m["kind"] for m in media if m["name"] in own}
    if len(own) != len(media):
        c["instead"] = "grids"
    with_audio = "audio" in kinds and len(kinds) > 1
    if with_audio:
        c["instead"] = "counted"
    p, c["next"] = positions(given, per_second, with_audio)
    assert p.shape == (3, embeds.shape[0])
    hidden = embeds[:, 1] > 0
    assert bool(((embeds[:, 0] == 0) | ~hidden).all())
    c["text"] = [-1 if h else int(i) for h, i in zip(hidden, embeds[:, 0])]
    c["hidden"] = [int(i) - 1 for i in embeds[:, 1][hidden]]
    c["codes"] = [int(i) - 1 for i in embeds[:, 2]]
    if p.tolist() != [list(range(len(embeds)))] * 3:
        c["axes"] = p.tolist()  # the shortest decimals that give the f32 back as a double
    trail = [int(i) for i in trail[:, 0]]
    last = trail.index(EOS)
    assert all(i == PAD for i in trail[last + 1:])
    c["trail"] = trail[:last + 1]
    return c


# ---- prompts ----

def audio_tokens(frames):
    return int(modeling._get_feat_extract_output_lengths(torch.tensor(frames)))


class Prompt:
    def __init__(self, r, small):
        self.r, self.ids, self.media, self.places = r, [], [], {}
        self.side = lambda: 2 * r.randint(1, 4 if small else 9)
        self.frames = lambda: r.randint(1, 60 if small else 1500)
        self.times = lambda: r.randint(1, 3 if small else 9)

    def text(self, most=6):
        self.ids += [self.r.randint(97, 122) for _ in range(self.r.randint(0, most))]

    def note(self, kind, **more):
        m = {"kind": kind, "name": len(self.media), **more}
        self.places[m["name"]] = len(self.ids)
        self.media.append(m)
        return m

    def sound(self):
        self.ids.append(AUDIO_START)
        frames = self.frames()
        m = self.note("audio", n_tokens=audio_tokens(frames), frames=frames, in_video=False)
        self.ids += [AUDIO] * m["n_tokens"] + [AUDIO_END]

    def image(self):
        self.ids.append(VISION_START)
        h, w = self.side(), self.side()
        m = self.note("image", n_tokens=h * w // 4, grid=[1, h, w])
        self.ids += [IMAGE] * m["n_tokens"] + [VISION_END]

    def video(self):
        self.ids.append(VISION_START)
        t, h, w = self.times(), self.side(), self.side()
        spg = 2 / self.r.choice([0.7, 1, 2, 3, 12.5, 23.976, 25, 29.97, 60]) if self.r.random() < 0.8 \
            else self.r.uniform(0.01, 4)
        m = self.note("video", n_tokens=t * h * w // 4, grid=[t, h, w], second_per_grid=spg)
        self.ids += [VIDEO] * m["n_tokens"] + [VISION_END]

    def video_with_sound(self, per_second):
        self.video()
        v, frames = self.media[-1], self.frames()
        v["sound"] = len(self.media)
        at = self.places[v["name"]] + 1
        n = audio_tokens(frames)
        per_time = v["n_tokens"] // v["grid"][0]
        times = [k // per_time * v["second_per_grid"] * per_second for k in range(v["n_tokens"])]
        body, a = [], 0
        for t in times:
            body += [AUDIO] * (sum(k < t for k in range(n)) - a)
            a = sum(k < t for k in range(n))
            body.append(VIDEO)
        body += [AUDIO] * (n - a)
        self.ids[at - 1:] = [AUDIO_START] + body + [AUDIO_END, VISION_END]
        self.places[v["name"]] = at
        self.places[len(self.media)] = at + body.index(AUDIO)
        self.media.append({"kind": "audio", "name": len(self.media), "n_tokens": n, "frames": frames, "in_video": True})

    def turn(self, role, kinds=(), end=True, most=6):
        self.ids += [START, role, NEWLINE]
        self.text(most)
        for k in kinds:
            getattr(self, k)() if k != "video_with_sound" else self.video_with_sound(13)
            self.text(2)
        if end:
            self.ids += [END, NEWLINE]


# How a prompt ends: the usual header, nothing at all, without the newline, with text that the
# answer continues, with a turn of another role.
ENDS = ["header"] * 8 + ["none", "bare", "continued", "continued", "continued", "user", "system", "start"]


def random_case(r, small):
    p = Prompt(r, small)
    kinds = r.choice([[], [], ["sound"], ["image"], ["image"], ["video"], ["video"], ["image", "video"],
                      ["sound", "image"], ["sound", "image", "video"], ["video_with_sound"]])
    some = lambda: [r.choice(kinds) for _ in range(r.choice([0, 1, 1, 2]))] if kinds else []
    if r.random() < 0.15:
        p.text()  # before the first turn
        p.ids += [USER] if r.random() < 0.3 else []
    for _ in range(r.choice([1, 1, 2, 2, 3, 4])):
        if r.random() < 0.4:
            p.turn(SYSTEM, some() if r.random() < 0.1 else [])
        if r.random() < 0.95:
            p.turn(USER, some())
        if r.random() < 0.4:
            p.turn(ASSISTANT, some() if r.random() < 0.05 else [])
    end = r.choice(ENDS)
    if end == "header" or end == "bare":
        p.ids += [START, ASSISTANT] + [NEWLINE] * (end == "header")
    elif end == "continued":
        p.turn(ASSISTANT, end=False, most=9)
    elif end in ("user", "system"):
        p.turn(USER if end == "user" else SYSTEM, end=r.random() < 0.5)
    elif end == "start":
        p.ids += [START]
    if not p.ids:
        p.ids = [97]
    n = r.choice([1, 1, 2, 3, 4, 5, 5, 8, 12])
    is_end = r.random() < 0.6
    answer = [r.randint(97, 122) for _ in range(n - is_end)] + [END] * is_end
    if r.random() < 0.1:
        answer[0] = r.choice([AUDIO, IMAGE, START, USER, VISION_START] if n > 1 else answer[:1])
    return case(p.ids, answer, is_end, p.media, p.places, r.choice([13, 13, 13, 25, 12.5]))


def large_pictures():
    """More rows than positions, and these fractional: the way back to the first frame rounds."""
    grids = [[2, 2, 2], [1, 20, 20], [1, 20, 20], [1, 20, 20], [1, 20, 20], [1, 20, 20]]
    ids, media, places = [START, USER, NEWLINE], [], {}
    for i, g in enumerate(grids):
        n = g[0] * g[1] * g[2] // 4
        video = {"kind": "video", "second_per_grid": 2 / 29.97} if i == 0 else {"kind": "image"}
        media.append(dict(video, name=i, n_tokens=n, grid=g))
        places[i] = len(ids) + 1
        ids += [VISION_START] + [VIDEO if i == 0 else IMAGE] * n + [VISION_END]
    ids += [END, NEWLINE, START, ASSISTANT, NEWLINE]
    return case(ids, [99, 100, END], True, media, places, 13)


def written_down():
    system = [START, SYSTEM, NEWLINE, 97, END, NEWLINE]
    user = [START, USER, NEWLINE, 98, END, NEWLINE]
    header = [START, ASSISTANT, NEWLINE]
    plain = lambda ids, answer, is_end: case(ids, answer, is_end, [], {}, 13)
    return [
        plain(system + user + header, [99, 100, END], True),
        plain(user + header, [99, 100, 101], False),                 # cut: the last id is lost too
        plain(user + header, [END], True),                           # the end at once
        plain(user + header, [99], False),
        plain(user + header, [99, END], True),                       # one word
        plain(system + header, [99, 100, END], True),                # no user turn
        plain(user, [99, 100, END], True),                           # no assistant turn
        plain(user + header[:2], [NEWLINE, 99, 100, END], True),     # the newline is generated
        plain(user + header[:2], [99, END], True),
        plain(user + header + [102, 103, 104], [99, 100, END], True),     # continued: words are lost
        plain(user + header + [102, 103, 104], [99, 100, 101], False),
        plain(user + header + [102, 103, 104], [END], True),
        plain(user + header + [102], [99, 100, END], True),
        plain(user + header + [102, END, NEWLINE] + user, [99, 100, END], True),  # all of it is spoken
        plain([97, USER, 98] + header, [99, 100, END], True),        # before im_start: no role there
        plain([97, 98] + user + header + user + header, [99, 100, END], True),
        plain(user + [START], [99, END], True),
        plain(user + header + [START], [99, END], True),
        plain([START], [99, END], True),
        large_pictures(),
    ]


def main():
    n, seed = (int(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 2 else (110, 1)
    out = sys.argv[3] if len(sys.argv) > 3 else os.path.join(HERE, "..", "speech-prompt", "cases.json")
    r = random.Random(seed)
    cases = written_down() + [random_case(r, small=len(sys.argv) <= 2) for _ in range(n)]
    os.makedirs(os.path.dirname(os.path.abspath(out)), exist_ok=True)
    with open(out, "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")


main()
