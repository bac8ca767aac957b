#!/usr/bin/env python3
"""The plain mpirun form: many requests at a time, each answered as if it were alone.

1, 3 and 4 workers; 20 requests of different lengths at once.
"""
import json
import os
import subprocess
import time
import unittest

from real_job import COORDINATOR, MPI_ENVIRONMENT, RealJob, SLOWER, TINY, WORKER, ids_of


def request(name, **body):
    return {"custom_id": name, "body": body}


def ids(n, seed):
    return [int(x) for x in ids_of(n, seed).split(",")]


def many():
    """Prompts of 1 to 300 tokens, greedy and sampled, answers of 1 to 25 tokens."""
    lines = []
    for i in range(20):
        body = {"prompt_ids": ids(1 + i * i * 299 // 361, i), "max_tokens": 1 + (i * 7) % 25, "ignore_eos": True}
        if i % 2:
            body.update(temperature=1.2, seed=100 + i, top_p=0.9)
        lines.append(request(f"r{i}", **body))
    return lines


class Batch(RealJob):
    def batch(self, lines, n_workers, *words):
        """{custom_id: line of the answer}; the text of each input line is as given or JSON."""
        with open(self.path("in.jsonl"), "wb") as f:
            for line in lines:
                f.write(line if isinstance(line, bytes) else json.dumps(line).encode())
                f.write(b"\n")
        self.mpirun(n_workers, "--quiet", "--model", TINY, "--threads", "1", "--requests", self.path("in.jsonl"), "--output",
                    self.path("out.jsonl"), *words)
        self.assertEqual((self.code, self.out, self.err), (0, "", ""))
        with open(self.path("out.jsonl")) as f:
            answers = [json.loads(line) for line in f]
        return answers

    def texts(self, answers):
        return {a["custom_id"]: a["response"]["body"]["choices"][0]["message"]["content"] for a in answers}

    def test_answers_do_not_depend_on_company_order_or_split(self):
        lines = many()
        one = self.texts(self.batch(lines, 1))
        self.assertEqual(len(one), 20)
        self.assertEqual(self.texts(self.batch(lines[::-1], 3)), one)
        shuffled = [lines[i * 7 % 20] for i in range(20)]
        self.assertEqual(self.texts(self.batch(shuffled, 4, "--stages", "2", "--deterministic")), one)
        self.assertEqual(self.texts(self.batch(shuffled, 3, "--stages", "2", "--deterministic", "--kv-tokens", "400")), one)
        for i in (0, 3, 10, 19):
            self.assertEqual(self.texts(self.batch(lines[i:i + 1], 1)), {f"r{i}": one[f"r{i}"]})

    def test_each_line_has_its_own_numbers(self):
        for answer in self.batch(many(), 3):
            i = int(answer["custom_id"][1:])
            body, usage = answer["response"]["body"], answer["response"]["body"]["usage"]
            n_prompt, n_new = 1 + i * i * 299 // 361, 1 + (i * 7) % 25
            self.assertEqual(usage, {"prompt_tokens": n_prompt, "completion_tokens": n_new, "total_tokens": n_prompt + n_new})
            self.assertEqual((answer["response"]["status_code"], answer["error"]), (200, None))
            self.assertEqual(answer["id"], f"batch_req_{i + 1}")
            self.assertEqual((body["object"], body["choices"][0]["finish_reason"]), ("chat.completion", "length"))

    def test_faulty_lines_are_answered_in_their_place_and_disturb_nobody(self):
        good = request("good", messages=[{"role": "user", "content": "What is it?"}], max_tokens=5)
        bad = [b"{", b"7", b"\xff\xfe\0garbage", b'{"custom_id": "no body"}', b'{"body": {}}', b"[" * 3000, b'"x"',
               request("keys", prompt_ids=[1], frobnicate=1), request("empty", prompt_ids=[]),
               request("range", prompt_ids=[3904]), request("negative", prompt_ids=[-1]), request("float", prompt_ids=[1.5]),
               request("two", prompt_ids=[1], messages=[]), request("none"), request("roles", messages=[{"content": "x"}]),
               request("heat", prompt_ids=[1], temperature=-1), request("long", prompt_ids=ids(600, 1)),
               request("raw", prompt="", raw=True), request("plain", prompt="x"), request("new", prompt_ids=[1], max_tokens=0),
               request("stream", prompt_ids=[1], stream=True), request("n", prompt_ids=[1], n=2),
               request("picture", messages=[{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}])]
        lines = []
        for b in bad:
            lines += [b, dict(good, custom_id=f"good{len(lines)}")]
        answers = self.batch(lines, 3, "--kv-tokens", "512")
        self.assertEqual(len(answers), len(lines))
        by_line = {int(a["id"].rpartition("_")[2]): a for a in answers}
        texts = set()
        for i, line in enumerate(lines):
            answer = by_line[i + 1]
            if i % 2 == 0:
                self.assertIsNone(answer["response"], line)
                self.assertGreater(len(answer["error"]["message"]), 10)
                if isinstance(line, dict):
                    self.assertEqual(answer["custom_id"], line["custom_id"])
            else:
                self.assertIsNone(answer["error"], answer)
                texts.add(answer["response"]["body"]["choices"][0]["message"]["content"])
        self.assertEqual(len(texts), 1)

    def test_lines_from_a_slow_pipe_are_answered_as_they_come(self):
        p = subprocess.Popen(["mpirun", "--oversubscribe", "--bind-to", "none", "-np", "1", COORDINATOR, "--quiet", "--model", TINY,
                              "--requests", "-", ":", "-np", "3", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, env=self.environment(**MPI_ENVIRONMENT), cwd=self.folder)
        self.started.append(p)
        for name in ("a", "b", "c"):
            line = json.dumps(request(name, prompt_ids=ids(9, 1), max_tokens=4, ignore_eos=True)).encode()
            p.stdin.write(line[:20])
            p.stdin.flush()
            time.sleep(0.1)
            p.stdin.write(line[20:] + (b"" if name == "c" else b"\n"))
            p.stdin.flush()
            if name == "c":
                p.stdin.close()
            answer = json.loads(p.stdout.readline())
            self.assertEqual(answer["custom_id"], name)
        self.assertEqual(p.wait(10 * SLOWER), 0)
        self.assertEqual(p.stdout.read() + p.stderr.read(), b"")
        self.nothing_left()

    def test_a_full_context_ends_the_answer(self):
        answers = self.batch([request(n, prompt_ids=ids(9, 1), max_tokens=500, ignore_eos=True) for n in "ab"], 2, "--kv-tokens", 64)
        for answer in answers:
            body = answer["response"]["body"]
            self.assertEqual(body["choices"][0]["finish_reason"], "length")
            self.assertEqual(body["usage"]["total_tokens"], 65)  # the last token needs no place

    def test_a_prompt_and_a_document(self):
        self.assertEqual(self.mpirun(2, "--quiet", "--model", TINY, "--prompt", "What?"), 0, self.err)
        text = self.out
        self.assertEqual(self.mpirun(3, "--quiet", "--model", TINY, "--prompt", "What?", "--json"), 0, self.err)
        self.assertEqual(json.loads(self.out)["text"] + "\n", text)


if __name__ == "__main__":
    unittest.main(verbosity=2)
