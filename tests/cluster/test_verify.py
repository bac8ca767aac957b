#!/usr/bin/env python3
"""`flotilla verify` on real jobs: the recorded data are met by one worker, by three stages of one and by one
stage of three; one number that is off is found, named, and exits 3; another model's data are told apart.
"""
import json
import os
import shutil
import struct
import subprocess
import tempfile
import unittest

BINARY = os.environ["FLOTILLA_BINARY_DIR"]
SOURCE = os.environ["FLOTILLA_SOURCE_DIR"]
GOLDEN = os.path.join(SOURCE, "tests", "golden")
TINY = os.path.join(GOLDEN, "tiny-omni")
SECTIONS = ("tokenization", "template", "chat", "thinker", "sampling")


class Tensors:
    """A safetensors file that can be changed in place."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as f:
            (self.n_header,) = struct.unpack("<Q", f.read(8))
            self.header = json.loads(f.read(self.n_header))

    def write(self, name, index, form, value):
        with open(self.path, "r+b") as f:
            f.seek(8 + self.n_header + self.header[name]["data_offsets"][0] + 4 * index)
            f.write(struct.pack(form, value))


class Verify(unittest.TestCase):
    def setUp(self):
        self.golden = tempfile.mkdtemp(prefix="flotilla-verify-")
        for name in SECTIONS:
            os.symlink(os.path.join(GOLDEN, name), os.path.join(self.golden, name))
        os.symlink(os.path.join(BINARY, "golden", "tokenizer-qwen3-omni"),
                   os.path.join(self.golden, "tokenizer-qwen3-omni"))

    def tearDown(self):
        shutil.rmtree(self.golden)

    def own(self, section, *cases):
        """Copies of these cases, in place of the section's link where it has one."""
        folder = os.path.join(self.golden, section)
        if os.path.islink(folder):
            os.unlink(folder)
        for case in cases:
            shutil.copytree(os.path.join(GOLDEN, section, case), os.path.join(folder, case))
        return folder

    def verify(self, *options, model=TINY):
        p = subprocess.run([os.path.join(BINARY, "flotilla"), "verify", "--model", model, "--golden", self.golden,
                            "--kv-tokens", "4096", "--threads", "1", *options],
                           capture_output=True, timeout=240)
        self.out, self.err = p.stdout.decode(), p.stderr.decode()
        return p.returncode

    def error_line(self):
        lines = [line for line in self.err.splitlines() if "error: " in line]
        self.assertEqual(len(lines), 1, self.err)
        return lines[0]

    def all_is_met(self, *options):
        self.assertEqual(self.verify(*options), 0, self.out[-3000:] + self.err)
        self.assertIn("in thinker: 7 cases, 154 tensors and 84 texts compared, 0 over, 0 missing", self.out)
        self.assertEqual(self.out.splitlines()[-1],
                         "in all: 608 cases, 175 tensors and 2406 texts compared, 0 over, 0 missing or damaged; "
                         "24 without a counterpart; 0 sections not run")

    def test_speech_meets_the_reference_on_any_split(self):
        for name in ("speech", "code2wav"):
            os.symlink(os.path.join(GOLDEN, name), os.path.join(self.golden, name))
        for options in (["--workers", "1"], ["--workers", "3"], ["--workers", "4", "--stages", "2"]):
            with self.subTest(options=options):
                self.assertEqual(self.verify("--only", "speech,code2wav", *options), 0, self.out[-3000:] + self.err)
                self.assertEqual(self.out.splitlines()[-1],
                                 "in all: 7 cases, 133 tensors compared, 0 over, 0 missing or damaged; "
                                 "0 without a counterpart; 0 sections not run")

    def test_one_worker_meets_the_reference(self):
        self.all_is_met("--workers", "1")

    def test_three_stages_meet_the_reference(self):
        self.all_is_met("--workers", "3", "--stages", "3")

    def test_one_stage_of_three_workers_meets_the_reference(self):
        self.all_is_met("--workers", "3", "--stages", "1")

    def test_a_changed_hidden_state_is_named(self):
        folder = self.own("thinker", "text-007")
        Tensors(os.path.join(folder, "text-007", "tensors.safetensors")).write("hidden.3", 2 * 128 + 5, "<f", 77.0)
        self.assertEqual(self.verify("--workers", "1", "--only", "thinker"), 3)
        over = [line for line in self.out.splitlines() if "OVER" in line]
        self.assertEqual(len(over), 1, over)
        self.assertEqual(over[0].split()[:2], ["text-007", "hidden.3"])
        self.assertIn("1 of 896, worst at [2, 5]: ", over[0])
        self.assertIn("expected 77", over[0])
        self.assertIn("thinker/text-007 hidden.3", self.error_line())

    def test_a_changed_answer_is_named(self):
        folder = self.own("thinker", "text-001")
        Tensors(os.path.join(folder, "text-001", "tensors.safetensors")).write("greedy_ids", 23, "<i", 5)
        self.assertEqual(self.verify("--workers", "1", "--only", "thinker"), 3)
        over = [line.split()[1] for line in self.out.splitlines() if "OVER" in line]
        self.assertEqual(over, ["greedy_ids"])
        self.assertIn("thinker/text-001 greedy_ids", self.error_line())

    def test_a_nan_is_over(self):
        folder = self.own("thinker", "text-001")
        Tensors(os.path.join(folder, "text-001", "tensors.safetensors")).write("logits", 0, "<f", float("nan"))
        self.assertEqual(self.verify("--workers", "1", "--only", "thinker"), 3)
        self.assertIn("thinker/text-001 logits", self.error_line())

    def test_a_missing_file_is_a_difference(self):
        folder = self.own("thinker", "text-001", "text-007")
        os.unlink(os.path.join(folder, "text-001", "tensors.safetensors"))
        self.assertEqual(self.verify("--workers", "1", "--only", "thinker"), 3)
        self.assertIn("0 over, 1 missing or damaged", self.out)
        self.assertIn("thinker/text-001", self.error_line())
        self.assertIn("text-007           hidden.norm", self.out, "the other case is run all the same")

    def test_a_spoken_case_that_asks_for_what_cannot_be_is_damaged(self):
        folder = self.own("speech", "text", "text-two-turns")
        path = os.path.join(folder, "text", "case.json")
        with open(path) as f:
            case = json.load(f)
        for name, value in (("talker_max_new_tokens", 1e20), ("talker_max_new_tokens", -3), ("thinker_max_new_tokens", 0),
                            ("talker_repetition_penalty", 0), ("chunk_size", 1e300)):
            with self.subTest(name=name, value=value):
                with open(path, "w") as f:
                    json.dump(dict(case, inputs=dict(case["inputs"], **{name: value})), f)
                self.assertEqual(self.verify("--workers", "1", "--only", "speech"), 3)
                self.assertIn("FAULT: " + name, self.out)
                self.assertIn("0 over, 1 missing or damaged", self.out)
                self.assertIn("speech/text", self.error_line())

    def test_data_of_another_checkpoint_are_told_in_one_sentence(self):
        other = os.path.join(SOURCE, "models", "tiny")
        self.assertEqual(self.verify("--workers", "1", "--only", "thinker,tokenization", model=other), 3)
        self.assertNotIn("OVER", self.out)
        self.assertEqual(self.out.count("are of another checkpoint"), 2, self.out)  # one for each section
        self.assertIn("not all was run: tokenization, thinker", self.error_line())

    def test_wrong_use_exits_2(self):
        self.assertEqual(self.verify("--workers", "1", "--only", "tinker"), 2)
        self.assertIn("no such section", self.error_line())
        self.assertEqual(self.verify("--workers", "1", "--only", "audio"), 2)
        self.assertIn("no such folder", self.error_line())


if __name__ == "__main__":
    unittest.main()
