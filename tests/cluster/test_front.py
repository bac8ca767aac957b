#!/usr/bin/env python3
"""The front keeps its promises whatever its ranks do: one clear line, the right exit status, nothing on
standard output that is no result, no process and no file left behind, no wait without an end.

The ranks are fake_rank.c; jobs have one coordinator and three workers.
"""
import json
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
import wave

from terminal import fork_on_terminal

BINARY = os.environ["FLOTILLA_BINARY_DIR"]
SOURCE = os.environ["FLOTILLA_SOURCE_DIR"]
FLOTILLA = os.path.join(BINARY, "flotilla")
FAKES = os.path.join(BINARY, "tests", "fake")


def alive(pid):
    """True for a process that runs; a zombie has ended."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Front(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="flotilla-test-")
        self.pids = os.path.join(self.folder, "pids")
        self.tmp = os.path.join(self.folder, "tmp")
        os.mkdir(self.pids)
        os.mkdir(self.tmp)

    def tearDown(self):
        # Open MPI's own end of a killed job may still be tidying its files in here.
        shutil.rmtree(self.folder, ignore_errors=True)

    def environment(self, fake="", **more):
        env = dict(os.environ, FLOTILLA_PROGRAMS=FAKES, FLOTILLA_FAKE=fake, FLOTILLA_FAKE_PIDS=self.pids,
                   TMPDIR=self.tmp)
        env.update(more)
        env.pop("FLOTILLA_MODEL", None)
        return env

    def command(self, *words):
        return [FLOTILLA, *words] + (["--workers", "3"] if words[0] in ("generate", "speak", "chat", "verify", "bench") else [])

    def run_it(self, *words, fake="", stdin="", seconds=20, **more):
        p = subprocess.run(self.command(*words), input=stdin.encode(), capture_output=True, timeout=seconds,
                           env=self.environment(fake, **more))
        self.out, self.err = p.stdout.decode(), p.stderr.decode(errors="replace")
        self.left_nothing()
        return p.returncode

    def left_nothing(self, within=0.0):
        until = time.monotonic() + within
        while True:
            ranks = [int(p) for p in os.listdir(self.pids) if alive(p)]
            if not ranks or time.monotonic() > until:
                break
            time.sleep(0.05)
        self.assertEqual(ranks, [], "ranks are left")
        if not within:
            self.assertEqual(os.listdir(self.tmp), [], "files are left")

    def one_line(self, part):
        lines = [l for l in self.err.splitlines() if "error: " in l]
        self.assertEqual(len(lines), 1, self.err)
        self.assertIn(part, lines[0])
        self.assertEqual(self.out, "")

    def start(self, *words, fake="", stdout=subprocess.PIPE, **more):
        return subprocess.Popen(self.command(*words), stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE,
                                env=self.environment(fake, **more))

    def wait_for_ranks(self, n=4):
        until = time.monotonic() + 10
        while len(os.listdir(self.pids)) < n and time.monotonic() < until:
            time.sleep(0.02)
        self.assertGreaterEqual(len(os.listdir(self.pids)), n)

    def read(self, path):
        with open(path) as f:
            return json.load(f)

    # -- answers

    def test_text_streams_to_standard_output(self):
        self.assertEqual(self.run_it("generate", "--prompt", "Where?"), 0)
        self.assertEqual(self.out, "Paris.\n")

    def test_a_document_is_all_there_is_with_json(self):
        self.assertEqual(self.run_it("generate", "--json", "--prompt", "Where?", "--seed", "7", "--temperature", "0.5",
                                     "--dump", "d.safetensors", "--stages", "2"), 0)
        answer = json.loads(self.out)
        self.assertEqual(answer["echo"], {"messages": [{"role": "user", "content": "Where?"}], "seed": 7, "temperature": 0.5})
        self.assertEqual(answer["dump"], os.path.join(os.getcwd(), "d.safetensors"))
        self.assertIn("--stages=2", answer["arguments"])
        self.assertIn("--model=" + os.path.join(SOURCE, "models/tiny"), answer["arguments"])

    def body_of(self, *words, stdin=""):
        self.assertEqual(self.run_it("generate", "--json", *words, stdin=stdin), 0, self.err)
        return json.loads(self.out)["echo"]

    def test_every_kind_of_prompt_becomes_its_body(self):
        self.assertEqual(self.body_of("--raw", "--prompt", "a\"b\n\u00e9"), {"raw": True, "prompt": "a\"b\n\u00e9"})
        self.assertEqual(self.body_of("--prompt-ids", "1, 2,3"), {"prompt_ids": [1, 2, 3]})
        self.assertEqual(self.body_of("--prompt-file", "-", "--system", "S", stdin="x\0y"),
                         {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "x\0y"}]})
        messages = [{"role": "user", "content": "a]}\\\"[{"}]
        self.assertEqual(self.body_of("--messages", "-", stdin=json.dumps(messages)), {"messages": messages})
        both = {"tools": [{"x": 1.0}], "messages": messages, "enable_thinking": False}
        self.assertEqual(self.body_of("--messages", "-", stdin=json.dumps(both, indent=1)),
                         {"messages": messages, "template_options": {"tools": [{"x": 1.0}], "enable_thinking": False}})
        self.assertIn('"x": 1.0', self.out)  # the literal travels, not a number

    # -- media

    def medium(self, name, content=b"x"):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as f:
            f.write(content)
        return path

    def media(self):
        return self.medium("a b.png"), self.medium("\u00fc.wav"), self.medium("c.mp4")

    def test_media_stand_before_the_text_in_the_order_given(self):
        a, b, c = self.media()
        parts = [{"type": "audio", "audio": b}, {"type": "image", "image": a}, {"type": "audio", "audio": b},
                 {"type": "video", "video": c}, {"type": "video", "video": self.folder}, {"type": "text", "text": "What?"}]
        self.assertEqual(self.body_of("--prompt", "What?", "--audio", b, "--image", a, f"--audio={b}", "--video", c,
                                      "--video", self.folder, "--system", "S"),
                         {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": parts}]})
        self.assertIs(json.loads(self.out)["local_files"], True)

    def test_media_stand_beside_what_is_no_message(self):
        a, b, c = self.media()
        words = ["--image", a, "--audio", os.path.relpath(b)]
        media = [{"type": "image", "image": a}, {"type": "audio", "audio": os.path.join(os.getcwd(), os.path.relpath(b))}]
        self.assertEqual(self.body_of("--raw", "--prompt", "p", *words), {"raw": True, "prompt": "p", "media": media})
        self.assertEqual(self.body_of("--prompt-ids", "5", *words), {"prompt_ids": [5], "media": media})
        messages = [{"role": "user", "content": [{"type": "image"}, {"type": "audio"}]}]
        self.assertEqual(self.body_of("--messages", "-", *words, stdin=json.dumps(messages)), {"messages": messages, "media": media})

    def test_only_given_media_options_travel(self):
        a, b, c = self.media()
        self.assertEqual(self.body_of("--raw", "--prompt", "p", "--video-fps", "0.5", "--image-max-pixels", "4096")["media_options"],
                         {"video_fps": 0.5, "image_max_pixels": 4096})
        self.assertEqual(self.body_of("--raw", "--prompt", "p", "--video", c, "--image-min-pixels=1", "--image-max-pixels=1",
                                      "--video-min-pixels=2", "--video-max-pixels=3", "--video-fps=1e-3", "--recorded-fps=29.97",
                                      "--video-all-frames", "--use-audio-in-video")["media_options"],
                         {"image_min_pixels": 1, "image_max_pixels": 1, "video_min_pixels": 2, "video_max_pixels": 3,
                          "video_fps": 1e-3, "recorded_fps": 29.97, "video_all_frames": True, "use_audio_in_video": True})
        self.assertNotIn("media_options", self.body_of("--raw", "--prompt", "p", "--image", a))

    def test_urls_travel_as_they_are_where_they_are_allowed(self):
        urls = ["https://example.org/a.png", "data:image/png;base64,AAAA", "file:///a/b.png"]
        words = sum((["--image", u] for u in urls), [])
        self.assertEqual([m["image"] for m in self.body_of("--raw", "--prompt", "p", "--allow-media-urls", *words)["media"]], urls)
        self.assertIn("--allow-media-urls", json.loads(self.out)["arguments"])
        self.body_of("--raw", "--prompt", "p", "--max-media-pixels", "1000")
        self.assertIn("--max-media-pixels=1000", json.loads(self.out)["arguments"])

    def test_relative_paths_in_messages_become_absolute_and_nothing_else_changes(self):
        text = ('{"messages" : [{"role":"user","content":[{"type":"image","image":"a/b.png"},{"image":{ "url" : "c.png"}, "n":1.0},\n'
                '{"type":"video_url","video_url":"data:video/mp4;base64,AA"},{"type":"audio","audio":"\\/x\\u00e9.wav"},'
                '{"type":"text","text":"image.png"},{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}]}]}')
        answer = self.body_of("--messages", "-", stdin=text)
        here = os.getcwd()
        self.assertEqual(answer["messages"][0]["content"][:2],
                         [{"type": "image", "image": here + "/a/b.png"}, {"image": {"url": here + "/c.png"}, "n": 1.0}])
        whole = text.replace('"a/b', f'"{here}/a/b').replace('"c.png', f'"{here}/c.png').partition(" : ")[2]
        self.assertIn(whole[:-1], self.out)

    def test_media_that_cannot_be_are_refused_before_a_rank_starts(self):
        a, b, c = self.media()
        empty = self.medium("empty.png", b"")
        strange = self.medium(b"\xff.png".decode("utf-8", "surrogateescape"))
        fifo = os.path.join(self.folder, "fifo")
        os.mkfifo(fifo)
        for words, part in [
                (["--image", "/no/such.png"], "--image /no/such.png: No such file"),
                (["--image", ""], "--image: the name of the file is empty"),
                (["--audio", "-"], "--audio -: media are not read from standard input"),
                (["--image", a, "--audio", empty], "--audio " + empty + ": the file is empty"),
                (["--image", self.folder], "is a folder"),
                (["--audio", self.folder], "is a folder"),
                (["--video", fifo], "is no regular file"),
                (["--video", "/dev/null"], "is no regular file"),
                (["--image", strange], "is not UTF-8"),
                (["--image", "http://127.0.0.1/a.png"], "only with --allow-media-urls"),
                (["--image", "HTTPS://example.org/a.png"], "only with --allow-media-urls"),
                (["--image", a, "--no-media"], "--no-media leaves pictures, sound and video out"),
                (["--video-fps", "2", "--no-media"], "--no-media leaves"),
                (["--use-audio-in-video"], "--use-audio-in-video needs a --video"),
                (["--use-audio-in-video", "--audio", b], "--use-audio-in-video needs a --video"),
                (["--image-min-pixels", "5", "--image-max-pixels", "4"], "--image-min-pixels 5: must not be over --image-max-pixels 4"),
                (["--video-min-pixels", "5", "--video-max-pixels", "4"], "--video-min-pixels 5: must not be over"),
                (["--image-min-pixels", "0"], "--image-min-pixels 0: must be from 1"),
                (["--video-max-pixels", "many"], "--video-max-pixels many: not a whole number"),
                (["--video-fps", "0"], "--video-fps 0: must be a number of frames per second over 0"),
                (["--video-fps", "inf"], "--video-fps inf: not a number"),
                (["--recorded-fps", "-1"], "--recorded-fps -1: must be"),
                (["--video-all-frames=1"], "--video-all-frames takes no value"),
                (["--max-media-pixels", "0"], "--max-media-pixels 0: must be from 1"),
                (["--imag", a], "did you mean --image?")]:
            with self.subTest(words=words):
                self.assertEqual(self.run_it("generate", "--prompt", "x", *words), 2, self.err)
                self.one_line(part)
                if words[0] != "--use-audio-in-video":
                    self.assertEqual(self.run_it("chat", *words), 2, self.err)
                    self.one_line(part)
        self.assertEqual(os.listdir(self.pids), [], "a rank was started")

    def talk(self, lines, *words, code=0):
        """What was asked, from the saved conversation."""
        saved = os.path.join(self.folder, "talk.json")
        self.assertEqual(self.run_it("chat", *words, stdin="\n".join([*lines, f"/save {saved}", ""])), code, self.err)
        return self.read(saved)["messages"]

    def test_a_chat_attaches_media_to_the_next_message(self):
        a, b, c = self.media()
        messages = self.talk([f"/image {a}", f"/audio {b}", "one", "two"])
        self.assertEqual(messages[0]["content"], [{"type": "image", "image": a}, {"type": "audio", "audio": b},
                                                  {"type": "text", "text": "one"}])
        self.assertEqual([m["content"] for m in messages[1:]], ["Paris.", "two", "Paris."])
        self.assertIn("a b.png goes with the next message", self.err)
        messages = self.talk(["one"], "--video", c, "--image", a)
        self.assertEqual(messages[0]["content"], [{"type": "video", "video": c}, {"type": "image", "image": a},
                                                  {"type": "text", "text": "one"}])

    def test_a_chat_takes_names_as_they_are_typed_and_dropped(self):
        a, b, c = self.media()
        odd = self.medium("it's \"d\".png")
        for typed, path in [("~/a b.png", a), (f"'{a}'", a), (f'"{a}" ', a), (a.replace(" ", "\\ "), a), (odd, odd),
                            ("'" + odd.replace("'", "'\\''") + "'", odd), (f"file://{c}", f"file://{c}")]:
            with self.subTest(typed=typed):
                saved = os.path.join(self.folder, "talk.json")
                self.assertEqual(self.run_it("chat", stdin=f"/image  {typed}\nx\n/save ~/talk.json\n", HOME=self.folder), 0, self.err)
                self.assertEqual(self.read(saved)["messages"][0]["content"][0], {"type": "image", "image": path})

    def test_a_chat_goes_on_after_media_that_are_refused(self):
        a, b, c = self.media()
        messages = self.talk(["/image", "/image /no/such.png", f"/audio {self.folder}", "/image http://example.org/a.png",
                              f"/image {a}", "REFUSE", "one", f"/image {a}", "/reset", "two"], code=2)
        for part in ("/image needs the name of a file", "/image /no/such.png: No such file", "is a folder",
                     "only with --allow-media-urls", "the KV cache holds 8", "a b.png: not attached any more"):
            self.assertIn(part, self.err)
        self.assertEqual([m["content"] for m in messages], ["two", "Paris."])
        self.talk([f"/image {a}"], "--no-media", code=2)
        self.assertIn("/image: this chat was started with --no-media", self.err)

    def test_a_saved_chat_keeps_its_media(self):
        a, b, c = self.media()
        first = self.talk([f"/image {a}", "one"])
        again = os.path.join(self.folder, "again.json")
        os.rename(os.path.join(self.folder, "talk.json"), again)
        self.assertEqual(self.talk([f"/load {again}", "two"])[:2], first)
        with open(again, "w") as f:
            json.dump([{"role": "user", "content": [{"type": "image", "image": "x.png"}]}], f)
        self.assertEqual(self.talk([f"/load {again}"])[0]["content"][0]["image"], os.path.join(os.getcwd(), "x.png"))

    def test_sounds_of_a_chat_keep_their_turn(self):
        a, b, c = self.media()
        for words, lines, options in [([], ["ECHO one"], None), ([], [f"/audio {b}", "ECHO one"], {"sound_padding": "turn"}),
                                      (["--video-fps", "3", "--video", c], ["ECHO one"], {"video_fps": 3, "sound_padding": "turn"})]:
            with self.subTest(lines=lines):
                self.talk(lines, *words)
                self.assertEqual(json.loads(self.out.splitlines()[0]).get("media_options"), options)

    # -- what is waited for

    def test_a_long_stage_is_shown_and_a_short_one_is_not(self):
        self.assertEqual(self.run_it("generate", "--prompt", "ENCODE"), 0)
        self.assertEqual(self.out, "Paris.\n")
        lines = [l for l in self.err.splitlines() if "encoding" in l]
        self.assertEqual(len(lines), 1, self.err)
        self.assertRegex(lines[0], r"^flotilla: encoding a \[2Jphoto\.png  \[#{10}-{10}\]   50 %")
        for words in (["generate", "--quiet", "--prompt", "ENCODE"], ["generate", "--prompt", "BRISK"]):
            self.assertEqual(self.run_it(*words), 0)
            self.assertNotIn("encoding", self.err)

    def on_terminal(self, prompt, *words, status=0):
        pid, fd = fork_on_terminal()
        if pid == 0:
            os.execve(FLOTILLA, self.command("generate", "--prompt", prompt, *words), self.environment("", TERM="xterm"))
        seen = b""
        while True:
            try:
                more = os.read(fd, 65536)
            except OSError:
                break
            if not more:
                break
            seen += more
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), status)
        os.close(fd)
        self.left_nothing()
        return seen

    def test_a_terminal_gets_a_bar_that_is_gone_before_the_text(self):
        seen = self.on_terminal("ENCODE")
        bars = seen.count(b"encoding a [2Jphoto.png")
        self.assertGreater(bars, 10)  # it moves between the two pieces of news
        before, _, after = seen.rpartition(b"\033[1A\033[J")
        self.assertIn(b"  0 %", before)
        self.assertIn(b" 50 %", before)
        self.assertEqual(after.partition(b"flotilla:")[0].replace(b"\r\n", b"\n"), b"Paris.\n")
        self.assertNotIn(b"encoding", self.on_terminal("BRISK"))

    def test_a_long_answer_comes_whole_through_a_slow_pipe(self):
        p = self.start("generate", "--quiet", "--prompt", "LONG")
        time.sleep(1.5)
        out, err = p.communicate(timeout=20)
        self.assertEqual((p.returncode, len(out), err), (0, (4 << 20) + 1, b""))

    def test_verify_hands_on_lines_and_status(self):
        self.assertEqual(self.run_it("verify", "--golden", SOURCE, "--only", "thinker,chat"), 3)
        self.assertEqual(self.out, "thinker/a ok\n")
        self.assertIn("1 of 2 cases differs", self.err)

    # -- speech

    def path(self, name):
        return os.path.join(self.folder, name)

    def samples(self, path):
        """What a WAV file holds, which must be what its head says."""
        with wave.open(path) as w:
            self.assertEqual((w.getnchannels(), w.getsampwidth(), w.getframerate()), (1, 2, 24000))
            data = w.readframes(w.getnframes())
            self.assertEqual(len(data), 2 * w.getnframes())
        self.assertEqual(os.path.getsize(path), 44 + len(data))
        return self.numbers(data)

    def numbers(self, data):
        return [int.from_bytes(data[i:i + 2], "little") for i in range(0, len(data), 2)]

    def wav_files(self):
        return sorted(f for f in os.listdir(self.folder) if "wav" in f)

    def test_an_answer_is_spoken_into_a_file(self):
        out = self.path("out.wav")
        self.assertEqual(self.run_it("generate", "--prompt", "Where?", "--speech", out), 0, self.err)
        self.assertEqual(self.out, "Paris.\n")
        self.assertEqual(self.samples(out), list(range(12000)))
        self.assertIn("out.wav: 0.5 s of sound", self.err)
        self.assertEqual(self.wav_files(), ["out.wav"])
        self.assertEqual(self.run_it("generate", "--quiet", "--prompt", "MUTE", "--speech", out), 0, self.err)
        self.assertEqual(self.samples(out), [])
        self.assertIn("no sound, there was nothing to say", self.err)

    def test_a_document_names_the_sound_file(self):
        out = self.path("out.wav")
        words = ["--speech", out, "--speaker", "CHELSIE", "--talker-greedy", "--talker-max-new-tokens", "7"]
        self.assertEqual(self.run_it("generate", "--json", "--prompt", "x", *words), 0, self.err)
        answer = json.loads(self.out)
        self.assertEqual(answer["speech"], {"sample_rate": 24000, "samples": 12000, "codes": [[1.5]], "file": out})
        self.assertIn('"codes": [[1.50]]', self.out)  # the literal stays
        self.assertEqual(answer["echo"]["speech"], {"mode": "exact", "speaker": "CHELSIE", "greedy": True, "max_new_tokens": 7})

    def test_who_does_not_listen_has_no_talker(self):
        self.body_of("--prompt", "x")
        self.assertIn("--no-speech", json.loads(self.out)["arguments"])
        self.body_of("--prompt", "x", "--speech", self.path("out.wav"))
        self.assertNotIn("--no-speech", json.loads(self.out)["arguments"])

    def test_sound_streams_to_standard_output(self):
        p = self.start("generate", "--prompt", "PAUSE", "--speech", "-")
        head = p.stdout.read(44 + 2 * 4 * 2400)
        first = time.monotonic()
        self.assertEqual(self.numbers(head[44:]), list(range(9600)))
        self.assertEqual(head[:4] + head[8:16] + head[36:44], b"RIFFWAVEfmt data" + b"\xff" * 4)
        rest, err = p.communicate(timeout=20)
        self.assertGreater(time.monotonic() - first, 1)  # the fake waits before the last piece
        self.assertEqual((p.returncode, self.numbers(rest)), (0, list(range(9600, 12000))))
        self.assertEqual(err.splitlines()[0], b"Paris.")

    def test_a_stream_is_seamless_unless_said_otherwise(self):
        pipe = self.path("pipe")
        for words, mode in [([], "seamless"), (["--speech-mode", "exact"], "exact")]:
            os.mkfifo(pipe)
            reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE)
            self.assertEqual(self.body_of("--prompt", "x", "--speech", pipe, *words)["speech"], {"mode": mode})
            self.assertEqual(self.numbers(reader.communicate(timeout=10)[0][44:]), list(range(12000)))
            os.unlink(pipe)

    def test_sound_that_cannot_be_written_ends_the_command(self):
        for where in ("/dev/full", "-"):
            with open("/dev/full", "w") as full:
                p = self.start("generate", "--prompt", "x", "--speech", where, stdout=full if where == "-" else subprocess.DEVNULL)
                err = p.communicate(timeout=20)[1]
                self.assertEqual(p.returncode, 1)
                self.assertRegex(err.splitlines()[-1], rb"^flotilla: error: .* cannot be written: No space left on device$")
        p = self.start("generate", "--prompt", "SLOW", "--speech", "-")
        p.stdout.read(1000)
        p.stdout.close()
        self.assertRegex(p.stderr.read().splitlines()[-1], rb"^flotilla: error: standard output cannot be written: Broken pipe$")
        self.assertEqual(p.wait(20), 1)
        p.stderr.close()
        self.left_nothing()

    def test_a_command_that_fails_leaves_no_sound(self):
        out = self.path("out.wav")
        for prompt, part, fake in [("LOST", "the vocoder is lost", ""), ("HALF", "sound that cannot be read", ""),
                                   ("REFUSE", "the KV cache holds 8", ""), ("SLOW", "worker rank 2", "worker-dies")]:
            with self.subTest(prompt=prompt):
                self.assertIn(self.run_it("generate", "--prompt", prompt, "--speech", out, fake=fake), (1, 2))
                self.assertIn(part, self.err)
                self.assertEqual(self.wav_files(), [])
        p = self.start("generate", "--prompt", "SLOW", "--speech", out)
        until = time.monotonic() + 10
        while not self.wav_files() and time.monotonic() < until:
            time.sleep(0.02)
        self.assertRegex(self.wav_files()[0], r"^out\.wav\.\w{6}$")  # beside, until it is whole
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=10)
        self.assertEqual((p.returncode, self.wav_files()), (130, []))

    def silent_model(self):
        """A checkpoint that does not speak."""
        with open(os.path.join(SOURCE, "models/tiny/config.json")) as f:
            config = json.load(f)
        config["enable_audio_output"] = False
        del config["talker_config"], config["code2wav_config"]
        os.mkdir(self.path("silent"))
        with open(self.path("silent/config.json"), "w") as f:
            json.dump(config, f)
        return self.path("silent")

    def test_speech_that_cannot_be_is_refused_before_a_rank_starts(self):
        out, silent = self.path("out.wav"), self.silent_model()
        cases = [
            (["--speaker", "Bob"], "--speaker Bob: unknown; this model's speakers are aiden, chelsie and ethan"),
            (["--speaker", ""], "--speaker : unknown"),
            (["--model", silent], "has no talker"),
            (["--no-speech"], "--no-speech"),
            (["--talker-temperature", "-1"], "--talker-temperature -1: must be from 0 to 1000"),
            (["--talker-top-p", "2"], "--talker-top-p 2: must be from 0 to 1"),
            (["--talker-repetition-penalty", "0"], "--talker-repetition-penalty 0: must be"),
            (["--talker-max-new-tokens", "0"], "--talker-max-new-tokens 0: must be"),
            (["--speech-mode", "fast"], "--speech-mode fast: must be one of exact, seamless"),
            (["--speech", self.folder], "is a folder"),
            (["--speech", "/no/such/out.wav"], "cannot be made: No such file"),
            (["--speech", "-", "--json"], "both write to standard output"),
            (["--speech", ""], "the name of the file is empty")]
        for name in (out, f"{self.folder}/./out.wav"):
            self.assertEqual(self.run_it("generate", "--prompt", "x", "--speech", out, "--dump", name), 2, self.err)
            self.one_line("--dump and --speech both write to")
        for words, part in cases:
            with self.subTest(words=words):
                self.assertEqual(self.run_it("generate", "--prompt", "x", "--speech", out, *words), 2, self.err)
                self.one_line(part)
                self.assertEqual(self.run_it("speak", "--text", "x", "--speech", out, *words), 2, self.err)
                self.one_line(part)
        for option in ("--speaker=Ethan", "--talker-greedy", "--speech-mode=exact", "--talker-top-k=5"):
            self.assertEqual(self.run_it("generate", "--prompt", "x", option), 2, self.err)
            self.one_line(f"{option.partition('=')[0]} says how to speak, and nothing is to be spoken")
        for words, part in [(["chat", "--speech", "-"], "writes each answer to a file"),
                            (["chat", "--speech", "/no/such"], "cannot be made"),
                            (["chat", "--speech", "--speaker", "Bob"], "--speaker Bob: unknown"),
                            (["chat", "--speech", "--no-speech"], "--no-speech leaves the talker out"),
                            (["chat", "--speech", "--model", silent], "has no talker"),
                            (["bench", "--speech", "--model", silent], "has no talker"),
                            (["bench", "--speech", "--no-speech"], "--no-speech leaves the talker out"),
                            (["bench", "--encoders", "--frames", "3"], "--frames goes with --speech only"),
                            (["bench"], "say --encoders or --speech")]:
            with self.subTest(words=words):
                self.assertEqual(self.run_it(*words), 2, self.err)
                self.one_line(part)
        self.assertEqual((os.listdir(self.pids), self.wav_files()), ([], []), "a rank was started")
        self.assertIn(b"standard output is a terminal", self.on_terminal("x", "--speech", "-", status=2))

    def spoken(self, *words, stdin="", **more):
        """Runs speak in the test's folder; standard output as bytes."""
        p = subprocess.run(self.command("speak", *words), input=stdin.encode(), capture_output=True, timeout=20,
                           cwd=self.folder, env=self.environment(**more))
        self.err = p.stderr.decode()
        self.assertEqual(p.returncode, 0, self.err)
        self.left_nothing()
        return p.stdout

    def test_a_text_is_spoken(self):
        self.assertEqual(self.spoken("--text", "Good\tmorning", "--speech", "a.wav"), b"")
        self.assertEqual(self.samples(self.path("a.wav")), list(range(12000)))
        self.assertIn("a.wav: 0.5 s of sound", self.err)
        self.assertEqual(self.numbers(self.spoken("--text", "x")[44:]), list(range(12000)))
        self.assertEqual(self.wav_files(), ["a.wav"])
        answer = json.loads(self.spoken("--text-file", "-", "--json", "--seed", "7", "--speaker", "aiden", stdin="Good \u00fc\0"))
        self.assertEqual(answer["echo"], {"speak": "Good \u00fc\0", "seed": 7, "speech": {"mode": "exact", "speaker": "aiden"}})
        self.assertEqual(answer["speech"]["file"], "speech.wav")
        self.assertIn("--no-media", answer["arguments"])
        self.assertNotIn("--no-speech", answer["arguments"])
        self.assertEqual(self.wav_files(), ["a.wav", "speech.wav"])

    def test_a_shell_redirects_a_whole_file(self):
        with open(self.path("b.wav"), "wb") as f:
            p = self.start("speak", "--text", "x", stdout=f)
            p.communicate(timeout=20)
        self.assertEqual((p.returncode, self.samples(self.path("b.wav"))), (0, list(range(12000))))

    def test_texts_that_cannot_be_spoken_are_refused(self):
        bad = self.medium("bad.txt", b"abc\xff")
        for words, part in [([], "none was given"), (["--text", ""], "--text: the text is empty"),
                            (["--text-file", "-"], "standard input: the text is empty"),
                            (["--text-file", "/no/such"], "/no/such: No such file"),
                            (["--text-file", bad], "not UTF-8 text at byte 3"),
                            (["--text", "a", "--text-file", bad], "not both"),
                            (["--text", "a", "--no-speech"], "--no-speech: there is nothing to speak with"),
                            (["--text", "a", "--seed", "-1"], "--seed -1: must be")]:
            with self.subTest(words=words):
                self.assertEqual(self.run_it("speak", *words), 2, self.err)
                self.one_line(part)
        self.assertEqual(os.listdir(self.pids), [], "a rank was started")

    def test_a_chat_speaks_into_numbered_files(self):
        self.medium("talk-2.wav", b"taken")
        lines = ["one", "two", "/speak off", "ECHO silent", "/speak on", "MUTE", "REFUSE", "/reset", "three"]
        self.talk(lines, "--speech", self.path("talk"), "--speaker", "aiden", code=2)
        self.assertEqual(self.wav_files(), [f"talk-{i}.wav" for i in (1, 2, 3, 4)])
        for i in (1, 3, 4):
            self.assertEqual(self.samples(self.path(f"talk-{i}.wav")), list(range(12000)))
            self.assertIn(f"talk-{i}.wav: 0.5 s of sound", self.err)
        self.assertIn("no sound: there was nothing to say", self.err)
        silent = [l for l in self.out.splitlines() if "silent" in l]
        self.assertNotIn('"speech"', silent[0])
        self.talk(["/speak on"], "--no-speech", code=2)
        self.assertIn("/speak: this chat was started with --no-speech", self.err)
        self.talk(["/speak on"], "--model", self.silent_model(), code=2)
        self.assertIn("has no talker", self.err)

    def test_a_chat_goes_on_where_its_sound_cannot_be_written(self):
        place = self.path("place")
        os.mkdir(place)
        p = subprocess.Popen(self.command("chat", "--speech", place), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, env=self.environment())
        p.stdin.write(b"one\n")
        p.stdin.flush()
        self.assertEqual(p.stdout.readline(), b"Paris.\n")
        shutil.rmtree(place)
        out, err = p.communicate(b"two\nthree\n", timeout=20)
        self.assertEqual((p.returncode, out), (1, b"Paris.\nParis.\n"))
        self.assertEqual(err.count(b"answers are not spoken any more"), 1, err)
        self.left_nothing()

    def test_ctrl_c_ends_an_answer_with_its_sound(self):
        pid, fd = fork_on_terminal()
        if pid == 0:
            os.chdir(self.folder)
            os.execve(FLOTILLA, self.command("chat", "--speech"), self.environment("", TERM="xterm"))
        seen = b""
        for wait, say in [(b"> ", b"SLOW\r"), (b"word word ", b"\x03"), (b"of sound", b""), (b"> ", b"/reset\r"), (b"> ", b"x\r"),
                          (b"of sound", b""), (b"> ", b"\x04")]:
            end = time.monotonic() + 15
            while wait not in seen and time.monotonic() < end:
                if select.select([fd], [], [], 0.1)[0]:
                    seen += os.read(fd, 65536).replace(b"speaking: ", b"").replace(b" s of sound\x1b8", b"")
            self.assertIn(wait, seen)
            seen = seen.partition(wait)[2]
            os.write(fd, say)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)
        os.close(fd)
        self.left_nothing()
        self.assertEqual(self.wav_files(), ["answer-1.wav", "answer-2.wav"])
        cut = self.samples(self.path("answer-1.wav"))
        self.assertEqual(cut, [i & 0xffff for i in range(len(cut))])
        self.assertGreater(len(cut), 0)
        self.assertEqual(self.samples(self.path("answer-2.wav")), list(range(12000)))

    def test_a_terminal_sees_how_much_is_spoken(self):
        seen = self.on_terminal("PAUSE", "--speech", self.path("out.wav"))
        self.assertIn(b"speaking: 0.4 s of sound\x1b8", seen)  # under the text, whose line is not over
        self.assertIn(b"Par", seen.partition(b"speaking")[0])
        shown = re.sub(rb"\x1b7.*?\x1b8|\x1bD|\x1b\[A", b"", seen).rpartition(b"\x1b[1A\x1b[J")[2]
        self.assertTrue(shown.startswith(b"Paris.\r\nflotilla: "), shown)
        self.assertNotIn(b"speaking", shown)

    def test_bench_shows_each_part_of_speech(self):
        self.assertEqual(self.run_it("bench", "--quiet", "--speech"), 0, self.err)
        lines = self.out.splitlines()
        self.assertEqual(lines[0], "speech: 15.50 frames/s (14.00 to 16.00), real-time factor 1.24; first sound after 3 frames")
        self.assertEqual(lines[2].split(), "talker 1 25 % 4.00 3.00 75 % 600.0 MB at 20.0 GB/s".split())
        self.assertEqual(lines[3].split(), "code2wav 2 75 % 12.00 9.00 75 % 1.50 GFLOP at 60.0 GFLOP/s".split())
        self.assertEqual(self.run_it("bench", "--json", "--speech", "--frames", "9", "--speakers", "2"), 0, self.err)
        self.assertEqual(json.loads(self.out)["echo"], {"repeat": 3, "speech": True, "frames": 9, "speakers": 2})

    # -- log

    def test_quiet_says_nothing_and_verbose_all(self):
        self.assertEqual(self.run_it("generate", "--quiet", "--prompt", "x", fake="talk"), 0)
        self.assertEqual(self.err, "flotilla: rank 1: warn: a warning\n")
        self.assertEqual(self.run_it("generate", "--prompt", "x", fake="talk"), 0)
        self.assertIn("some news", self.err)
        self.assertNotIn("detail", self.err)
        self.assertNotIn("stray", self.err)
        self.assertEqual(self.run_it("generate", "--verbose", "--prompt", "x", fake="talk"), 0)
        self.assertIn("a detail", self.err)
        self.assertIn("a stray line", self.err)

    # -- failures of the job

    def test_a_refused_request_is_one_line(self):
        self.assertEqual(self.run_it("generate", "--prompt", "REFUSE"), 2)
        self.one_line("the KV cache holds 8")

    def test_a_fault_of_the_ranks_is_the_sentence(self):
        self.assertEqual(self.run_it("generate", "--prompt", "x", fake="fault"), 2)
        self.one_line("config.json: num_hidden_layers 0")

    def test_an_error_line_before_the_connection_is_the_sentence(self):
        self.assertEqual(self.run_it("generate", "--prompt", "x", fake="usage"), 2)
        self.one_line("--stages 9: more stages than layers")

    def test_a_worker_killed_while_loading_is_named(self):
        self.assertEqual(self.run_it("generate", "--prompt", "x", fake="worker-dies,load-slow"), 1)
        self.one_line("worker rank 2 on host ")
        self.assertIn("was killed by signal 9", self.err)

    def test_a_worker_killed_while_generating_is_named(self):
        self.assertEqual(self.run_it("generate", "--json", "--prompt", "SLOW", fake="worker-dies"), 1)
        self.one_line("worker rank 2 on host ")

    def test_a_coordinator_that_vanishes_is_noticed(self):
        began = time.monotonic()
        self.assertEqual(self.run_it("generate", "--prompt", "x", fake="vanish"), 1)
        self.one_line("the coordinator closed its connection")
        self.assertLess(time.monotonic() - began, 10)

    def test_garbage_on_the_socket_ends_the_job(self):
        self.assertEqual(self.run_it("generate", "--prompt", "x", fake="garbage"), 1)
        self.one_line("coordinator")

    def test_another_version_is_refused(self):
        self.assertEqual(self.run_it("generate", "--prompt", "x", fake="old"), 1)
        self.one_line("version 0.0.1")

    def test_no_mpirun_on_the_path(self):
        self.assertEqual(self.run_it("generate", "--prompt", "x", PATH="/nowhere"), 1)
        self.one_line("no mpirun on the PATH; install")

    def test_no_ranks_beside_the_command(self):
        self.assertEqual(self.run_it("generate", "--prompt", "x", FLOTILLA_PROGRAMS=self.tmp), 1)
        self.one_line("flotilla-coordinator: No such file")

    def test_a_host_that_does_not_exist_is_one_line(self):
        p = subprocess.run([FLOTILLA, "generate", "--prompt", "x", "--hosts", "no-such-host.invalid:1"],
                           capture_output=True, timeout=60, env=self.environment())
        self.assertEqual(p.returncode, 1)
        self.assertEqual(p.stdout, b"")
        self.assertEqual(len([l for l in p.stderr.splitlines() if b"error: " in l]), 1, p.stderr)

    def test_a_full_disk_and_a_closed_pipe_are_failures(self):
        with open("/dev/full", "w") as full:
            p = self.start("generate", "--prompt", "x", stdout=full)
            self.assertIn(b"No space left", p.communicate(timeout=20)[1])
            self.assertEqual(p.returncode, 1)
        p = self.start("generate", "--prompt", "LONG")
        p.stdout.close()
        self.assertIn(b"Broken pipe", p.stderr.read())
        self.assertEqual(p.wait(20), 1)
        p.stderr.close()
        self.left_nothing()

    # -- signals

    def interrupted(self, fake, prompt, number, status, after=0.3):
        p = self.start("generate", "--prompt", prompt, fake=fake)
        self.wait_for_ranks()
        time.sleep(after)
        began = time.monotonic()
        p.send_signal(number)
        p.communicate(timeout=10)
        self.assertLess(time.monotonic() - began, 2.0)
        self.assertEqual(p.returncode, status)
        self.left_nothing()

    def test_signals_end_the_job_within_two_seconds(self):
        self.interrupted("load-slow", "x", signal.SIGINT, 130)
        self.interrupted("no-connect", "x", signal.SIGINT, 130)
        self.interrupted("", "SLOW", signal.SIGINT, 130)
        self.interrupted("", "SLOW", signal.SIGTERM, 143)
        self.interrupted("", "SLOW", signal.SIGHUP, 129)

    def test_a_background_job_of_a_script_can_be_interrupted(self):
        script = '"$@" & sleep 3; kill -INT $!; wait $!'  # bash lets it start with INT ignored
        p = subprocess.run(["bash", "-c", script, "bash", *self.command("generate", "--prompt", "SLOW")],
                           capture_output=True, timeout=20, env=self.environment(TMPDIR="/no/such/folder"))
        self.assertEqual(p.returncode, 130, p.stderr)
        self.left_nothing()

    def test_ranks_that_do_not_listen_end_too(self):
        self.interrupted("deaf", "SLOW", signal.SIGINT, 130)

    def test_ranks_do_not_outlive_a_killed_command(self):
        p = self.start("generate", "--prompt", "SLOW")
        self.wait_for_ranks()
        time.sleep(0.5)
        p.kill()
        p.communicate()
        self.left_nothing(within=3)

    def test_a_killed_mpirun_is_named(self):
        p = self.start("generate", "--prompt", "SLOW")
        self.wait_for_ranks()
        time.sleep(0.5)
        with open(f"/proc/{p.pid}/task/{p.pid}/children") as f:
            os.kill(int(f.read().split()[0]), signal.SIGKILL)
        err = p.communicate(timeout=10)[1].decode()
        self.assertEqual(p.returncode, 1)
        self.assertIn("mpirun was killed by signal 9", err)
        self.left_nothing()

    # -- chat

    def test_a_chat_from_a_pipe_answers_each_line(self):
        saved = os.path.join(self.folder, "talk.json")
        self.assertEqual(self.run_it("chat", "--quiet", "--system", "S", stdin=f"one\n\ntwo\n/save {saved}\n"), 0)
        self.assertEqual(self.out, "Paris.\nParis.\n")
        turns = [("system", "S"), ("user", "one"), ("assistant", "Paris."), ("user", "two"), ("assistant", "Paris.")]
        self.assertEqual(self.read(saved), {"messages": [{"role": r, "content": c} for r, c in turns]})
        again = os.path.join(self.folder, "again.json")
        self.assertEqual(self.run_it("chat", "--quiet", stdin=f"/load {saved}\n//three\n/save {again}\n/quit\nnever\n"), 0)
        self.assertEqual(len(self.read(again)["messages"]), 7)
        self.assertEqual(self.read(again)["messages"][5]["content"], "/three")
        self.assertEqual(self.out, "Paris.\n")

    def test_a_refused_turn_is_taken_back_and_the_chat_goes_on(self):
        saved = os.path.join(self.folder, "talk.json")
        self.assertEqual(self.run_it("chat", stdin=f"REFUSE\n/reset\n/sav x\n/speak maybe\nok\n/save {saved}\n"), 2)
        self.assertIn("the KV cache holds 8", self.err)
        self.assertIn("did you mean /save?", self.err)
        self.assertIn("/speak maybe: say on or off", self.err)
        self.assertEqual(len(self.read(saved)["messages"]), 2)

    def test_a_terminal_gets_editing_cancel_and_ctrl_d(self):
        pid, fd = fork_on_terminal()
        if pid == 0:
            os.execve(FLOTILLA, self.command("chat"), self.environment("", TERM="xterm"))
        seen = b""

        def until(part, seconds=15):
            nonlocal seen
            end = time.monotonic() + seconds
            while part not in seen and time.monotonic() < end:
                if select.select([fd], [], [], 0.1)[0]:
                    seen += os.read(fd, 65536)
            self.assertIn(part, seen)
            seen = seen.partition(part)[2]

        until(b"> ")
        os.write(fd, b"Sx\x7fLOW\r")      # a typing error, mended
        until(b"word word ")
        os.write(fd, b"\x03")             # the answer ends, the chat does not
        until(b"> ")
        os.write(fd, b"/reset\r")
        until(b"> ")
        os.write(fd, b"\x1b[A\x15hello\r")  # history, line killed, a new one
        until(b"Paris.")
        until(b"> ")
        os.write(fd, b"\x04")
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)
        os.close(fd)
        self.left_nothing()

    def test_ctrl_c_at_the_prompt_ends_the_chat(self):
        pid, fd = fork_on_terminal()
        if pid == 0:
            os.execve(FLOTILLA, self.command("chat"), self.environment("", TERM="xterm"))
        seen = b""
        while b"> " not in seen:
            seen += os.read(fd, 65536)
        os.write(fd, b"\x03")
        began = time.monotonic()
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 130)
        self.assertLess(time.monotonic() - began, 2)
        os.close(fd)
        self.left_nothing()

    def test_a_worker_lost_at_the_prompt_ends_the_chat(self):
        pid, fd = fork_on_terminal()
        if pid == 0:
            os.execve(FLOTILLA, self.command("chat"), self.environment("worker-dies", TERM="xterm"))
        seen = b""
        while True:
            try:
                more = os.read(fd, 65536)
            except OSError:
                break
            if not more:
                break
            seen += more
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 1)
        self.assertIn(b"worker rank 2", seen)
        os.close(fd)
        self.left_nothing()

    # -- wrong use

    def test_wrong_use_is_one_line_and_starts_nothing(self):
        bad = os.path.join(self.folder, "bad.json")
        with open(bad, "w") as f:
            f.write('{"messages": [{"content": "x"}]}')
        broken = os.path.join(self.folder, "broken.json")
        with open(broken, "w") as f:
            f.write('[{"role": "user", ')
        raw = os.path.join(self.folder, "raw.txt")
        with open(raw, "wb") as f:
            f.write(b"abc\xff")
        for words, part in [
                (["generate"], "none was given"),
                (["generate", "--prompt", ""], "the prompt is empty"),
                (["generate", "--prompt-ids", ""], "the prompt is empty"),
                (["generate", "--prompt-ids", "1,,2"], 'is not a token id'),
                (["generate", "--prompt-ids", "1 2"], "a comma is expected"),
                (["generate", "--prompt-ids", "-1"], "is not a token id"),
                (["generate", "--prompt-ids", "4294967296"], "is not a token id"),
                (["generate", "--prompt", "a", "--prompt-ids", "1"], "not several"),
                (["generate", "--prompt-file", "/no/such"], "/no/such"),
                (["generate", "--prompt-file", raw], "not UTF-8 text at byte 3"),
                (["generate", "--prompt-file", "-"], "the prompt is empty"),
                (["generate", "--messages", bad], "message 0 is not an object with a \"role\""),
                (["generate", "--messages", broken], "broken.json"),
                (["generate", "--messages", "/no/such"], "/no/such"),
                (["generate", "--prompt-ids", "1", "--raw"], "--raw goes with"),
                (["generate", "--prompt", "a", "--weights", "q4"], "not built yet"),
                (["generate", "--prompt", "a", "--temperature", "nan"], "not a number"),
                (["generate", "--prompt", "a", "--top-p", "1.5"], "must be from 0 to 1"),
                (["generate", "--prompt", "a", "--logprobs", "21"], "must be from 0 to 20"),
                (["generate", "--prompt", "a", "--promt", "x"], "did you mean --prompt?"),
                (["generate", "--prompt", "a", "--model", "/no/such"], "/no/such"),
                (["generate", "--prompt", "a", "--cluster", "/no/such"], "/no/such"),
                (["generate", "--prompt"], "--prompt needs a value"),
                (["chat", "--json"], "--json"),
                (["verify"], "--golden"),
                (["verify", "--golden", "/no/such"], "no such folder"),
                (["verify", "--golden", "/", "--only", "a,,b"], "an empty name"),
                (["generat"], "did you mean 'generate'?"),
                (["frobnicate"], "unknown command"),
                (["--json", "generate"], "the command goes first"),
                (["speak"], "--text"),
                (["serve"], "serve is not built yet")]:
            with self.subTest(words=words):
                if words[-1] == "--prompt":  # --workers must not become its value
                    p = subprocess.run([FLOTILLA, *words], capture_output=True, env=self.environment())
                    self.out, self.err, code = p.stdout.decode(), p.stderr.decode(), p.returncode
                else:
                    code = self.run_it(*words)
                self.assertEqual(code, 2, self.err)
                self.one_line(part)
        self.assertEqual(os.listdir(self.pids), [], "a rank was started")

    def test_help_and_version_are_results(self):
        for words in [["--help"], ["help", "generate"], ["generate", "--help"], ["speak", "--help"], ["bench", "--help"], ["chat", "--help"], ["verify", "--help"],
                      ["plan", "--help"], ["inspect", "--help"]]:
            p = subprocess.run([FLOTILLA, *words], capture_output=True)
            self.assertEqual((p.returncode, p.stderr), (0, b""), words)
            self.assertIn(b"flotilla", p.stdout)
        self.assertRegex(subprocess.check_output([FLOTILLA, "--version"]), rb"^flotilla \d+\.\d+\.\d+\n$")


if __name__ == "__main__":
    unittest.main(verbosity=2)
