#!/usr/bin/env python3
"""Spoken answers through the whole command: files, streams, splits, neighbours, and ways to end early.

What the parts compute is held against the reference by `flotilla verify` (test_verify.py); here it is that every
split gives the same sound, that ten speakers do not mix, that sound leaves while it is made, and that nothing hangs.
Real ranks, on the tiny checkpoint.
"""
import array
import base64
import json
import math
import os
import select
import signal
import struct
import time
import unittest

from real_job import FLOTILLA, RealJob, SLOWER, SOURCE, TINY, floats, read_dump, relative_error

GOLDEN = os.path.join(SOURCE, "tests/golden")

PICTURE = os.path.join(GOLDEN, "image/b_100x37.png")
HEAD = 44            # bytes in front of a WAV's samples
RATE, SHORT = 1920, 555  # samples of a frame; what one decode is short of


def read_wav(data):
    """The samples of a mono 24 kHz WAV of 16 bits; the head must be right to the byte."""
    riff, size, wave, fmt, n_fmt, kind, channels, rate, per_second, block, bits, name, n = struct.unpack("<4sI4s4sIHHIIHH4sI", data[:HEAD])
    assert (riff, wave, fmt, name) == (b"RIFF", b"WAVE", b"fmt ", b"data"), data[:HEAD]
    assert (n_fmt, kind, channels, rate, per_second, block, bits) == (16, 1, 1, 24000, 48000, 2, 16)
    if n != 0xffffffff:
        assert n == len(data) - HEAD and size == n + HEAD - 8, (n, size, len(data))
    return array.array("h", data[HEAD:])


def endless(folder):
    """The tiny checkpoint with a talker that never ends by itself: the end code's row of the head is all zero."""
    with open(os.path.join(TINY, "model.safetensors.index.json")) as f:
        shard = json.load(f)["weight_map"]["talker.codec_head.weight"]
    with open(os.path.join(TINY, "config.json")) as f:
        end = json.load(f)["talker_config"]["codec_eos_token_id"]
    os.mkdir(folder)
    for name in os.listdir(TINY):
        if name != shard:
            os.symlink(os.path.join(TINY, name), os.path.join(folder, name))
    with open(os.path.join(TINY, shard), "rb") as f:
        data = bytearray(f.read())
    n, = struct.unpack("<Q", data[:8])
    tensor = json.loads(data[8:8 + n])["talker.codec_head.weight"]
    row = 2 * tensor["shape"][1]
    at = 8 + n + tensor["data_offsets"][0] + end * row
    data[at:at + row] = bytes(row)
    with open(os.path.join(folder, shard), "wb") as f:
        f.write(data)
    return folder


def listening_to(folder, layer):
    """The tiny checkpoint with a talker that takes another layer's states."""
    os.mkdir(folder)
    for name in os.listdir(TINY):
        if name != "config.json":
            os.symlink(os.path.join(TINY, name), os.path.join(folder, name))
    with open(os.path.join(TINY, "config.json")) as f:
        config = json.load(f)
    config["talker_config"]["accept_hidden_layer"] = layer
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)
    return folder


def projected(row):
    """A hidden state through the tiny talker's hidden_projection: fc2 silu(fc1 x + b1) + b2."""
    with open(os.path.join(TINY, "model.safetensors.index.json")) as f:
        shards = json.load(f)["weight_map"]

    def affine(name, x):
        name = "talker.hidden_projection." + name
        tensors = [read_dump(os.path.join(TINY, shards[name + part]))[name + part] for part in (".weight", ".bias")]
        weight, bias = (array.array("f", b"".join(b"\0\0" + t[2][i:i + 2] for i in range(0, len(t[2]), 2))) for t in tensors)
        return [sum(w * v for w, v in zip(weight[i * len(x):], x)) + b for i, b in enumerate(bias)]

    return affine("linear_fc2", [v / (1 + math.exp(-v)) for v in affine("linear_fc1", row)])


LONG = ["--max-new-tokens", "200", "--ignore-eos", "--talker-greedy", "--talker-repetition-penalty", "1"]


class Speech(RealJob):
    def spoken(self, *words, name="out.wav", command="generate", prompt=True, model=TINY, **more):
        """(document, samples) of an answer that is spoken into a file."""
        path = self.path(name)
        if prompt and command == "generate":
            words = ("--prompt", "Count to three.", "--max-new-tokens", 12, *words)
        code = self.flotilla(command, "--json", "--quiet", "--model", model, "--speech", path, *words, **more)
        self.assertEqual(code, 0, self.err)
        answer = json.loads(self.out)
        with open(path, "rb") as f:
            samples = read_wav(f.read())
        self.assertEqual(answer["speech"]["file"], path)
        self.assertEqual(answer["speech"]["sample_rate"], 24000)
        self.assertEqual(answer["speech"]["samples"], len(samples))
        self.assertEqual(answer["speech"]["frames"], len(answer["speech"]["codes"]))
        return answer, samples

    def write(self, name, text):
        path = self.path(name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def refused(self, part, *words, command="generate", code=2):
        self.flotilla(command, "--quiet", "--model", TINY, *words)
        self.one_line(part, code)

    # -- what is said

    def test_a_file_has_as_many_samples_as_its_frames_make(self):
        answer, samples = self.spoken("--talker-greedy", "--talker-max-new-tokens", 30, model=endless(self.path("endless")))
        frames = answer["speech"]["frames"]
        self.assertEqual(frames, 29)  # the last draw has no frame
        self.assertEqual(answer["speech"]["finish_reason"], "length")
        self.assertIn("--talker-max-new-tokens gives it more", self.err)
        self.assertEqual(len(samples), RATE * frames - SHORT)
        self.assertTrue(all(len(f) == 16 for f in answer["speech"]["codes"]))
        self.assertGreater(max(map(abs, samples)), 500)

    def test_the_dump_has_what_was_said(self):
        dump = self.path("d.safetensors")
        answer, samples = self.spoken("--talker-greedy", "--talker-max-new-tokens", 12, "--dump", dump)
        got = read_dump(dump)
        frames = answer["speech"]["frames"]
        self.assertEqual(got["codes"][:2], ("I64", [16, frames]))
        codes = array.array("q", got["codes"][2])
        self.assertEqual([[codes[g * frames + f] for g in range(16)] for f in range(frames)], answer["speech"]["codes"])
        wav = floats(got["wav"])
        self.assertEqual(len(wav), len(samples))
        self.assertTrue(all(abs(round(32767 * x) - y) <= 1 for x, y in zip(wav, samples)))
        self.assertEqual(got["talker_prefill_ids"][0], "I64")
        self.assertEqual(got["talker_prefill_ids"][1][0], got["talker_prefill_embeds"][1][0])
        self.assertEqual(got["trailing_text_hidden"][1][0], len(answer["ids"]) - 1)

    def test_a_seed_says_the_same_again_and_another_something_else(self):
        one = self.spoken("--seed", 5, "--talker-max-new-tokens", 20)
        again = self.spoken("--seed", 5, "--talker-max-new-tokens", 20)
        other = self.spoken("--seed", 6, "--talker-max-new-tokens", 20)
        self.assertEqual(one[0]["speech"]["codes"], again[0]["speech"]["codes"])
        self.assertEqual(one[1], again[1])
        self.assertNotEqual(one[0]["speech"]["codes"], other[0]["speech"]["codes"])

    def test_speakers_differ_and_case_does_not_matter(self):
        words = ["--talker-greedy", "--talker-max-new-tokens", 8]
        ethan = self.spoken("--speaker", "Ethan", *words)[0]["speech"]["codes"]
        self.assertEqual(self.spoken(*words)[0]["speech"]["codes"], ethan)
        self.assertEqual(self.spoken("--speaker", "ETHAN", *words)[0]["speech"]["codes"], ethan)
        self.assertNotEqual(self.spoken("--speaker", "chelsie", *words)[0]["speech"]["codes"], ethan)

    def test_text_cut_by_its_limit_ends_the_speech(self):
        for limit in (1, 2, 3):
            with self.subTest(limit=limit):
                dump = self.path("d.safetensors")
                answer, samples = self.spoken("--talker-greedy", "--talker-max-new-tokens", 40, "--max-new-tokens", limit, "--dump", dump)
                self.assertEqual(len(answer["ids"]), limit)
                if limit == 1:  # its only token has no state that the talker could take
                    self.assertEqual((answer["speech"]["frames"], len(samples)), (0, 0))
                    got = read_dump(dump)
                    self.assertEqual((got["codes"][1], got["wav"][1]), ([16, 0], [0]))
                else:
                    self.assertGreater(answer["speech"]["frames"], 0)

    def test_speak_says_a_text_as_the_answer_it_would_be(self):
        words = ["--talker-greedy", "--talker-max-new-tokens", 20]
        one, samples = self.spoken("--text", "Hello there.", *words, command="speak")
        self.assertEqual(one["speech"]["finish_reason"], "stop" if one["speech"]["frames"] < 19 else "length")
        self.assertGreater(one["speech"]["frames"], 0)
        again, same = self.spoken("--text", "Hello there.", "--workers", 3, *words, command="speak")
        self.assertEqual(samples, same)
        self.assertEqual(one["speech"]["codes"], again["speech"]["codes"])
        other, _ = self.spoken("--text", "Something else", *words, command="speak")
        self.assertNotEqual(one["speech"]["codes"], other["speech"]["codes"])

    def test_a_talker_that_listens_to_the_last_layer_hears_it_behind_the_final_norm(self):
        model, dump = listening_to(self.path("last"), 6), self.path("d.safetensors")
        for n_workers in (1, 3):
            with self.subTest(workers=n_workers):
                answer, _ = self.spoken("--image", PICTURE, "--talker-greedy", "--talker-max-new-tokens", 4, "--dump", dump,
                                        "--workers", n_workers, model=model)
                got = read_dump(dump)
                ids, spoken_ids = (list(array.array("q", got[name][2])) for name in ("input_ids", "talker_prefill_ids"))
                with open(os.path.join(model, "config.json")) as f:
                    picture = json.load(f)["talker_config"]["image_token_id"]
                normed, heard = floats(got["hidden.norm"]), floats(got["talker_prefill_embeds"])
                width, spoken_width = got["hidden.norm"][1][1], got["talker_prefill_embeds"][1][1]
                at, to = ids.index(picture) * width, spoken_ids.index(picture) * spoken_width
                self.assertLess(relative_error(heard[to:to + spoken_width], projected(normed[at:at + width])), 1e-4)
                self.assertEqual(answer["speech"]["frames"], 3)

    # -- splits

    def test_every_split_says_the_same_bits(self):
        words = ["--seed", 3, "--talker-max-new-tokens", 20, "--image", PICTURE]
        one = self.spoken("--workers", 1, *words)
        for split in (["--workers", 2], ["--workers", 3], ["--workers", 4], ["--workers", 2, "--threads", 1]):
            with self.subTest(split=split):
                got = self.spoken(*split, *words)
                self.assertEqual(got[0]["speech"]["codes"], one[0]["speech"]["codes"])
                self.assertEqual(got[1], one[1])

    def test_experts_of_the_talker_spread_over_workers(self):
        words = ["--talker-greedy", "--talker-max-new-tokens", 20]
        one = self.spoken("--workers", 1, *words)
        for spread, stages in ((2, 3), (3, 3), (3, 1), (3, 2)):
            with self.subTest(spread=spread, stages=stages):
                path = self.write("cluster.json", json.dumps({
                    "hosts": [{"host": "localhost", "workers": 3}], "stages": stages,
                    "pins": [{"part": "talker", "host": "localhost", "workers": spread}]}))
                got = self.spoken("--cluster", path, "--deterministic", *words)
                self.assertEqual(got[0]["speech"]["codes"], one[0]["speech"]["codes"])
                self.assertEqual(got[1], one[1])

    # -- streams

    def test_sound_leaves_while_it_is_made(self):
        job = self.start(FLOTILLA, "generate", "--quiet", "--model", endless(self.path("endless")), "--prompt", "Count to three.",
                         *LONG, "--talker-max-new-tokens", 1000, "--speech", "-")
        started = time.monotonic()
        got, first = b"", None
        while True:
            ready, _, _ = select.select([job.stdout], [], [], 120 * SLOWER)
            self.assertTrue(ready, "no sound came")
            piece = os.read(job.stdout.fileno(), 65536)
            if not piece:
                break
            got += piece
            if first is None and len(got) > HEAD:
                first = time.monotonic() - started
                ended = job.poll()
        whole = time.monotonic() - started
        self.assertEqual(job.wait(), 0)
        self.assertIsNone(ended)
        samples = read_wav(got)
        self.assertEqual(len(samples), RATE * 999 - SHORT)
        self.assertLess(first, 0.5 * whole)
        self.assertGreater(len(job.stderr.read()), 0)  # the text

    def test_a_stream_whose_listener_leaves_ends(self):
        job = self.start(FLOTILLA, "generate", "--quiet", "--model", endless(self.path("endless")), "--prompt", "Count.", *LONG,
                         "--talker-max-new-tokens", 20000, "--kv-tokens", 32768, "--speech", "-")
        os.read(job.stdout.fileno(), 4096)
        job.stdout.close()
        self.assertNotEqual(job.wait(timeout=30 * SLOWER), 0)
        self.nothing_left(within=3)

    def test_ctrl_c_ends_a_spoken_answer_within_two_seconds(self):
        path = self.path("out.wav")
        job = self.start(FLOTILLA, "generate", "--model", endless(self.path("endless")), "--prompt", "Count.", *LONG,
                         "--talker-max-new-tokens", 20000, "--kv-tokens", 32768, "--speech", path)
        self.wait_for("flotilla-worker", 1)
        time.sleep(2)
        self.assertIsNone(job.poll())
        started = time.monotonic()
        job.send_signal(signal.SIGINT)
        job.communicate(timeout=30 * SLOWER)
        self.assertEqual(job.returncode, 130)
        self.assertLess(time.monotonic() - started, 3 * SLOWER)
        self.nothing_left(within=3)

    def test_a_worker_that_dies_while_speaking_is_named(self):
        job = self.start(FLOTILLA, "generate", "--quiet", "--model", endless(self.path("endless")), "--workers", 2, "--prompt", "Count.",
                         *LONG, "--talker-max-new-tokens", 20000, "--kv-tokens", 32768, "--speech", self.path("out.wav"))
        pids = self.wait_for("flotilla-worker", 2)
        time.sleep(2)
        os.kill(pids[-1], signal.SIGKILL)
        _, err = job.communicate(timeout=30 * SLOWER)
        self.assertEqual(job.returncode, 1, err)
        self.assertIn(b"flotilla: error: ", err)
        self.nothing_left(within=3)

    # -- the two modes

    def long_speech(self, mode, frames):
        """More frames than the reference decodes at a time."""
        model = self.path("endless")
        return self.spoken("--talker-repetition-penalty", 1, "--seed", 8, "--talker-max-new-tokens", frames + 1, "--speech-mode", mode,
                           model=model if os.path.exists(model) else endless(model))

    def test_exact_loses_samples_at_each_cut_and_seamless_none(self):
        exact, cut = self.long_speech("exact", 620)
        seamless, whole = self.long_speech("seamless", 620)
        frames = exact["speech"]["frames"]
        self.assertEqual(frames, 620, "the talker ended by itself: choose another seed")
        self.assertEqual(exact["speech"]["codes"], seamless["speech"]["codes"])
        self.assertEqual(len(cut), RATE * frames - 3 * SHORT)
        self.assertEqual(len(whole), RATE * frames - SHORT)
        self.assertEqual(cut[:RATE * 300 - SHORT], whole[:RATE * 300 - SHORT])
        self.assertNotEqual(cut[RATE * 300 - SHORT:RATE * 300], whole[RATE * 300 - SHORT:RATE * 300])

    def test_seamless_has_no_click_at_any_border(self):
        # The steps from sample to sample where the reference cuts, and where chunks end, against those everywhere else.
        answer, whole = self.long_speech("seamless", 620)
        self.assertEqual(answer["speech"]["frames"], 620)
        steps = [abs(b - a) for a, b in zip(whole, whole[1:])]
        usual = sorted(steps)[int(0.999 * len(steps))]
        for cut in (300, 600):
            for at in (RATE * cut - SHORT, RATE * cut):
                self.assertLessEqual(max(steps[at - 3:at + 3]), usual)
        ends = [1, 3, 7, 15, 31] + list(range(63, 620, 32))
        near = [s for end in ends for s in steps[RATE * end - SHORT - 2:RATE * end - SHORT + 2]]
        self.assertLess(sum(near) / len(near), 2 * sum(steps) / len(steps))
        self.assertLessEqual(sorted(near)[len(near) * 9 // 10], usual)

    # -- among others

    def test_ten_speakers_do_not_mix(self):
        def body(i):
            return {"messages": [{"role": "user", "content": "Number %d, please: %s" % (i, "x" * i)}], "max_tokens": 4 + i,
                    "temperature": 0, "seed": 100 + i, "speech": {"speaker": ["Ethan", "Chelsie", "Aiden"][i % 3], "max_new_tokens": 10 + 3 * i,
                                                                 "greedy": i % 2 == 0, "mode": "exact"}}

        def ask(name, indices, n_workers):
            path = self.write(name, "".join(json.dumps({"custom_id": str(i), "body": body(i)}) + "\n" for i in indices))
            self.assertEqual(self.mpirun(n_workers, "--model", TINY, "--requests", path), 0, self.err)
            answers = {int(a["custom_id"]): a for a in map(json.loads, self.out.splitlines())}
            return {i: a["response"]["body"]["choices"][0]["message"] for i, a in answers.items()}

        together = ask("all.jsonl", range(10), 2)
        self.assertEqual(sorted(together), list(range(10)))
        for i in range(10):
            with self.subTest(i=i):
                alone = ask("one.jsonl", [i], 1)[i]
                self.assertEqual(together[i]["content"], alone["content"])
                self.assertEqual(together[i]["audio"]["data"], alone["audio"]["data"])
        sounds = {m["audio"]["data"] for m in together.values()}
        self.assertEqual(len(sounds), 10)
        self.assertGreater(len(read_wav(base64.b64decode(together[9]["audio"]["data"]))), 0)

    def test_spoken_and_written_answers_side_by_side(self):
        lines = []
        for i in range(6):
            body = {"messages": [{"role": "user", "content": "Say %d" % i}], "max_tokens": 6, "temperature": 0}
            if i % 2 == 0:
                body["speech"] = {"max_new_tokens": 12}
            lines.append(json.dumps({"custom_id": str(i), "body": body}))
        path = self.write("in.jsonl", "\n".join(lines) + "\n")
        self.assertEqual(self.mpirun(3, "--model", TINY, "--requests", path), 0, self.err)
        answers = {a["custom_id"]: a["response"]["body"]["choices"][0]["message"] for a in map(json.loads, self.out.splitlines())}
        self.assertEqual(sorted(answers), [str(i) for i in range(6)])
        for i, m in answers.items():
            self.assertEqual("audio" in m, int(i) % 2 == 0)

    def test_a_later_turn_with_a_picture_sounds_as_it_would_by_itself(self):
        # The second turn could take over what the first left in the KV cache, but the talker needs the picture's states again.
        picture = {"role": "user", "content": [{"type": "image", "image": PICTURE}, {"type": "text", "text": "What is it?"}]}

        def line(name, *messages):
            return json.dumps({"custom_id": name, "body": {"messages": messages, "max_tokens": 5, "temperature": 0,
                                                           "speech": {"greedy": True, "max_new_tokens": 12}}}) + "\n"
        path = self.write("one.jsonl", line("a", picture))
        self.assertEqual(self.mpirun(1, "--model", TINY, "--requests", path), 0, self.err)
        said = json.loads(self.out)["response"]["body"]["choices"][0]["message"]["content"]
        turns = [picture, {"role": "assistant", "content": said}, {"role": "user", "content": "Really?"}]
        path = self.write("later.jsonl", line("b", *turns))
        self.assertEqual(self.mpirun(1, "--model", TINY, "--requests", path), 0, self.err)
        alone = json.loads(self.out)["response"]["body"]["choices"][0]["message"]["audio"]["data"]
        path = self.write("both.jsonl", line("a", picture) + line("b", *turns))
        self.assertEqual(self.mpirun(1, "--model", TINY, "--requests", path), 0, self.err)
        both = {a["custom_id"]: a["response"]["body"]["choices"][0]["message"]["audio"]["data"] for a in map(json.loads, self.out.splitlines())}
        self.assertEqual(both["b"], alone)

    # -- what is refused

    def test_wrong_use_is_refused_in_a_line(self):
        out = self.path("out.wav")
        self.refused("aiden, chelsie and ethan", "--prompt", "x", "--speech", out, "--speaker", "Bob")
        self.refused("--no-speech", "--prompt", "x", "--speech", out, "--no-speech")
        self.refused("--speech", "--prompt", "x", "--speaker", "Ethan")
        self.refused("--talker-temperature", "--prompt", "x", "--speech", out, "--talker-temperature", "hot")
        self.refused("--talker-top-p", "--prompt", "x", "--speech", out, "--talker-top-p", 2)
        self.refused("--talker-max-new-tokens", "--prompt", "x", "--speech", out, "--talker-max-new-tokens", 0)
        self.refused("--speech-mode", "--prompt", "x", "--speech", out, "--speech-mode", "loud")
        self.refused("/no/such/folder", "--prompt", "x", "--speech", "/no/such/folder/out.wav", code=None)
        self.refused("text", "--speech", out, "--text", "", command="speak")
        self.refused("", "--speech", out, command="speak")
        self.assertFalse(os.path.exists(out))

    def test_a_request_that_is_refused_leaves_others_alone(self):
        bad = [{"speech": {"speaker": "Bob"}}, {"speech": {"temperature": -1}}, {"speech": {"max_new_tokens": 10 ** 9}}, {"speech": 3},
               {"speech": {"mode": "x"}}, {"speech": {"loud": True}}, {"speech": {"top_k": 1.5}}]
        lines = []
        for i, more in enumerate([{"speech": {"max_new_tokens": 6}}] + bad + [{"speech": {"max_new_tokens": 6}}]):
            lines.append(json.dumps({"custom_id": str(i), "body": dict(
                {"messages": [{"role": "user", "content": "Say it"}], "max_tokens": 4, "temperature": 0}, **more)}))
        path = self.write("in.jsonl", "\n".join(lines) + "\n")
        self.assertEqual(self.mpirun(2, "--model", TINY, "--requests", path), 0, self.err)
        answers = {int(a["custom_id"]): a for a in map(json.loads, self.out.splitlines())}
        self.assertEqual(sorted(answers), list(range(len(lines))))
        for i in range(1, len(bad) + 1):
            self.assertIsNotNone(answers[i]["error"], lines[i])
        self.assertIn("chelsie", answers[1]["error"]["message"])
        for i in (0, len(bad) + 1):
            self.assertIn("audio", answers[i]["response"]["body"]["choices"][0]["message"])

    def test_every_number_that_is_taken_can_be_spoken_with(self):
        ends = [{"temperature": t} for t in (0, 1e-300, 1e6)] + [{"top_p": p} for p in (0, 1e-300, 1)]
        ends += [{"top_k": k} for k in (0, 1, 2 ** 31 - 1)] + [{"repetition_penalty": p} for p in (1e-6, 1e6)]
        ends += [{"temperature": 1e-300, "repetition_penalty": 1e6}, {"temperature": 1e6, "top_p": 0, "repetition_penalty": 1e-6}]
        lines = [json.dumps({"custom_id": str(i), "body": {"messages": [{"role": "user", "content": "Say it"}], "max_tokens": 4,
                                                           "speech": dict(numbers, max_new_tokens=12)}}) for i, numbers in enumerate(ends)]
        path = self.write("in.jsonl", "\n".join(lines) + "\n")
        self.assertEqual(self.mpirun(2, "--model", TINY, "--requests", path), 0, self.err)
        answers = [json.loads(line) for line in self.out.splitlines()]
        self.assertEqual(len(answers), len(ends))
        for answer in answers:
            self.assertIsNone(answer["error"], ends[int(answer["custom_id"])])

    def test_without_speech_the_plan_is_smaller_and_says_by_how_much(self):
        def plan(*words):
            self.assertEqual(self.flotilla("plan", "--json", "--model", TINY, "--memory", "8G", *words), 0, self.err)
            return json.loads(self.out)
        with_speech, without = plan(), plan("--no-speech")
        parts = [p for w in with_speech["workers"] for p in w["parts"]]
        for part in ("talker", "code_predictor", "code2wav"):
            self.assertEqual(parts.count(part), 1)
            self.assertNotIn(part, [p for w in without["workers"] for p in w["parts"]])
        self.assertGreater(without["saved_bytes"]["speech"], 0)


if __name__ == "__main__":
    unittest.main()
