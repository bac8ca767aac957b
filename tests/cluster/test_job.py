#!/usr/bin/env python3
"""A real job (one coordinator, three workers, the checkpoint in models/tiny) answers, and whatever is done
to it or given to it ends in one clear line, the right exit status and no process left.
"""
import json
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest

BINARY = os.environ["FLOTILLA_BINARY_DIR"]
SOURCE = os.environ["FLOTILLA_SOURCE_DIR"]
FLOTILLA = os.path.join(BINARY, "flotilla")
TINY = os.path.join(SOURCE, "models", "tiny")
ENDLESS = ["--prompt", "What is the capital of France?", "--ignore-eos", "--max-new-tokens", "60000"]


def processes():
    """pid -> (parent, state, name) of all processes."""
    table = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as f:
                    text = f.read()
            except OSError:
                continue
            name = text[text.index("(") + 1:text.rindex(")")]
            state, parent = text.rpartition(")")[2].split()[:2]
            table[int(entry)] = (int(parent), state, name)
    return table


def descendants(pid):
    table, found = processes(), [pid]
    for p in found:
        found += [c for c, (parent, _, _) in table.items() if parent == p]
    return {p: table[p][2] for p in found[1:] if p in table}


def alive(pid):
    entry = processes().get(pid)
    return entry is not None and entry[1] != "Z"


class Job(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="flotilla-test-")
        self.env = dict(os.environ, TMPDIR=self.folder)
        for name in ("FLOTILLA_MODEL", "FLOTILLA_PROGRAMS"):
            self.env.pop(name, None)

    def tearDown(self):
        # Open MPI's own end of a killed job may still be tidying its files in here.
        shutil.rmtree(self.folder, ignore_errors=True)

    def run_it(self, *words, stdin="", workers="3"):
        p = subprocess.run([FLOTILLA, *words, "--workers", workers], input=stdin.encode(), capture_output=True,
                           timeout=120, env=self.env)
        self.out, self.err = p.stdout.decode(), p.stderr.decode()
        return p.returncode

    def refused(self, status, part, *words, workers="3"):
        self.assertEqual(self.run_it("generate", *words, workers=workers), status, self.err)
        lines = [l for l in self.err.splitlines() if "error: " in l]
        self.assertEqual(len(lines), 1, self.err)
        self.assertIn(part, lines[0])
        self.assertEqual(self.out, "")
        self.assertEqual([n for n in os.listdir(self.folder) if n.startswith("flotilla-run")], [])

    def copy(self):
        path = os.path.join(self.folder, "model")
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(TINY, path)
        return path

    def shards(self, model):
        return sorted(os.path.join(model, n) for n in os.listdir(model) if n.endswith(".safetensors"))

    def configured(self, key, value):
        model = self.copy()
        path = os.path.join(model, "config.json")
        with open(path) as f:
            config = json.load(f)
        config["thinker_config"]["text_config"][key] = value
        with open(path, "w") as f:
            json.dump(config, f)
        return model

    # -- it works

    def test_three_workers_know_the_capital_of_france(self):
        self.assertEqual(self.run_it("generate", "--prompt", "What is the capital of France?"), 0, self.err)
        self.assertIn("Paris", self.out)

    def test_the_document_has_all_its_keys(self):
        self.assertEqual(self.run_it("generate", "--json", "--logprobs", "2", "--prompt", "What is the capital of France?"), 0)
        a = json.loads(self.out)
        self.assertEqual(a["finish_reason"], "stop")
        self.assertEqual(len(a["logprobs"]), len(a["ids"]))
        self.assertEqual(a["plan"]["workers"], 3)
        self.assertEqual([w["rank"] for w in a["memory"]["workers"]], [1, 2, 3])
        self.assertEqual(a["timing"]["generated_tokens"], len(a["ids"]))

    def test_a_chat_computes_only_what_is_new(self):
        saved = os.path.join(self.folder, "talk.json")
        lines = f"What is the capital of France?\nWhat is the capital of Italy?\n/save {saved}\n"
        self.assertEqual(self.run_it("chat", stdin=lines), 0, self.err)
        self.assertEqual(len(self.out.splitlines()), 2)
        reused = [int(l.split(";")[1].split()[0]) for l in self.err.splitlines() if "in the KV cache" in l]
        self.assertEqual(len(reused), 2)
        self.assertEqual(reused[0], 0)
        self.assertGreater(reused[1], 10)
        self.assertIn("Paris", self.out.splitlines()[0])
        with open(saved) as f:
            first = json.load(f)
        self.assertEqual(len(first["messages"]), 4)
        # the same conversation in one go answers the same
        ask = os.path.join(self.folder, "ask.json")
        with open(ask, "w") as f:
            json.dump(first["messages"][:3], f)
        self.assertEqual(self.run_it("generate", "--messages", ask), 0, self.err)
        self.assertEqual(self.out.rstrip("\n"), first["messages"][3]["content"])

    # -- bad input

    def test_bad_prompts(self):
        self.refused(2, "token id", "--prompt-ids", "1,99999999")
        self.refused(2, "empty", "--prompt", "")
        self.refused(2, "KV", "--raw", "--kv-tokens", "64", "--prompt", "word " * 400)

    def test_too_many_workers_and_stages(self):
        self.refused(2, "worker", "--prompt", "x", workers="900")
        self.refused(2, "stage", "--prompt", "x", "--stages", "40", workers="40")

    def test_a_model_that_does_not_fit(self):
        self.refused(3, "bytes", "--prompt", "x", "--memory", "1M")

    def test_folders_that_are_no_checkpoint(self):
        self.refused(2, "/no/such", "--prompt", "x", "--model", "/no/such")
        self.refused(2, "config.json", "--prompt", "x", "--model", self.folder)

    def test_damaged_shards(self):
        for damage, part in [(lambda f: f.truncate(os.fstat(f.fileno()).st_size - 100), "truncated"),
                             (lambda f: f.truncate(4), ""),
                             (lambda f: f.write(struct.pack("<Q", 1 << 60)), ""),
                             (lambda f: f.write(b"\0" * 64), "")]:
            model = self.copy()
            shard = self.shards(model)[1]
            with open(shard, "r+b") as f:
                damage(f)
            self.refused(1, os.path.basename(shard), "--prompt", "x", "--model", model)
            self.assertIn(part, self.err)

    def test_damaged_indexes(self):
        model = self.copy()
        os.remove(self.shards(model)[2])
        self.refused(1, "model-00003-of-00003.safetensors", "--prompt", "x", "--model", model)
        model = self.copy()
        index = os.path.join(model, "model.safetensors.index.json")
        with open(index) as f:
            text = f.read()
        with open(index, "w") as f:
            f.write(text.replace("model-00001", "../model-00001"))
        self.refused(1, "../model-00001", "--prompt", "x", "--model", model)

    def test_absurd_configurations(self):
        for key, value in [("num_attention_heads", 0), ("num_hidden_layers", 10 ** 9), ("num_hidden_layers", 400),
                           ("num_experts_per_tok", 5000), ("hidden_size", -1), ("vocab_size", 1 << 40)]:
            with self.subTest(key=key, value=value):
                self.refused(1, "", "--prompt", "x", "--model", self.configured(key, value))

    def test_a_faulty_cluster_file(self):
        path = os.path.join(self.folder, "c.json")
        with open(path, "w") as f:
            f.write('{"hosts": [{"host": "localhost"}], "colour": "red"}')
        self.refused(2, "colour", "--prompt", "x", "--cluster", path)

    def test_a_dump_that_cannot_be_written(self):
        self.refused(2, "/no/such", "--prompt", "x", "--dump", "/no/such/d.safetensors")

    # -- ranks that die, people who change their mind

    def start(self, *words):
        return subprocess.Popen([FLOTILLA, *words, "--workers", "3"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=self.env)

    def ranks(self, p, name, n):
        """Pids of ranks by name as soon as n of them run."""
        until = time.monotonic() + 30
        while time.monotonic() < until:
            found = sorted(pid for pid, c in descendants(p.pid).items() if c == name)
            if len(found) == n:
                return found
            time.sleep(0.01)
        self.fail(f"{n} of {name} did not start")

    def all_gone(self, pids):
        until = time.monotonic() + 0.5
        while any(alive(p) for p in pids) and time.monotonic() < until:
            time.sleep(0.02)
        self.assertEqual([p for p in pids if alive(p)], [])
        self.assertEqual([n for n in os.listdir(self.folder) if n.startswith("flotilla-run")], [])

    def killed(self, name, n, which, streaming):
        p = self.start("generate", *ENDLESS)
        ranks = self.ranks(p, name, n)
        if streaming:
            self.assertTrue(p.stdout.read(4))
        everyone = list(descendants(p.pid))
        os.kill(ranks[which], signal.SIGKILL)
        began = time.monotonic()
        err = p.communicate(timeout=30)[1].decode()
        self.assertLess(time.monotonic() - began, 6)
        self.assertEqual(p.returncode, 1, err)
        lines = [l for l in err.splitlines() if "error: " in l]
        self.assertEqual(len(lines), 1, err)
        # mpirun itself can hang when a rank dies while it starts them: then the front says so
        self.assertRegex(lines[0], "was killed by signal 9|a rank was lost while the job was starting")
        self.all_gone(everyone)

    def test_a_worker_killed_while_loading(self):
        for which in range(3):
            self.killed("flotilla-worker", 3, which, False)

    def test_a_worker_killed_while_generating(self):
        for which in range(3):
            self.killed("flotilla-worker", 3, which, True)

    def test_a_coordinator_killed_while_generating(self):
        self.killed("flotilla-coordi", 1, 0, True)

    def interrupted(self, streaming):
        p = self.start("generate", *ENDLESS)
        self.ranks(p, "flotilla-worker", 3)
        if streaming:
            self.assertTrue(p.stdout.read(4))
        everyone = list(descendants(p.pid))
        began = time.monotonic()
        p.send_signal(signal.SIGINT)
        err = p.communicate(timeout=30)[1].decode()
        self.assertLess(time.monotonic() - began, 2, err)
        self.assertEqual(p.returncode, 130, err)
        self.all_gone(everyone)

    def test_ctrl_c_ends_all_within_two_seconds(self):
        self.interrupted(False)
        self.interrupted(True)

    def test_ranks_do_not_outlive_a_killed_command(self):
        p = self.start("generate", *ENDLESS)
        self.assertTrue(p.stdout.read(4))
        everyone = list(descendants(p.pid))
        p.kill()
        p.communicate()
        until = time.monotonic() + 5
        while any(alive(q) for q in everyone) and time.monotonic() < until:
            time.sleep(0.05)
        self.assertEqual([q for q in everyone if alive(q)], [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
