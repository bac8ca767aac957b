#!/usr/bin/env python3
"""What people hand over by mistake ends in one clear line, the right exit status and nothing else.

Real ranks, one coordinator and two or three workers. With --quiet standard error holds the one line alone.
"""
import json
import os
import struct
import unittest

from real_job import RealJob, SANITIZED, SLICE, TINY, dummy_folder, ids_of

SHARD = "model-00002-of-00003.safetensors"


class BadInput(RealJob):
    def refused(self, code, part, *words, model=TINY, **more):
        self.flotilla("generate", "--quiet", "--model", model, *words, **more)
        self.one_line(part, code)

    def model_with(self, name=None, data=None, without=None):
        """A copy of the small checkpoint with one file changed or left out."""
        folder = self.path("model-%d" % len(os.listdir(self.folder)))
        os.mkdir(folder)
        for f in os.listdir(TINY):
            if f not in (name, without):
                os.symlink(os.path.join(TINY, f), os.path.join(folder, f))
        if name is not None:
            with open(os.path.join(folder, name), "wb") as f:
                f.write(data if isinstance(data, bytes) else data.encode())
        return folder

    def read(self, name):
        with open(os.path.join(TINY, name), "rb") as f:
            return f.read()

    def model_refused(self, code, part, *, words=("--prompt", "x"), **change):
        self.refused(code, part, *words, "--workers", 2, model=self.model_with(**change))

    def config_refused(self, part, **text):
        config = json.loads(self.read("config.json"))
        for key, value in text.items():
            if value is None:
                del config["thinker_config"]["text_config"][key]
            else:
                config["thinker_config"]["text_config"][key] = value
        self.flotilla("generate", "--quiet", "--prompt", "x", "--workers", 2,
                      "--model", self.model_with("config.json", json.dumps(config)))
        self.one_line(part)
        self.assertIn(self.code, (1, 2), self.err)

    # -- the folder

    def test_a_folder_that_is_no_checkpoint_is_named(self):
        self.refused(2, "/no/such/folder", "--prompt", "x", model="/no/such/folder")
        self.refused(2, "flotilla: error: ", "--prompt", "x", model="Nobody/Nothing")
        self.refused(2, "--model is empty", "--prompt", "x", model="")
        self.refused(2, self.tmp, "--prompt", "x", model=self.tmp)
        self.model_refused(2, "bert", name="config.json",
                           data='{"architectures": ["BertModel"], "model_type": "bert", "hidden_size": 8}')
        self.model_refused(1, "config.json", name="config.json", data="{")
        self.model_refused(1, "config.json", name="config.json", data=b"\0\xff" * 500)

    def test_a_damaged_shard_is_named(self):
        whole = self.read(SHARD)
        header_bytes, = struct.unpack("<Q", whole[:8])
        for n in (0, 5, 8, 8 + header_bytes // 2, 8 + header_bytes, len(whole) // 2, len(whole) - 1):
            with self.subTest(bytes=n):
                self.model_refused(1, SHARD, name=SHARD, data=whole[:n])
        for what, data in [("length", struct.pack("<Q", 1 << 62) + whole[8:]),
                           ("json", whole[:8] + b"[" + whole[9:]),
                           ("dtype", whole.replace(b"BF16", b"BX16", 1)),
                           ("tail", whole + b"more"),
                           ("garbage", os.urandom(len(whole)))]:
            with self.subTest(damage=what):
                self.model_refused(1, SHARD, name=SHARD, data=data)

    def test_an_index_that_lies_is_refused(self):
        index = json.loads(self.read("model.safetensors.index.json"))
        name = "thinker.model.layers.3.self_attn.q_proj.weight"
        for place, part in [("model-00009-of-00003.safetensors", "model-00009"), ("../../etc/passwd", "passwd"),
                            ("/etc/passwd", "/etc/passwd"), ("..", ".."), ("", "index"), (7, "index"),
                            ("model-00001-of-00003.safetensors", None)]:
            with self.subTest(place=place):
                changed = json.loads(json.dumps(index))
                if part is None:  # the wrong shard of the two that there are
                    place = next(f for f in ("model-00001-of-00003.safetensors", SHARD) if f != index["weight_map"][name])
                changed["weight_map"][name] = place
                self.model_refused(1, part or name, name="model.safetensors.index.json", data=json.dumps(changed))
        self.model_refused(1, SHARD, without=SHARD)
        self.model_refused(1, "index.json", name="model.safetensors.index.json", data="[]")

    def test_a_missing_tensor_and_a_wrong_shape_are_named(self):
        name = "thinker.model.layers.4.mlp.experts.7.down_proj.weight"
        index = json.loads(self.read("model.safetensors.index.json"))
        shard = index["weight_map"].pop(name)
        whole = self.read(shard)
        n, = struct.unpack("<Q", whole[:8])
        header = json.loads(whole[8:8 + n])

        def with_header(h):
            """The shard with these tensors alone, one behind the other."""
            data, moved = b"", {}
            for key in h:
                begin, end = h[key].get("data_offsets", (0, 0))
                moved[key] = dict(h[key], data_offsets=[len(data), len(data) + end - begin]) if end else h[key]
                data += whole[8 + n + begin:8 + n + end]
            text = json.dumps(moved).encode()
            return struct.pack("<Q", len(text)) + text + data
        folder = self.model_with(shard, with_header({k: v for k, v in header.items() if k != name}))
        os.unlink(os.path.join(folder, "model.safetensors.index.json"))
        with open(os.path.join(folder, "model.safetensors.index.json"), "w") as f:
            json.dump(index, f)
        self.refused(1, name, "--prompt", "x", "--workers", 2, model=folder)
        header[name]["shape"].reverse()
        self.model_refused(1, name, name=shard, data=with_header(header))

    def test_a_faulty_part_of_speech_can_be_left_out(self):
        name = "talker.codec_head.weight"
        shard = json.loads(self.read("model.safetensors.index.json"))["weight_map"][name]
        whole = self.read(shard)
        n, = struct.unpack("<Q", whole[:8])
        header = json.loads(whole[8:8 + n])
        header[name]["shape"].reverse()
        text = json.dumps(header).encode()
        folder = self.model_with(shard, struct.pack("<Q", len(text)) + text + whole[8 + n:])
        self.refused(1, name, "--prompt", "x", "--workers", 2, "--speech", self.path("x.wav"), model=folder)
        self.assertIn("--no-speech does without", self.err)
        self.flotilla("generate", "--model", folder, "--prompt", "x", "--workers", 2, "--max-new-tokens", 1, "--no-speech")
        self.assertEqual(self.code, 0, self.err)
        self.assertIn("without speech: ", self.err)

    def test_absurd_configurations_are_refused(self):
        for change in [{"num_attention_heads": 0}, {"num_key_value_heads": 3}, {"num_hidden_layers": 7},
                       {"num_hidden_layers": 0}, {"num_hidden_layers": 2000000000}, {"num_experts_per_tok": 17},
                       {"num_experts_per_tok": 0}, {"hidden_size": -1}, {"hidden_size": 1 << 40}, {"vocab_size": 0},
                       {"vocab_size": 2147483648}, {"head_dim": 31}, {"num_experts": 1 << 31}, {"rms_norm_eps": "x"},
                       {"rope_theta": 0}, {"moe_intermediate_size": 0},
                       {"hidden_act": "tanhish"}, {"rope_scaling": {"mrope_section": [60, 5, 5]}},
                       {"num_experts": 8}, {"moe_intermediate_size": 65}, {"hidden_size": 1e300}]:
            with self.subTest(change=change):
                self.config_refused("flotilla: error: ", **change)

    def test_text_files_of_a_checkpoint_that_are_damaged_are_named(self):
        for name in ("tokenizer.json", "generation_config.json", "chat_template.json", "tokenizer_config.json"):
            for data in (b"{", b"\xff\0\xfe" * 100, b"[]", b""):
                with self.subTest(file=name, data=data[:4]):
                    folder = self.model_with(name, data)
                    if name == "tokenizer.json":  # else the two other files would do
                        os.unlink(os.path.join(folder, "vocab.json"))
                    self.refused(1, name, "--prompt", "x", "--workers", 2, model=folder)

    def test_a_template_that_raises_says_so(self):
        for template, part in [("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
                               ("a\nb{{ 1 // 0 }}", ""), ("{% for x in range(10) %}", ""), ("{{ nothing.at.all }}", ""),
                               ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "")]:
            with self.subTest(template=template):
                self.flotilla("generate", "--quiet", "--prompt", "x", "--workers", 2, "--model",
                              self.model_with("chat_template.json", json.dumps({"chat_template": template})))
                self.one_line(part)
                self.assertIn(self.code, (1, 2))

    # -- the prompt

    def test_prompts_out_of_range_are_refused(self):
        w = ["--workers", 2]
        self.refused(2, "3903", "--prompt-ids", "1,3904", *w)
        self.refused(2, "token id", "--prompt-ids", "1,2000000000", *w)
        self.refused(2, "token id", "--prompt-ids", "1,-2", *w)
        self.refused(2, "empty", "--prompt-ids", "", *w)
        self.refused(2, "empty", "--prompt", "", *w)
        self.refused(2, "empty", "--raw", "--prompt", "", *w)
        self.refused(2, "empty", "--prompt-file", "/dev/null", *w)
        self.refused(2, "empty", "--prompt-file", "-", *w)
        self.refused(2, "64", "--prompt-ids", ids_of(70, 1), "--kv-tokens", 64, *w)
        self.refused(2, "64", "--prompt", "word " * 100, "--kv-tokens", 64, *w)
        self.refused(2, "", "--prompt", "<|image_pad|>", "--raw", *w)

    def test_messages_of_the_wrong_shape_are_refused(self):
        for text in ["", "[", "7", "[]", "{}", '{"messages": 3}', '{"messages": []}', '[{"content": "x"}]',
                     '[{"role": 7, "content": "x"}]', '[["role"]]', '[{"role": "user", "content": [{"type": "image"}]}]',
                     '[{"role": "user", "content": [7]}]', '[{"role": "user", "content": [{"type": "text"}]}]',
                     '[{"role": "user", "content": "\\ud800"}]', "[" * 5000, '{"messages": [], "messages": []}', "\0",
                     '[{"role": "user", "content": "x"}] trailing', '{"messages": [{"role": "user", "content": "x"}], "tools": 7}']:
            with self.subTest(text=text[:40]):
                self.refused(2, "flotilla: error: ", "--messages", "-", "--workers", 2, stdin=text.encode())
        self.refused(2, "", "--messages", "-", "--workers", 2, stdin=os.urandom(5000))
        self.refused(2, self.tmp, "--messages", self.tmp, "--workers", 2)

    # -- options

    def test_bad_values_of_options_start_nothing(self):
        base = ["--prompt", "x"]
        for words in [["--workers", "0"], ["--workers", "-1"], ["--workers", "x"], ["--workers", "1e3"], ["--workers", "99999999"],
                      ["--workers", ""], ["--stages", "0"], ["--stages", "3", "--workers", "2"], ["--threads", "0"],
                      ["--threads", "1025"], ["--memory", "0"], ["--memory", "-1"], ["--memory", "1X"], ["--memory", "G"],
                      ["--memory", "99999999999999999999"], ["--weights", "fp8"], ["--weights", "q8"], ["--activations", "f16"],
                      ["--load-format", "pickle"], ["--kv-tokens", "0"], ["--kv-tokens", "-4"], ["--max-new-tokens", "0"],
                      ["--max-new-tokens", "x"], ["--temperature", "-1"], ["--temperature", "inf"], ["--top-k", "-1"],
                      ["--top-p", "-0.1"], ["--top-p", "nan"], ["--min-p", "2"], ["--repetition-penalty", "0"],
                      ["--seed", "-1"], ["--seed", "x"], ["--logprobs", "-1"], ["--dump"], ["--unknown"], ["-x"], ["stray"],
                      ["--hosts", ""], ["--hosts", "a:0"], ["--hosts", "a:x"], ["--hosts", ":"], ["--hosts", "a,,b"],
                      ["--hosts", "/no/such"], ["--cluster", "/no/such"], ["--hosts", "a:1", "--cluster", "c"],
                      ["--quiet", "--verbose"], ["--ignore-eos=1"]]:
            with self.subTest(words=words):
                self.refused(2, "flotilla: error: ", *base, *words)

    def test_a_faulty_cluster_file_is_named(self):
        for text in ["", "{", "[]", "{}", '{"hosts": []}', '{"hosts": [{}]}', '{"hosts": [{"host": "a", "wrokers": 2}]}',
                     '{"hosts": [{"host": "a"}], "stage": 2}', '{"hosts": [{"host": "a", "workers": 0.5}]}',
                     '{"hosts": [{"host": "a", "workers": -1}]}', '{"hosts": [{"host": "a"}], "memory": "lots"}',
                     '{"hosts": [{"host": "a b"}]}', '{"hosts": [{"host": "--x"}]}', '{"hosts": [{"host": "a"}], "launcher": "ssh"}',
                     "\0\1\2\3", '{"hosts": [{"host": "a"}, {"host": "a"}], "weights": "q9"}']:
            with self.subTest(text=text):
                with open(self.path("cluster.json"), "w") as f:
                    f.write(text)
                self.refused(2, "cluster.json", "--prompt", "x", "--cluster", self.path("cluster.json"))

    def test_no_room_is_said_with_the_bytes_that_are_missing(self):
        self.flotilla("generate", "--quiet", "--model", SLICE, "--load-format", "dummy", "--prompt-ids", "1,2", "--workers", 2,
                      "--memory", "200M")
        self.one_line("rank ")
        self.assertIn(self.code, (1, 2, 3))

    # -- the plain form

    def test_the_plain_form_says_one_line_too(self):
        for n, words, code, part in [(2, [], 2, "--requests"), (2, ["--frob"], 2, "--frob"),
                                     (2, ["--model", "/no/such", "--prompt", "x"], 2, "/no/such"),
                                     (2, ["--model", TINY, "--requests", "/no/such"], 2, "/no/such"),
                                     (2, ["--model", TINY, "--prompt", ""], 2, "empty"),
                                     (2, ["--model", TINY, "--prompt", "x", "--output", "/no/such/file"], 2, "--output"),
                                     (2, ["--model", TINY, "--prompt", "x", "--requests", "-"], 2, "not both"),
                                     (2, ["--model", TINY, "--requests", "-", "--output", "/no/such/file"], 2, "/no/such/file"),
                                     (7, ["--model", TINY, "--prompt", "x", "--stages", "7"], 2, "7")]:
            with self.subTest(words=words):
                self.mpirun(n, *words)
                lines = [l for l in self.err.splitlines() if l.startswith("flotilla: ") and "error: " in l]
                self.assertEqual(len(lines), 1, self.err)
                self.assertIn(part, lines[0])
                self.assertEqual((self.out, self.code), ("", code), self.err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
