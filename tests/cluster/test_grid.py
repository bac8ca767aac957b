#!/usr/bin/env python3
"""However the model is divided, the answer is the same.

Jobs of S stages of E workers, S in {1, 2, 3} and E in {1, 2, 4}, and uneven ones, against one worker: the
same greedy and sampled tokens; with E = 1 or --deterministic the same bytes of every tensor of a dump, else
logits within 1e-4 of the largest. 1, 2 and 3 threads.
"""
import unittest

from real_job import RealJob, SANITIZED, TINY, floats, ids_of, read_dump, relative_error

GRID = [(s, e) for s in (1, 2, 3) for e in (1, 2, 4)]
PROMPT = ids_of(150, seed=1)
LOGITS = 1e-4


class Grid(RealJob):
    def ask(self, *words, n_workers=1, n_stages=1, threads=1, new=10):
        """(generated ids, bytes of the dump)"""
        dump = self.path("dump.safetensors")
        answer = self.answer("--prompt-ids", PROMPT, "--workers", n_workers, "--stages", n_stages, "--threads", threads,
                             "--max-new-tokens", new, "--ignore-eos", "--dump", dump, *words)
        self.assertEqual(len(answer["ids"]), new)
        self.assertEqual(answer["plan"], {"workers": n_workers, "stages": n_stages, "weights": "bf16"})
        with open(dump, "rb") as f:
            return answer["ids"], f.read()

    def near(self, dump, one):
        with open(self.path("one"), "wb") as f:
            f.write(one)
        a, b = read_dump(self.path("dump.safetensors")), read_dump(self.path("one"))
        self.assertEqual({k: v[:2] for k, v in a.items()}, {k: v[:2] for k, v in b.items()})
        self.assertLess(relative_error(floats(a["logits"]), floats(b["logits"])), LOGITS)
        for name in a:
            if name.startswith(("router_ids", "input_ids", "position_ids")):
                self.assertEqual(a[name], b[name], name)

    def test_every_split_gives_the_same_answer(self):
        ids, one = self.ask()
        for s, e in GRID if not SANITIZED else [(1, 2), (3, 2)]:
            with self.subTest(stages=s, each=e):
                got, dump = self.ask(n_workers=s * e, n_stages=s)
                self.assertEqual(got, ids)
                if e == 1:
                    self.assertTrue(dump == one, "other bytes in the dump")
                else:
                    self.near(dump, one)
                    got, dump = self.ask("--deterministic", n_workers=s * e, n_stages=s)
                    self.assertEqual(got, ids)
                    self.assertTrue(dump == one, "other bytes in the deterministic dump")

    def test_stages_of_unequal_size_give_the_same_answer(self):
        ids, one = self.ask()
        for n_workers, n_stages in [(3, 2), (5, 3), (6, 6), (5, 5)] if not SANITIZED else [(5, 3)]:
            with self.subTest(workers=n_workers, stages=n_stages):
                got, dump = self.ask(n_workers=n_workers, n_stages=n_stages)
                self.assertEqual(got, ids)
                self.near(dump, one)
                got, dump = self.ask("--deterministic", n_workers=n_workers, n_stages=n_stages)
                self.assertEqual(got, ids)
                self.assertTrue(dump == one, "other bytes in the deterministic dump")

    def test_threads_do_not_change_a_bit(self):
        _, one = self.ask(new=3)
        for threads in (2, 3):
            for n_workers, n_stages in [(1, 1), (3, 3)]:
                with self.subTest(threads=threads, workers=n_workers):
                    _, dump = self.ask(n_workers=n_workers, n_stages=n_stages, threads=threads, new=3)
                    self.assertTrue(dump == one, "other bytes in the dump")
        _, dump = self.ask("--deterministic", n_workers=2, threads=3, new=3)
        self.assertTrue(dump == one, "other bytes in the deterministic dump")

    def test_a_seed_samples_the_same_tokens_everywhere(self):
        sampled = ["--temperature", "1.3", "--top-p", "0.95", "--seed", "11", "--logprobs", "2", "--deterministic"]
        words = ["--prompt-ids", PROMPT, "--max-new-tokens", 24, "--ignore-eos", *sampled]
        one = self.answer(*words)
        self.assertNotEqual(self.answer(*words[:-3], "--logprobs", "2", "--deterministic", "--seed", "12")["ids"], one["ids"])
        for n_workers, n_stages, threads in [(2, 2, 1), (4, 2, 1), (4, 1, 2), (5, 3, 1), (3, 3, 2)]:
            with self.subTest(workers=n_workers, stages=n_stages):
                got = self.answer(*words, "--workers", n_workers, "--stages", n_stages, "--threads", threads)
                self.assertEqual((got["ids"], got["logprobs"]), (one["ids"], one["logprobs"]))

    def test_a_temperature_near_zero_is_greedy(self):
        words = ["--prompt-ids", PROMPT, "--max-new-tokens", 6, "--ignore-eos", "--workers", 2]
        greedy = self.answer(*words)["ids"]
        for temperature in ("1e-300", "1e-45", "1e-37", "1e-4"):
            self.assertEqual(self.answer(*words, "--temperature", temperature)["ids"], greedy)

    def test_more_workers_than_the_model_can_feed_are_refused(self):
        for n_workers, n_stages in [(97, 6), (7, 7), (17, 1)]:
            with self.subTest(workers=n_workers, stages=n_stages):
                self.flotilla("generate", "--quiet", "--model", TINY, "--prompt", "x", "--workers", n_workers,
                              "--stages", n_stages)
                self.one_line(code=2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
