#!/usr/bin/env python3
"""The front keeps its promises whatever its ranks do: one clear line, the right exit status, nothing on
standard output that is no result, no process and no file left behind, no wait without an end.

The ranks are fake_rank.c; jobs have one coordinator and three workers.
"""
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

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
        return [FLOTILLA, *words] + (["--workers", "3"] if words[0] in ("generate", "chat", "verify") else [])

    def run_it(self, *words, fake="", stdin="", seconds=20, **more):
        p = subprocess.run(self.command(*words), input=stdin.encode(), capture_output=True, timeout=seconds,
                           env=self.environment(fake, **more))
        self.out, self.err = p.stdout.decode(), p.stderr.decode()
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

    def test_a_long_answer_comes_whole_through_a_slow_pipe(self):
        p = self.start("generate", "--quiet", "--prompt", "LONG")
        time.sleep(1.5)
        out, err = p.communicate(timeout=20)
        self.assertEqual((p.returncode, len(out), err), (0, (4 << 20) + 1, b""))

    def test_verify_hands_on_lines_and_status(self):
        self.assertEqual(self.run_it("verify", "--golden", SOURCE, "--only", "thinker,chat"), 3)
        self.assertEqual(self.out, "thinker/a ok\n")
        self.assertIn("1 of 2 cases differs", self.err)

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
        self.assertEqual(self.run_it("chat", stdin=f"REFUSE\n/reset\n/sav x\n/image p.png\nok\n/save {saved}\n"), 2)
        self.assertIn("the KV cache holds 8", self.err)
        self.assertIn("did you mean /save?", self.err)
        self.assertIn("/image is not built yet", self.err)
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
                (["generate", "--prompt", "a", "--image", "p.png"], "pictures are not built yet"),
                (["generate", "--prompt", "a", "--speech=x.wav"], "speech is not built yet"),
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
                (["speak"], "speak is not built yet"),
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
        for words in [["--help"], ["help", "generate"], ["generate", "--help"], ["chat", "--help"], ["verify", "--help"],
                      ["plan", "--help"], ["inspect", "--help"]]:
            p = subprocess.run([FLOTILLA, *words], capture_output=True)
            self.assertEqual((p.returncode, p.stderr), (0, b""), words)
            self.assertIn(b"flotilla", p.stdout)
        self.assertRegex(subprocess.check_output([FLOTILLA, "--version"]), rb"^flotilla \d+\.\d+\.\d+\n$")


if __name__ == "__main__":
    unittest.main(verbosity=2)
