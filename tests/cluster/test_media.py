#!/usr/bin/env python3
"""Pictures, sound and video through the whole command: from files of other programs to the answer.

What the encoders compute is held against the reference by `flotilla verify` (test_verify.py); here it is that
every way in leads to the same numbers, that splits and neighbours change nothing, and that what cannot be read
ends in one line while others are served on. Real ranks, on the tiny checkpoint; 1, 2 and 3 workers.
"""
import base64
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import time
import unittest
import zlib

from real_job import (COORDINATOR, FLOTILLA, MPI_ENVIRONMENT, RealJob, SLOWER, SOURCE, TINY, WORKER, floats, read_dump,
                      relative_error)

GOLDEN = os.path.join(SOURCE, "tests/golden")
PICTURE = os.path.join(GOLDEN, "image/b_100x37.png")
SOUND = os.path.join(GOLDEN, "audio/short.wav")
LONGER = os.path.join(GOLDEN, "audio/mid.wav")


def png(width, height, rows):
    """A PNG of 8-bit RGB; rows may be fewer than the header says."""
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def wav(samples, rate=16000, promised=None):
    data = struct.pack("<%dh" % len(samples), *samples)
    n = len(data) if promised is None else promised
    return (b"RIFF" + struct.pack("<I", 36 + n) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16) +
            b"data" + struct.pack("<I", n) + data)


class Media(RealJob):
    def write(self, name, data):
        path = self.path(name)
        with open(path, "wb") as f:
            f.write(data if isinstance(data, bytes) else data.encode())
        return path

    def dumped(self, *words, **more):
        """The tensors of a prompt pass."""
        path = self.path("dump-%d.safetensors" % len(os.listdir(self.folder)))
        answer = self.answer("--dump", path, "--max-new-tokens", 4, "--temperature", 0, *words, **more)
        return answer, read_dump(path)

    def made(self, *command):
        """Runs another program that makes a file (the last word)."""
        words = [str(w) for w in command]
        subprocess.run(words, check=True, capture_output=True, cwd=self.folder)
        return self.path(words[-1])

    def refused(self, part, *words, code=2):
        self.flotilla("generate", "--quiet", "--model", TINY, "--max-new-tokens", 1, *words)
        self.one_line(part, code)

    # -- one medium, many ways in

    def test_a_picture_is_the_same_by_path_url_data_and_message(self):
        with open(PICTURE, "rb") as f:
            data = "data:image/png;base64," + base64.b64encode(f.read()).decode()
        question = {"type": "text", "text": "What is it?"}
        ways = [["--image", PICTURE, "--prompt", "What is it?"],
                ["--image", os.path.relpath(PICTURE, self.folder), "--prompt", "What is it?"]]
        for i, part in enumerate(({"type": "image", "image": PICTURE},
                                  {"type": "image", "image": "file://" + PICTURE},
                                  {"type": "image_url", "image_url": {"url": data}},
                                  {"image": data})):
            path = self.write("m%d.json" % i, json.dumps([{"role": "user", "content": [part, question]}]))
            ways.append(["--messages", path])
        path = self.write("open.json", json.dumps([{"role": "user", "content": [{"type": "image"}, question]}]))
        ways.append(["--messages", path, "--image", PICTURE])
        first = None
        for way in ways:
            with self.subTest(way=way[0]):
                answer, dump = self.dumped(*way)
                first = first or (answer["ids"], dump)
                self.assertEqual(answer["ids"], first[0])
                self.assertEqual(dump, first[1])

    def test_raw_placeholders_take_media_in_the_order_given(self):
        prompt = "<|audio_start|><|audio_pad|><|audio_end|>a<|vision_start|><|image_pad|><|vision_end|>b"
        one, dump = self.dumped("--raw", "--prompt", prompt, "--image", PICTURE, "--audio", SOUND)
        two, other = self.dumped("--raw", "--prompt", prompt, "--audio", SOUND, "--image", PICTURE)
        self.assertEqual(one["prompt_ids"], two["prompt_ids"])
        self.assertEqual(dump, other)
        # ids that were expanded already are taken as they are
        ids, again = self.dumped("--prompt-ids", ",".join(map(str, one["prompt_ids"])), "--image", PICTURE, "--audio", SOUND)
        self.assertEqual(again, dump)
        self.assertEqual(ids["ids"], one["ids"])

    def test_a_sound_given_as_base64_is_the_file(self):
        with open(SOUND, "rb") as f:
            part = {"type": "input_audio", "input_audio": {"data": base64.b64encode(f.read()).decode(), "format": "wav"}}
        path = self.write("m.json", json.dumps([{"role": "user", "content": [part, {"type": "text", "text": "x"}]}]))
        _, by_message = self.dumped("--messages", path)
        _, by_file = self.dumped("--audio", SOUND, "--prompt", "x")
        self.assertEqual(by_message, by_file)

    # -- splits

    def test_every_split_gives_the_same_bits_with_media(self):
        words = ["--image", PICTURE, "--audio", SOUND, "--audio", LONGER, "--prompt", "What?"]
        _, one = self.dumped("--workers", 1, *words)
        for split in (["--workers", 2], ["--workers", 3], ["--workers", 2, "--threads", 1]):
            with self.subTest(split=split):
                self.assertEqual(self.dumped(*split, *words)[1], one)
        _, stage = self.dumped("--workers", 3, "--stages", 1, *words)
        for name in one:
            if one[name][0] == "F32":
                self.assertLess(relative_error(floats(stage[name]), floats(one[name])), 1e-4, name)

    # -- files of other programs

    def test_sounds_of_many_formats(self):
        self.made("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=440:d=1.5:r=48000", "-ac", "2", "sine.wav")
        _, want = self.dumped("--audio", self.path("sine.wav"), "--prompt", "x")
        for name, options in (("a.flac", []), ("a.ogg", ["-c:a", "libvorbis"]), ("a.opus", ["-c:a", "libopus"]), ("a.mp3", []),
                              ("a.m4a", ["-c:a", "aac"]), ("a.webm", ["-c:a", "libopus"]), ("a24.wav", ["-c:a", "pcm_s24le"]),
                              ("af.wav", ["-c:a", "pcm_f32le"])):
            with self.subTest(name=name):
                self.made("ffmpeg", "-v", "error", "-i", "sine.wav", *options, name)
                _, got = self.dumped("--audio", self.path(name), "--prompt", "x")
                self.assertLessEqual(abs(got["audio_embeds"][1][0] - want["audio_embeds"][1][0]), 2)
                if name in ("a.flac", "a24.wav", "af.wav"):
                    self.assertEqual(got["input_features"][1], want["input_features"][1])
                    self.assertLess(relative_error(floats(got["input_features"]), floats(want["input_features"])), 1e-3)

    def test_pictures_of_many_formats(self):
        self.made("convert", PICTURE, "-define", "webp:lossless=true", "a.webp")
        self.made("convert", PICTURE, "-interlace", "PNG", "a.png")
        self.made("convert", PICTURE, "-quality", "95", "-sampling-factor", "4:4:4", "a.jpg")
        self.made("convert", PICTURE, "a.gif")
        _, want = self.dumped("--image", PICTURE, "--prompt", "x")
        for name, room in (("a.webp", 0), ("a.png", 0), ("a.jpg", 0.3), ("a.gif", 0.6)):
            with self.subTest(name=name):
                _, got = self.dumped("--image", self.path(name), "--prompt", "x")
                self.assertEqual(got["grid_thw"], want["grid_thw"])
                off = [abs(a - b) for a, b in zip(floats(got["pixel_values"]), floats(want["pixel_values"]))]
                self.assertLessEqual(sum(off) / len(off), room)

    def test_a_clip_with_its_own_sound(self):
        self.made("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=128x96:r=10:d=3", "-f", "lavfi", "-i",
                  "sine=440:d=3", "-c:v", "mpeg4", "-c:a", "aac", "clip.mp4")
        clip = self.path("clip.mp4")
        small = ["--video-min-pixels", 4096, "--video-max-pixels", 12288]
        silent, dump = self.dumped("--video", clip, "--prompt", "x", *small)
        self.assertEqual(read_numbers(dump["grid_thw"])[0], 3)  # 6 frames of 3 s, two a temporal patch
        self.assertNotIn("audio_embeds", dump)
        spoken, with_sound = self.dumped("--video", clip, "--prompt", "x", "--use-audio-in-video", *small)
        self.assertIn("audio_embeds", with_sound)
        self.assertEqual(with_sound["pixel_values"], dump["pixel_values"])
        sound_rows = with_sound["audio_embeds"][1][0]
        self.assertEqual(len(spoken["prompt_ids"]) - len(silent["prompt_ids"]), sound_rows + 2)

    def test_a_sound_given_for_a_silent_video_needs_no_place_of_its_own(self):
        frames = ["--video", self.clip_of_frames(4), "--recorded-fps", 2, "--use-audio-in-video"]
        asked, dump = self.dumped(*frames, "--audio", SOUND, "--prompt", "x")
        ids = ",".join(map(str, asked["prompt_ids"]))
        self.assertEqual(self.dumped(*frames, "--audio", SOUND, "--prompt-ids", ids)[1], dump)
        # one more sound stands by itself
        more, with_both = self.dumped(*frames, "--audio", SOUND, "--audio", LONGER, "--prompt", "x")
        self.assertGreater(with_both["audio_embeds"][1][0], dump["audio_embeds"][1][0])
        self.assertEqual(len(more["prompt_ids"]) - len(asked["prompt_ids"]),
                         with_both["audio_embeds"][1][0] - dump["audio_embeds"][1][0] + 2)

    # -- what cannot be read

    def test_files_that_are_no_media(self):
        with open(PICTURE, "rb") as f:
            whole = f.read()
        with open(SOUND, "rb") as f:
            sound = f.read()
        table = [("--image", "empty.png", b"", "empty.png"), ("--image", "cut.png", whole[:len(whole) // 2], "cut.png"),
                 ("--image", "text.jpg", b"hello, I am a text\n" * 20, "text.jpg"), ("--image", "sound.png", sound, "sound.png"),
                 ("--audio", "empty.wav", b"", "empty.wav"), ("--audio", "none.wav", wav([]), "none.wav"),
                 ("--audio", "short.wav", wav([1] * 200), "short.wav"), ("--audio", "cut.wav", sound[:len(sound) // 2], "cut.wav"),
                 ("--audio", "picture.wav", whole, "picture.wav"), ("--audio", "promise.wav", wav([5] * 4000, promised=1 << 30), "promise.wav"),
                 ("--video", "text.mp4", b"no video at all\n" * 50, "text.mp4"), ("--video", "picture.mp4", b"\0\0\0\x18ftypmp42", "picture.mp4"),
                 ("--image", "big.png", png(20000, 20000, []), "--max-media-pixels"),
                 ("--image", "long.png", png(8040, 40, [b"\x80" * 24120] * 40), "200")]
        for option, name, data, part in table:
            with self.subTest(name=name):
                self.refused(part, option, self.write(name, data), "--prompt", "x")
        self.refused("/no/such.png", "--image", "/no/such.png", "--prompt", "x")

    def test_one_pixel_is_a_picture(self):
        _, dump = self.dumped("--image", self.write("one.png", png(1, 1, [b"\x10\x80\xf0"])), "--prompt", "x")
        self.assertEqual(read_numbers(dump["grid_thw"]), [1, 4, 4])

    def test_places_and_media_that_do_not_match(self):
        self.refused("", "--raw", "--prompt", "<|vision_start|><|image_pad|><|vision_end|>x")
        self.refused("", "--raw", "--prompt", "x", "--image", PICTURE)
        self.refused("", "--raw", "--prompt", "<|image_pad|><|image_pad|>x", "--image", PICTURE)
        self.refused("sound", "--prompt", "x", "--video", self.clip_of_frames(4), "--use-audio-in-video", "--recorded-fps", 2)
        self.refused("--no-media", "--no-media", "--prompt", "x", "--image", PICTURE)

    def test_more_media_than_the_context_holds(self):
        self.refused("KV", "--kv-tokens", 4096, "--image-min-pixels", 12000000, "--image-max-pixels", 12845056, "--image", PICTURE,
                     "--prompt", "x")

    def test_a_picture_over_the_encoders_memory_is_refused_and_others_are_served(self):
        def line(name, least):
            return json.dumps({"custom_id": name, "body": {
                "messages": [{"role": "user", "content": [{"type": "image", "image": PICTURE}]}], "max_tokens": 2,
                "media_options": {"image_min_pixels": least, "image_max_pixels": 20000000}}})
        path = self.write("in.jsonl", line("large", 16000000) + "\n" + line("small", 4096) + "\n")
        self.assertEqual(self.mpirun(2, "--model", TINY, "--kv-tokens", 32768, "--requests", path), 0, self.err)
        answers = {a["custom_id"]: a for a in map(json.loads, self.out.splitlines())}
        self.assertIn("memory", answers["large"]["error"]["message"])
        self.assertIsNone(answers["small"]["error"])

    def test_ctrl_c_while_a_picture_is_encoded_ends_at_once(self):
        # 12 megapixels take half a minute; the jobs' slices must not hold the end up
        job = self.start(FLOTILLA, "generate", "--model", TINY, "--kv-tokens", 16384, "--threads", 1, "--image", PICTURE,
                         "--image-min-pixels", 12000000, "--image-max-pixels", 12800000, "--prompt", "x")
        self.wait_for("flotilla-worker", 1)
        time.sleep(3)
        self.assertIsNone(job.poll())
        started = time.monotonic()
        job.send_signal(signal.SIGINT)
        self.err = job.communicate(timeout=60)[1].decode(errors="replace")
        self.assertEqual(job.returncode, 130, self.err)
        self.assertLess(time.monotonic() - started, 4 * SLOWER)  # job_settle gives up after five seconds
        self.assertNotIn("rest", self.err)
        self.nothing_left(within=5)

    def test_a_later_turn_reuses_the_same_picture_and_no_other(self):
        self.made("convert", PICTURE, "-resize", "320x320!", "a.png")
        self.made("convert", "a.png", "-define", "webp:lossless=true", "again.webp")
        self.made("convert", "a.png", "-negate", "other.png")
        log = self.path("log")
        with open(log, "wb") as errors:
            job = subprocess.Popen(["mpirun", "--oversubscribe", "--bind-to", "none", "-np", "1", COORDINATOR, "--model", TINY,
                                    "--verbose", "--requests", "-", ":", "-np", "2", WORKER], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=errors, env=self.environment(**MPI_ENVIRONMENT))
        self.started.append(job)

        def turn(name, text):
            return {"role": "user", "content": [{"type": "image", "image": self.path(name)}, {"type": "text", "text": text}]}

        def ask(*messages):
            body = {"messages": messages, "max_tokens": 4, "temperature": 0}
            job.stdin.write(json.dumps({"custom_id": "x", "body": body}).encode() + b"\n")
            job.stdin.flush()
            return json.loads(job.stdout.readline())["response"]["body"]["choices"][0]["message"]["content"]

        said = {"role": "assistant", "content": ask(turn("a.png", "What is it?"))}
        ask(turn("again.webp", "What is it?"), said, turn("other.png", "And that?"))
        ask(turn("other.png", "What is it?"))
        job.communicate(timeout=30 * SLOWER)
        with open(log, "r", errors="replace") as f:
            known = [tuple(map(int, m)) for m in re.findall(r"(\d+) prompt tokens, (\d+) of them known", f.read())]
        self.assertEqual(len(known), 3, known)
        self.assertEqual(known[0][1], 0)
        self.assertGreaterEqual(known[1][1], known[0][0])  # all of the first prompt
        self.assertEqual(known[2], (known[0][0], 0))  # as many tokens, none of them the same picture's

    def clip_of_frames(self, n):
        folder = self.path("frames")
        os.mkdir(folder)
        for i in range(n):
            shutil.copy(PICTURE, os.path.join(folder, "%03d.png" % i))
        return folder

    def test_urls_are_not_fetched_unless_the_operator_says_so(self):
        path = self.write("m.json", json.dumps([{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/x.png"}}]}]))
        self.refused("--allow-media-urls", "--messages", path)
        self.refused("127.0.0.1", "--messages", path, "--allow-media-urls")

    def test_bench_names_its_own_options(self):
        for size, part in (("64x99999999", "16384"), ("64", "WIDTHxHEIGHT"), ("65x64", "multiples of 32")):
            with self.subTest(size=size):
                self.flotilla("bench", "--encoders", "--quiet", "--model", TINY, "--image-size", size)
                self.one_line(part, 2)
                self.assertNotIn("image_height", self.err)

    # -- among others

    def test_a_bad_medium_is_one_line_and_others_are_served(self):
        bad = self.write("bad.png", b"\x89PNG\r\n\x1a\n nothing")
        requests = []
        for i, image in enumerate([PICTURE, bad, PICTURE, None, bad, PICTURE]):
            parts = [{"type": "text", "text": "What is it?"}]
            if image:
                parts.insert(0, {"type": "image", "image": image})
            requests.append(json.dumps({"custom_id": str(i), "body": {"messages": [{"role": "user", "content": parts}],
                                                                      "max_tokens": 5, "temperature": 0}}))
        path = self.write("in.jsonl", "\n".join(requests) + "\n")
        self.assertEqual(self.mpirun(2, "--model", TINY, "--verbose", "--requests", path), 0, self.err)
        answers = {a["custom_id"]: a for a in map(json.loads, self.out.splitlines())}
        self.assertEqual(sorted(answers), [str(i) for i in range(6)])
        said = {i: a["response"]["body"]["choices"][0]["message"]["content"] for i, a in answers.items() if a["response"]}
        self.assertEqual(sorted(said), ["0", "2", "3", "5"])
        self.assertEqual(said["0"], said["2"])
        self.assertEqual(said["0"], said["5"])
        for i in ("1", "4"):
            self.assertIn("bad.png", answers[i]["error"]["message"])


def read_numbers(tensor):
    return list(struct.unpack("<%dq" % (len(tensor[2]) // 8), tensor[2]))


if __name__ == "__main__":
    unittest.main()
