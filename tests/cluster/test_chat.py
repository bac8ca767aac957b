#!/usr/bin/env python3
"""A conversation goes on where it was: later turns say what a fresh process would say to the same messages,
and compute only what is new. Over a pipe and over a terminal; one coordinator and three workers.
"""
import json
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
import unittest
import wave
import zlib

from real_job import COORDINATOR, FLOTILLA, MPI_ENVIRONMENT, RealJob, SLOWER, TINY, WORKER
from terminal import fork_on_terminal

WORDS = ["--model", TINY, "--workers", "3", "--threads", "1"]
SHORT = ["--max-new-tokens", "12"]


class Terminal:
    """A program on a pseudo-terminal."""

    def __init__(self, test, *words):
        self.test, self.seen = test, b""
        self.pid, self.fd = fork_on_terminal()
        if self.pid == 0:
            os.chdir(test.folder)
            os.execve(words[0], words, test.environment(TERM="xterm"))

    def until(self, part, seconds=20):
        """What came before part."""
        end = time.monotonic() + seconds * SLOWER
        while part not in self.seen and time.monotonic() < end:
            if select.select([self.fd], [], [], 0.1)[0]:
                self.seen += os.read(self.fd, 65536)
        self.test.assertIn(part, self.seen)
        before, _, self.seen = self.seen.partition(part)
        return before

    def say(self, text):
        """Types; all but Ctrl-C only once the editor reads: what the terminal takes before is not the same (Ctrl-D is lost)."""
        end = time.monotonic() + 20 * SLOWER
        while text != b"\x03" and termios.tcgetattr(self.fd)[3] & termios.ICANON and time.monotonic() < end:
            time.sleep(0.01)
        os.write(self.fd, text)

    def end(self):
        """The exit status."""
        while True:
            try:
                if not os.read(self.fd, 65536):
                    break
            except OSError:
                break
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class Chat(RealJob):
    def fresh(self, messages):
        with open(self.path("messages.json"), "w") as f:
            json.dump(messages, f)
        self.flotilla("generate", "--quiet", *WORDS, *SHORT, "--messages", self.path("messages.json"))
        self.assertEqual(self.code, 0, self.err)
        return self.out[:-1]

    def saved(self, name):
        with open(self.path(name)) as f:
            return json.load(f)["messages"]

    def test_later_turns_over_a_pipe_are_those_of_a_fresh_process(self):
        text = "What is the capital of France? " * 6
        lines = [text, "And of Spain?", "/save a.json", "/reset", "Hello", "/save b.json", "/load a.json", "And Italy?", "/save c.json"]
        self.flotilla("chat", "--quiet", *WORDS, *SHORT, "--system", "Be short.", stdin="\n".join(lines).encode())
        self.assertEqual((self.code, self.err), (0, ""))
        a, b, c = (self.saved(f"{x}.json") for x in "abc")
        self.assertEqual([m["role"] for m in c], ["system"] + ["user", "assistant"] * 3)
        self.assertEqual(c[:5], a)
        for talk, n in ((a, 3), (a, 5), (b, 3), (c, 7)):
            self.assertEqual(self.fresh(talk[:n - 1]), talk[n - 1]["content"])

    def test_a_second_turn_takes_over_the_kv_cache_of_the_first(self):
        text = "What is the capital of France? " * 20
        self.flotilla("chat", *WORDS, *SHORT, stdin=f"{text}\nAnd of Spain?\n".encode())
        self.assertEqual(self.code, 0, self.err)
        reused = [int(x) for x in re.findall(r"(\d+) of \d+ prompt tokens were in the KV cache", self.err)]
        self.assertEqual(len(reused), 2, self.err)
        self.assertEqual(reused[0], 0)
        self.assertGreater(reused[1], 100)

    def test_media_of_earlier_turns_stay_as_they_were(self):
        self.picture("a.png", 96, 64)
        self.sound("short.wav", 0.5)
        self.sound("long.wav", 3)
        with open(self.path("cut.png"), "wb") as f, open(self.path("a.png"), "rb") as whole:
            f.write(whole.read()[:60])
        first = ["/image a.png", "/audio short.wav", "What is this?", "/save a.json", "/image cut.png", "And this?"]
        last = ["/audio long.wav", "And that?", "/save b.json"]
        words = [*WORDS, *SHORT, "--ignore-eos"]
        self.flotilla("chat", *words, stdin="\n".join(first + last).encode())
        self.assertEqual(self.code, 2, self.err)  # the damaged picture's; the chat went on
        self.assertIn("cut.png: ", self.err)
        turns = [tuple(map(int, x)) for x in re.findall(r"(\d+) of (\d+) prompt tokens were in the KV cache", self.err)]
        self.assertEqual(len(turns), 2, self.err)
        self.assertGreaterEqual(turns[1][0], turns[0][1])  # a longer sound pads its own turn alone
        a, b = self.saved("a.json"), self.saved("b.json")
        self.assertEqual(b[:2], a)
        self.assertEqual([p["type"] for p in b[0]["content"]], ["image", "audio", "text"])
        self.flotilla("chat", *words, stdin="\n".join(["/load a.json", *last]).encode())
        self.assertEqual(self.code, 0, self.err)
        self.assertEqual(self.saved("b.json"), b)

    def picture(self, name, width, height):
        """A PNG of slopes."""
        rows = b"".join(b"\0" + bytes(v for x in range(width) for v in (x * 2 % 256, y * 3 % 256, 90)) for y in range(height))

        def chunk(kind, body):
            return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        with open(self.path(name), "wb") as f:
            f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
                    chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))

    def sound(self, name, seconds):
        with wave.open(self.path(name), "wb") as f:
            f.setparams((1, 2, 16000, 0, "NONE", ""))
            f.writeframes(b"".join(struct.pack("<h", i * 37 % 8000 - 4000) for i in range(int(seconds * 16000))))

    def test_a_terminal(self):
        t = Terminal(self, FLOTILLA, "chat", *WORDS, *SHORT, "--ignore-eos")
        t.until(b"> ")
        t.say(b"What is the capital of Frankx\x7fce?\r")
        t.until(b"prompt tokens were in the KV cache")
        t.until(b"> ")
        t.say(b"/save one.json\r")
        t.until(b"> ")
        t.say(b"/reset\r")
        t.until(b"> ")
        t.say(b"/load one.json\r")
        t.until(b"> ")
        t.say(b"And of Spain?\r")
        t.until(b"prompt tokens were in the KV cache")
        t.until(b"> ")
        t.say(b"/save two.json\r")
        t.until(b"> ")
        t.say(b"\x04")
        self.assertEqual(t.end(), 0)
        self.nothing_left()
        one, two = self.saved("one.json"), self.saved("two.json")
        self.assertEqual(one[0]["content"], "What is the capital of Frankce?")
        self.assertEqual(two[:2], one)

    def test_ctrl_c_ends_an_answer_and_not_the_chat(self):
        t = Terminal(self, FLOTILLA, "chat", *WORDS, "--max-new-tokens", "60000", "--ignore-eos")
        t.until(b"> ")
        for _ in range(2):
            t.say(b"Tell me everything\r")
            t.until(b"everything\r\n")
            time.sleep(0.7 * SLOWER)
            t.say(b"\x03")
            t.until(b"prompt tokens were in the KV cache", seconds=5)
            t.until(b"> ")
        t.say(b"/save cut.json\r")
        until = time.monotonic() + 5 * SLOWER
        while not os.path.exists(self.path("cut.json")) and time.monotonic() < until:
            time.sleep(0.05)
        self.assertGreater(len(self.saved("cut.json")[1]["content"]), 5)
        began = time.monotonic()
        t.say(b"\x03")
        self.assertEqual(t.end(), 130)
        self.assertLess(time.monotonic() - began, 2 * SLOWER)
        self.nothing_left()

    def test_a_worker_lost_while_nobody_speaks_is_named(self):
        t = Terminal(self, FLOTILLA, "chat", *WORDS)
        t.until(b"> ")
        os.kill(self.wait_for("flotilla-worker", 3)[1], signal.SIGKILL)
        self.assertIn(b"", t.until(b"worker rank 2 on host"))
        self.assertEqual(t.end(), 1)
        self.nothing_left()


if __name__ == "__main__":
    unittest.main(verbosity=2)
