#!/usr/bin/env python3
"""A job that loses a rank, its disk, its reader or its owner ends soon, says why and leaves nothing.

One coordinator and three workers; while loading the model is a dummy of real widths that takes seconds.
"""
import json
import os
import select
import shutil
import signal
import subprocess
import time
import unittest

from real_job import FLOTILLA, RealJob, SLOWER, TINY, dummy_folder, memory_folders, processes_with

LONG = ["generate", "--quiet", "--model", TINY, "--workers", "3", "--threads", "1", "--prompt", "x", "--ignore-eos",
        "--max-new-tokens", "60000"]


class Failures(RealJob):
    def loading(self):
        """A job in the middle of its loading."""
        model = dummy_folder(self.path("slow-%d" % len(self.started)), {"num_hidden_layers": 3, "num_experts": 64}, {"accept_hidden_layer": 3})
        p = self.start(FLOTILLA, "generate", "--quiet", "--model", model, "--load-format", "dummy", "--workers", "3",
                       "--threads", "1", "--kv-tokens", "256", "--prompt-ids", "1,2,3")
        self.wait_for("flotilla-worker", 3)
        until = time.monotonic() + 20 * SLOWER
        while self.resident() < 100 << 20 and time.monotonic() < until:
            time.sleep(0.02)
        self.assertIsNone(p.poll())
        return p

    def generating(self, *words):
        """A job that has begun to answer."""
        p = self.start(FLOTILLA, *(words or LONG), env={
            "ASAN_OPTIONS": "handle_segv=0",  # a crash is to be one
            "TSAN_OPTIONS": "handle_segv=0:ignore_noninstrumented_modules=1"})
        self.assertTrue(select.select([p.stdout], [], [], 20 * SLOWER)[0], "no text came")
        return p

    def resident(self):
        total = 0
        for pid in self.wait_for("flotilla-worker", 3):
            try:
                with open(f"/proc/{pid}/statm") as f:
                    total += int(f.read().split()[1]) * 4096
            except OSError:
                pass
        return total

    def ends(self, p, code, part, within=5.0):
        began = time.monotonic()
        _, err = p.communicate(timeout=30 * SLOWER)
        self.err = err.decode()
        self.assertLess(time.monotonic() - began, within * SLOWER)
        self.assertEqual(p.returncode, code, self.err)
        if part is None:
            self.assertEqual(self.err, "")
        else:
            self.assertEqual(len(self.err.splitlines()), 1, self.err)
            self.assertIn(part, self.err)
        self.nothing_left()

    def kill_rank(self, name, number, which=-1):
        pids = self.wait_for(name, 3 if name == "flotilla-worker" else 1)
        os.kill(pids[which], number)

    # -- ranks

    def test_a_worker_killed_while_loading_is_named(self):
        p = self.loading()
        self.kill_rank("flotilla-worker", signal.SIGKILL)
        self.ends(p, 1, "was killed by signal 9")
        self.assertRegex(self.err, r"worker rank [123] on host \S+ was killed")

    def test_a_worker_killed_while_generating_is_named(self):
        for which in (0, 1, 2):
            p = self.generating()
            self.kill_rank("flotilla-worker", signal.SIGKILL, which)
            self.ends(p, 1, "worker rank %d on host" % (which + 1))

    def test_a_worker_that_crashes_is_named(self):
        p = self.generating()
        self.kill_rank("flotilla-worker", signal.SIGSEGV)
        self.ends(p, 1, "worker rank 3")

    def test_a_lost_coordinator_is_named(self):
        for number in (signal.SIGKILL, signal.SIGSEGV):
            p = self.generating()
            self.kill_rank("flotilla-coordi", number, 0)
            self.ends(p, 1, "coordinator (rank 0)")
        p = self.loading()
        self.kill_rank("flotilla-coordi", signal.SIGKILL, 0)
        self.ends(p, 1, "coordinator (rank 0)")

    def test_hosts_that_see_different_checkpoints_are_refused(self):
        """Same shapes, other numbers: without a comparison they would be computed with in silence."""
        other_config, other_weights = self.path("config"), self.path("weights")
        for folder in (other_config, other_weights):
            shutil.copytree(TINY, folder)
        with open(os.path.join(other_config, "config.json")) as f:
            config = json.load(f)
        config["thinker_config"]["text_config"]["rope_theta"] += 1
        with open(os.path.join(other_config, "config.json"), "w") as f:
            json.dump(config, f)
        shard = os.path.join(other_weights, "model-00002-of-00003.safetensors")
        with open(shard, "rb") as f:
            data = bytearray(f.read())
        begin = 8 + int.from_bytes(data[:8], "little")
        data[begin::64] = bytes(b ^ 1 for b in data[begin::64])
        with open(shard, "wb") as f:
            f.write(data)
        for folder in (other_config, other_weights):
            cluster = self.path("cluster.json")
            with open(cluster, "w") as f:
                json.dump({"model": TINY, "hosts": [{"host": "localhost", "model": folder}]}, f)
            self.flotilla("generate", "--quiet", "--cluster", cluster, "--prompt", "x")
            self.one_line("is another checkpoint here than on the coordinator's host", 1)

    # -- the person

    def test_signals_end_everything_within_two_seconds(self):
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            for make in (self.loading, self.generating):
                with self.subTest(signal=number, when=make.__name__):
                    p = make()
                    p.send_signal(number)
                    self.ends(p, code, None, within=2.0)

    def test_a_killed_command_takes_its_ranks_along(self):
        for make in (self.generating, self.loading):
            p = make()
            p.kill()
            p.communicate()
            self.nothing_left(within=4.0)

    def test_no_mpirun_is_one_line(self):
        self.flotilla("generate", "--quiet", "--model", TINY, "--prompt", "x", env={"PATH": "/nowhere"})
        self.one_line("no mpirun on the PATH", 1)

    def test_a_reader_that_leaves_ends_the_job(self):
        p = self.generating()
        p.stdout.close()
        self.err = p.stderr.read().decode()
        self.assertEqual(p.wait(10 * SLOWER), 1)
        self.assertEqual(len(self.err.splitlines()), 1, self.err)
        self.assertIn("Broken pipe", self.err)
        self.nothing_left()

    # -- the disk

    def test_a_full_disk_is_said_and_leaves_no_half_file(self):
        with open("/dev/full", "wb") as full:
            p = self.start(FLOTILLA, *LONG, stdout=full)
            self.ends(p, 1, "No space left on device")
        os.mkfifo(self.path("pipe"))
        for name, part in ((self.path("pipe"), "no regular file"), ("/no/such/folder/d", "/no/such/folder"), (self.tmp, self.tmp)):
            with self.subTest(dump=name):
                self.flotilla("generate", "--quiet", "--model", TINY, "--prompt", "x", "--workers", "2", "--max-new-tokens",
                              "2", "--dump", name)
                self.one_line(part, 2)
        self.assertFalse(os.path.isfile(self.path("pipe")))

    def test_a_disk_that_fills_up_during_a_dump(self):
        disk = self.path("disk")
        os.mkdir(disk)
        if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk],
                                               stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("a small disk needs root")
        try:
            self.flotilla("generate", "--quiet", "--model", TINY, "--prompt", "x " * 200, "--workers", "2", "--max-new-tokens",
                          "2", "--dump", os.path.join(disk, "d.safetensors"))
            self.assertEqual(os.listdir(disk), [])
        finally:
            subprocess.run(["umount", disk], check=True)
        self.assertEqual(self.code, 1)
        self.assertEqual(len(self.err.splitlines()), 1, self.err)
        self.assertIn("d.safetensors", self.err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
