#!/usr/bin/env python3
"""A job that has nothing to do leaves the cores to others and wakes up soon.

One coordinator and three workers: each rank under 3 % of a core while a chat waits and while requests could
come from a pipe, also after it has answered once.
"""
import json
import os
import subprocess
import time
import unittest

from real_job import COORDINATOR, FLOTILLA, MPI_ENVIRONMENT, RealJob, SANITIZED, SLOWER, TINY, WORKER, cpu_seconds, ids_of

SECONDS = 5.0
SHARE_MAX = 0.03


class Idle(RealJob):
    def shares(self):
        """{name and pid: share of a core} of every rank over SECONDS."""
        pids = self.wait_for("flotilla-coordi", 1) + self.wait_for("flotilla-worker", 3)
        before = [cpu_seconds(p) for p in pids]
        began = time.monotonic()
        time.sleep(SECONDS)
        took = time.monotonic() - began
        return [(cpu_seconds(p) - b) / took for p, b in zip(pids, before)]

    def idle(self, when):
        shares = self.shares()
        print(when + ": " + " ".join("%.1f %%" % (100 * s) for s in shares), flush=True)
        for s in shares:
            self.assertLess(s, SHARE_MAX)

    @unittest.skipIf(SANITIZED, "sanitizers cost time of their own")
    def test_a_chat_that_waits_costs_nothing(self):
        p = self.start(FLOTILLA, "chat", "--quiet", "--model", TINY, "--workers", 3, "--max-new-tokens", 5, stdin=subprocess.PIPE)
        p.stdin.write(b"Hello\n")
        p.stdin.flush()
        self.assertGreater(len(p.stdout.readline()), 0)
        time.sleep(1)
        self.idle("chat")
        p.stdin.close()
        self.assertEqual(p.wait(10 * SLOWER), 0)

    @unittest.skipIf(SANITIZED, "sanitizers cost time of their own")
    def test_a_pipe_without_requests_costs_nothing_and_an_answer_comes_soon(self):
        p = self.start("mpirun", "--oversubscribe", "--bind-to", "none", "-np", 1, COORDINATOR, "--quiet", "--model", TINY,
                       "--requests", "-", ":", "-np", 3, WORKER, stdin=subprocess.PIPE, env=MPI_ENVIRONMENT)
        line = json.dumps({"custom_id": "a", "body": {"prompt_ids": [1, 2, 3], "max_tokens": 1}}).encode() + b"\n"

        def ask():
            began = time.monotonic()
            p.stdin.write(line)
            p.stdin.flush()
            self.assertIsNone(json.loads(p.stdout.readline())["error"])
            return time.monotonic() - began
        ask()
        time.sleep(1)
        self.idle("requests from a pipe")
        cold = []
        for _ in range(8):
            time.sleep(0.5)
            cold.append(ask())
        warm = [ask() for _ in range(20)]
        print("first token of 3: after a pause %.1f ms, at once %.1f ms (medians)" % (
            1e3 * sorted(cold)[4], 1e3 * sorted(warm)[10]), flush=True)
        self.assertLess(min(cold), 0.1 * SLOWER)
        p.stdin.close()
        self.assertEqual(p.wait(10 * SLOWER), 0)

    @unittest.skipIf(SANITIZED, "sanitizers cost time of their own")
    def test_a_hop_costs_little(self):
        """Time of a decode step with one and with three stages; two hops more and the same work."""
        steps = {}
        for n in (1, 3):
            best = 1e9
            for _ in range(3):
                t = self.answer("--prompt-ids", ids_of(20, 1), "--workers", n, "--threads", 1, "--max-new-tokens", 200,
                                "--ignore-eos")["timing"]
                best = min(best, t["generate_s"] / 199)
            steps[n] = best
        hop = (steps[3] - steps[1]) / 2
        print("decode step: one stage %.0f us, three stages %.0f us, a hop %.0f us" % (
            1e6 * steps[1], 1e6 * steps[3], 1e6 * hop), flush=True)
        self.assertLess(hop, 2e-3 * SLOWER)


if __name__ == "__main__":
    unittest.main(verbosity=2)
