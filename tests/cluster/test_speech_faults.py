#!/usr/bin/env python3
"""A worker that is told something wrong about speech says so in one sentence; it never crashes or computes with it.

One worker, and a coordinator (wrong_speech.c) that begins a real job and then says one wrong thing.
"""
import os
import unittest

from real_job import BINARY, MPI_ENVIRONMENT, RealJob, TINY, WORKER

SAID = {
    "session 0": "SpeechStart that does not fit", "no rows": "numbers out of range", "many rows": "SpeechStart that does not fit",
    "no choice": "SpeechStart that does not fit", "other epoch": "of epoch 4", "too many sessions": "0 of 32 sessions are free",
    "twice": "begun twice", "positions": "SpeechPrompt that does not fit", "long prompt": "SpeechPrompt that does not fit",
    "code of a prompt": "row 0 of the prompt of speech session 1", "text gap": "came from 1 on where 0 was due",
    "text id": "SpeechText that does not fit", "hidden from the coordinator": "SpeechHidden that does not fit",
    "part of a frame": "CodeFrames that does not fit", "code of a frame": "code 0 of frame 0", "gap of frames": "begin with frame 1",
    "prediction": "Prediction that does not fit", "predict job": "PredictJob that does not fit",
    "experts": "expert dispatch", "experts of the talker": "expert dispatch", "lane": "StatsAsk where rows for experts were due",
    "rows falling": "rows for a talker", "rows far": "rows for a talker", "rows of nobody": "rows for a talker",
    "rows not announced": "a hidden state of speech session 1",
}


class SpeechFaults(RealJob):
    def test_each_is_answered_with_a_sentence(self):
        player = os.path.join(BINARY, "tests/wrong_speech")
        for name, part in SAID.items():
            with self.subTest(name=name):
                self.run_it("mpirun", "--oversubscribe", "--bind-to", "none", "-np", 1, player, TINY, name, ":", "-np", 1,
                            WORKER, env=MPI_ENVIRONMENT, within=2.0)
                self.assertEqual(self.code, 7, self.err)
                self.assertEqual(len(self.out.splitlines()), 1, self.out)
                self.assertIn(part, self.out)
                self.assertNotIn("internal error", self.err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
