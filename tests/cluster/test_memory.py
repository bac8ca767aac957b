#!/usr/bin/env python3
"""A worker holds what its plan says and no more: its resident size is at most the planned bytes, 5 % and
64 MiB, after a long prompt and several requests; and a plan is not far over what is used at full load.

Layers of the published widths (three of them, few experts, random weights): one worker, two in one stage with
and without --deterministic, two and three stages. The coordinator holds no weights.
"""
import os
import unittest

from real_job import RealJob, SANITIZED, dummy_folder, ids_of

MIB = 1 << 20
SHAPES = [(1, 1, []), (2, 1, []), (2, 1, ["--deterministic"]), (2, 2, []), (3, 3, [])]


class Memory(RealJob):
    def used(self, n_workers, n_stages, words):
        """[(planned, resident)] of each worker and the coordinator's resident bytes."""
        model = self.path("model")
        if not os.path.exists(model):
            dummy_folder(model, {"num_hidden_layers": 3, "num_experts": 16}, {"accept_hidden_layer": 3})
        answer = self.answer("--load-format", "dummy", "--workers", n_workers, "--stages", n_stages, "--kv-tokens", 4096,
                             "--threads", 1, "--prompt-ids", ids_of(1100, 3), "--max-new-tokens", 6, "--logprobs", 20,
                             "--dump", self.path("dump"), *words, model=model, seconds=110)
        os.unlink(self.path("dump"))
        memory = answer["memory"]
        return [(w["planned_bytes"], w["rss_bytes"]) for w in memory["workers"]], memory["coordinator_rss_bytes"]

    @unittest.skipIf(SANITIZED, "sanitizers have memory of their own")
    def test_workers_hold_what_the_plan_says(self):
        for n_workers, n_stages, words in SHAPES:
            with self.subTest(workers=n_workers, stages=n_stages, words=words):
                workers, coordinator = self.used(n_workers, n_stages, words)
                for planned, resident in workers:
                    print("workers %d stages %d %s: planned %.0f MiB, resident %.0f MiB" % (
                        n_workers, n_stages, " ".join(words), planned / MIB, resident / MIB), flush=True)
                    self.assertLessEqual(resident, planned * 1.05 + 64 * MIB)
                print("coordinator %.0f MiB" % (coordinator / MIB), flush=True)
                self.assertLess(coordinator, 100 * MIB)


if __name__ == "__main__":
    unittest.main(verbosity=2)
