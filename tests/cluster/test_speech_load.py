#!/usr/bin/env python3
"""Spoken and written answers of whole jobs, many at a time, each as if it were alone, wherever the parts are; with the
talker's experts on other workers, and the homes of both decoders waiting for each other's experts; interrupted at
any time.

1 to 4 workers; 16 requests at once, 12 of them spoken.
"""
import base64
import json
import os
import signal
import struct
import time
import unittest

from real_job import FLOTILLA, RealJob, SLOWER, TINY

MEDIA = os.path.join(os.environ["FLOTILLA_SOURCE_DIR"], "tests/golden")


def picture(name):
    return {"type": "image_url", "image_url": {"url": os.path.join(MEDIA, name)}}


def request(i):
    """Sampled and greedy answers, of both modes; with pictures; given texts; and some that are not spoken."""
    words = " ".join(f"word{k}" for k in range(1 + i * 5))
    content = [{"type": "text", "text": words}]
    if i % 4 == 1:
        content.insert(0, picture("image/d_320x240.jpg" if i % 8 == 1 else "image/b_100x37.png"))
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 4 + i % 9, "temperature": 0}
    speech = {"speaker": ("Ethan", "Chelsie", "Aiden")[i % 3], "mode": ("seamless", "exact")[i % 2],
              "max_new_tokens": 6 + 5 * i, "greedy": i % 5 == 0}
    if not speech["greedy"]:
        body["seed"] = 40 + i
        speech.update(temperature=0.6 + 0.1 * i, top_k=(0, 30)[i % 2], top_p=(1.0, 0.9)[i % 2])
    if i % 4 != 3:
        body["speech"] = speech
    if i % 8 == 2:
        del body["messages"], body["max_tokens"], body["temperature"]
        body["speak"] = words
    return {"custom_id": f"r{i}", "body": body}


def said(answer):
    """Text and sound (None: not spoken) of an answer."""
    message = answer["response"]["body"]["choices"][0]["message"]
    return message["content"], message.get("audio", {}).get("data")


class SpeechLoad(RealJob):
    def cluster(self, n_workers, n_stages, n_owners):
        """A file in which n_owners workers divide the talker's experts."""
        path = self.path(f"cluster-{n_workers}-{n_stages}-{n_owners}.json")
        with open(path, "w") as f:
            json.dump({"stages": n_stages, "hosts": [{"host": "localhost", "workers": n_workers}],
                       "pins": [{"part": "talker", "host": "localhost", "workers": n_owners}]}, f)
        return path

    def batch(self, lines, n_workers, *words):
        with open(self.path("in.jsonl"), "w") as f:
            f.writelines(json.dumps(line) + "\n" for line in lines)
        self.mpirun(n_workers, "--quiet", "--model", TINY, "--threads", "1", "--requests", self.path("in.jsonl"),
                    "--output", self.path("out.jsonl"), *words, seconds=100)
        self.assertEqual((self.code, self.out, self.err), (0, "", ""))
        with open(self.path("out.jsonl")) as f:
            answers = [json.loads(line) for line in f]
        self.assertEqual([a["error"] for a in answers], [None] * len(lines))
        return {a["custom_id"]: said(a) for a in answers}

    def test_ten_speakers_do_not_mix_wherever_the_parts_are(self):
        lines = [request(i) for i in range(16)]
        one = self.batch(lines, 1)
        spoken = [sound for text, sound in one.values() if sound is not None]
        self.assertEqual(len(spoken), 12)
        self.assertGreater(len(set(spoken)), 9)
        for sound in spoken:
            wav = base64.b64decode(sound)
            n_samples = struct.unpack_from("<I", wav, 40)[0] // 2
            self.assertEqual((wav[:4], len(wav)), (b"RIFF", 44 + 2 * n_samples))
            self.assertTrue(n_samples == 0 or (n_samples + 555) % 1920 == 0, n_samples)
        for i in (0, 5, 10, 14):  # alone
            self.assertEqual(self.batch([lines[i]], 1), {f"r{i}": one[f"r{i}"]})
        self.assertEqual(self.batch(lines[::-1], 3), one)  # a part on each
        self.assertEqual(self.batch(lines, 3, "--kv-tokens", 448), one)  # not all have room at a time
        for n_workers, n_stages, n_owners in ((2, 1, 2), (4, 2, 4), (3, 3, 2)):
            with self.subTest(n_workers=n_workers, n_stages=n_stages, n_owners=n_owners):
                path = self.cluster(n_workers, n_stages, n_owners)
                self.assertEqual(self.batch(lines, n_workers, "--cluster", path, "--deterministic"), one)

    def test_spread_experts_answer_under_load(self):
        """Homes of both decoders that own experts of the other, in steps all the time."""
        lines = [request(i % 16) for i in range(48)]
        for i, line in enumerate(lines):
            line["custom_id"] = f"r{i}"
        answers = self.batch(lines, 2, "--cluster", self.cluster(2, 1, 2))
        self.assertEqual(len(answers), 48)
        for i in range(16):  # whatever the company was
            self.assertEqual(answers[f"r{i}"], answers[f"r{i + 16}"])
            self.assertEqual(answers[f"r{i}"], answers[f"r{i + 32}"])

    def test_an_interrupt_at_any_time_ends_the_job(self):
        path = self.cluster(3, 2, 3)
        for tenths in range(2, 20, 3):
            words = "--model", TINY, "--cluster", path, "--prompt", "x " * 900, "--seed", "1", "--temperature", "1"
            p = self.start(FLOTILLA, "generate", *words, "--speech", self.path("x.wav"), "--max-new-tokens", "60000",
                           "--ignore-eos")
            time.sleep(tenths / 10)
            p.send_signal(signal.SIGINT)
            self.assertEqual(p.wait(10 * SLOWER), 130, p.stderr.read())
            self.nothing_left(within=2.0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
