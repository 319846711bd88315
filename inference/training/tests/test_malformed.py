"""Files of exports and models that are not what they should be. Where there is a program (FRESHET), it judges too."""

import json
import os
import shutil
import struct
import subprocess
import unittest
from collections.abc import Callable
from pathlib import Path

import numpy as np

from freshet_training import model_directory, safetensors, strict_json
from freshet_training.model import SIZES, ModelConfig, SequenceModel
from freshet_training.sequences import LEAST_TIME, MOST_TIME
from freshet_training.vocabulary import Vocabulary
from tests.command_line import CommandLine, forget_digests, run, write_export, write_vocabulary
from tests.test_files import InTemporaryDirectory

PROGRAM = os.environ.get("FRESHET", "")
F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def with_header(header: object, data: bytes = b"\0" * 8) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


class Safetensors(InTemporaryDirectory):
    def test_what_is_wrong_is_named(self) -> None:
        wide = {"dtype": "F32", "shape": [0] + [1] * 99, "data_offsets": [0, 0]}
        for content, message in (
            (b"", "0 bytes, expected a header's length of 8 bytes"),
            (struct.pack("<Q", 1 << 62), "header of 4611686018427387904 bytes, but the file has 0 left"),
            (with_header(b"{"), "not JSON"),
            (with_header(b"\xff"), "not JSON: .*utf-8"),
            (with_header(b"[" * 200_000), "nested too deeply"),
            (with_header(b'{"w": NaN}'), "NaN is no number"),
            (with_header(b'{"w": 1, "w": 2}'), 'key "w" comes twice'),
            (with_header([1]), "header is not a JSON object"),
            (with_header({"w": 1}), "w: expected {"),
            (with_header({"w": {**F32, "more": 1}}), "w: expected {"),
            *(
                (with_header({"w": {**F32, **change}}), "w: expected {")
                for change in (
                    {"dtype": 4},
                    {"shape": 2},
                    {"shape": [-2]},
                    {"shape": [2.0]},
                    {"shape": [True]},
                    {"shape": [1 << 64]},
                    {"data_offsets": [0]},
                    {"data_offsets": [-8, 0]},
                    {"data_offsets": "08"},
                )
            ),
            (with_header({"w": {**F32, "dtype": "F99"}}), "w: dtype F99; expected one of U8, F32"),
            (with_header({"w": {**F32, "dtype": "BF16"}}), "w: dtype BF16, as of a quantised model"),
            (with_header({"w": {**F32, "data_offsets": [8, 0]}}), r"w: bytes 8\.\.0 reach beyond the file"),
            (with_header({"w": F32}, b"\0" * 7), r"w: bytes 0\.\.8 reach beyond the file, which holds 7 bytes"),
            (with_header({"w": F32}, b"\0" * 9), "1 bytes after the last tensor belong to none"),
            (with_header({"w": {**F32, "data_offsets": [1, 9]}}, b"\0" * 9), "1 bytes before w belong to no tensor"),
            (with_header({"v": F32, "w": F32}), "w: overlaps v"),
            (with_header({"w": {**F32, "shape": [3]}}), r"w: 8 bytes, but F32 \[3\] takes 12"),
            (with_header({"w": {**F32, "shape": [1 << 40, 1 << 40]}}), "w: 8 bytes, but F32 .* takes"),
            (with_header({"w": wide}, b""), r"w: \[0, 1, .*dimension"),
        ):
            path = self.directory / "x.safetensors"
            path.write_bytes(content)
            with self.subTest(content[8:80]), self.assertRaisesRegex(ValueError, rf"x\.safetensors: .*{message}"):
                safetensors.load(path)

    def test_what_is_odd_but_right(self) -> None:
        path = self.directory / "x.safetensors"
        path.write_bytes(
            with_header({"__metadata__": {"a": "b"}, "w": F32, "none": {**F32, "shape": [0], "data_offsets": [8, 8]}})
        )
        self.assertEqual({name: len(tensor) for name, tensor in safetensors.load(path).items()}, {"w": 2, "none": 0})


class Json(unittest.TestCase):
    def test_what_python_alone_would_take(self) -> None:
        for text, message in (
            ("NaN", "NaN is no number"),
            ("[-Infinity]", "-Infinity is no number"),
            ("1e999", "1e999 is too large"),
            ('{"a": {"b": 1, "b": 1}}', 'key "b" comes twice'),
            ("1" * 5000, "not JSON"),
        ):
            with self.subTest(text[:20]), self.assertRaisesRegex(ValueError, message):
                strict_json.parse(text)
        self.assertEqual(strict_json.parse(b'{"a": [1, 1.5, null, "\xc3\xa9"]}'), {"a": [1, 1.5, None, "é"]})


class Exports(CommandLine):
    def change(self, **tensors: np.ndarray | None) -> None:
        path = self.directory / "sequences.safetensors"
        kept = {**safetensors.load(path), **tensors}
        safetensors.save(path, {name: tensor for name, tensor in kept.items() if tensor is not None})

    def test_what_is_wrong_is_named(self) -> None:
        good = safetensors.load(self.directory / "sequences.safetensors")
        events = len(good["items"])
        far = good["times"].copy()
        for changes, message in (
            ({"items": None}, "expected a vector `items` of int32"),
            ({"offsets": good["offsets"][:0]}, "offsets must rise from 0 to 720"),
            ({"offsets": good["offsets"] + 1}, "offsets must rise from 0 to 720"),
            ({"offsets": good["offsets"][::-1].copy()}, "offsets must rise from 0 to 720"),
            ({"offsets": np.r_[0, 2**62, -(2**62), events]}, "offsets must rise from 0 to 720"),
            ({"items": good["items"] + 1}, r"items must be 720 rows from 0 to 20, as its \.tsv says"),
            ({"items": good["items"] - 9}, "items must be 720 rows from 0 to 20"),
            ({"items": good["items"][:-1]}, "offsets must rise from 0 to 719"),
            ({"types": good["types"][:-1]}, "types must be 720 rows from 0 to 1"),
            ({"types": good["types"] + 1}, "types must be 720 rows from 0 to 1"),
            ({"times": good["times"][:-1]}, "times must be 720 whole seconds"),
            ({"times": good["times"].astype(np.float64)}, "expected a vector `times` of int64"),
            ({"times": np.r_[far[:-1], MOST_TIME + 1]}, f"times must be 720 .* {LEAST_TIME} to {MOST_TIME}"),
            ({"times": np.r_[far[:-1], LEAST_TIME - 1]}, f"times must be 720 .* {LEAST_TIME} to {MOST_TIME}"),
            ({"times": np.r_[far[:-1], 2**63 - 1]}, "times must be"),
            ({"synthetic": np.zeros(3, np.int32)}, "expected a vector `synthetic` of int32, one for each of 60 users"),
            ({"synthetic": np.int32([[0]])}, "expected a vector `synthetic` of int32"),
        ):
            self.change(**changes)
            with self.subTest(message):
                self.assertRegex(self.refused("train"), rf"sequences\.safetensors: {message}")
            safetensors.save(self.directory / "sequences.safetensors", good)

    def test_vocabularies(self) -> None:
        for name in ("items.tsv", "event_types.tsv"):
            path = self.directory / name
            good = path.read_bytes()
            for content, message in (
                (b"", "row 0 is absent, expected [unknown]"),
                (good.replace(b"[unknown]", b"x"), "row 0 is x, expected [unknown]"),
                (good[:-1], "no line feed at its end"),
                (b"0\t[unknown]\n1\t\xff\n", f"{name}:2: not UTF-8"),
                (b"0\t[unknown]\r\n", f"{name}:1: expected 0, a tab and a name, ended by LF"),
                (b"0\t[unknown]\n1\ta\tb\n", f"{name}:2: expected 1, a tab and a name"),
            ):
                path.write_bytes(content)
                with self.subTest(content[:20]):
                    self.assertIn(message, self.refused("train"))
            path.write_bytes(good)

    def test_no_items_but_the_unknown_one(self) -> None:
        self.change(items=np.zeros(720, np.int32))
        write_vocabulary(self.directory / "items.tsv", [])
        message = f"{self.directory}: items.tsv has no item but [unknown], nothing to train on"
        for flags in ([], ["--hold-out", "0"], ["--loss", "sampled"], ["--augment", "noise=1"]):
            self.assertIn(message, self.refused("train", *flags))
        line = ["--output", str(self.directory / "refused")]
        code, _, errors = run("fedavg", "--data", str(self.directory), *line)
        self.assertEqual((code, message in errors), (1, True), errors)

    def test_events_of_unknown_items_only(self) -> None:
        model = str(self.train("model", "--epochs", "1"))
        self.change(items=np.zeros(720, np.int32))
        for command, flags in (("train", []), ("finetune", ["--from", model]), ("distill", ["--teacher", model])):
            message = f"{self.directory}: all items to train on are unknown (row 0), expected known ones"
            self.assertIn(message, self.refused(command, *flags))

    def test_a_model_of_no_items_but_the_unknown_one(self) -> None:
        model = self.directory / "model"
        names = Vocabulary(["[unknown]"], ["[unknown]"])
        model_directory.save(SequenceModel(ModelConfig(1, 1, dim=16, layers=2, window=6)), names, model)
        code, printed, errors = self.run_command("evaluate", "--model", str(model))
        self.assertEqual((code, json.loads(printed)), (0, {"users": 60, "hr": 0, "ndcg": 0}), errors)
        errors = self.refused("prune", "--model", str(model), "--layers", "1")
        self.assertIn(f"{model}: items.tsv has no item but [unknown], nothing to judge by", errors)
        self.train("tuned", "--from", str(model), command="finetune")

    def test_nobody(self) -> None:
        model = str(self.train("model", "--epochs", "1"))
        write_export(self.directory, users=0)
        self.assertIn("no user has 4 events or more", self.refused("train"))
        code, printed, errors = self.run_command("evaluate", "--model", model)
        self.assertEqual((code, json.loads(printed)["users"]), (0, 0), errors)
        self.assertIn("no event is left", run("prepare", "--data", str(self.directory), "--output", model + "-x")[2])

    def test_one_user(self) -> None:
        write_export(self.directory, users=1)
        model = self.train("model", "--epochs", "2")
        self.train("tuned", "--from", str(model), command="finetune")
        output = str(self.directory / "out")
        self.assertEqual(
            self.run_command("synthesize", "--model", str(model), "--output", output, "--users", "2")[0], 0
        )

    def test_times_at_both_ends(self) -> None:
        """What milliseconds of 64 bits can say, turn by turn."""
        times = np.where(np.arange(720) % 2, LEAST_TIME, MOST_TIME)
        self.change(times=times)
        model = str(self.train("model", "--epochs", "2", "--augment", "noise=1:0:5", "--augment", "insert=1"))
        for command, flags in (
            ("evaluate", ["--model", model]),
            ("parity", ["--model", model, "--output", f"{model}.json"]),
            ("synthesize", ["--model", model, "--users", "9", "--output", f"{model}-more"]),
        ):
            code, _, errors = self.run_command(command, *flags)
            self.assertEqual(code, 0, errors)
            self.assertNotIn("Warning", errors)
        code, _, errors = self.run_command("evaluate", "--model", model, data=Path(f"{model}-more"))
        self.assertEqual(code, 0, errors)
        clean = f"{model}-clean"
        flags = [
            "--backwards",
            "3",
            "--max-rate",
            "900/1",
            "--not-before",
            str(LEAST_TIME),
            "--not-after",
            str(MOST_TIME),
        ]
        code, _, errors = run("prepare", "--data", str(self.directory), "--output", clean, *flags)
        self.assertEqual(code, 0, errors)


def keys(**changes: object) -> Callable[[dict], str]:
    return lambda good: json.dumps({**good, **changes})


def without(name: str) -> Callable[[dict], str]:
    return lambda good: json.dumps({key: value for key, value in good.items() if key != name})


# What both refuse, and a word that each says.
CONFIGS: list[tuple[Callable[[dict], str], str]] = [
    (lambda _: "", "not JSON"),
    (lambda _: "{", "not JSON"),
    (lambda _: "[]", "not a JSON object"),
    (lambda good: json.dumps(good)[:-1] + ', "dim": 16}', 'key "dim" comes twice'),
    (keys(format="freshet-hstu-2"), "format: "),
    (keys(time_unit="ms"), "time_unit: "),
    (keys(block="x"), "block: "),
    (keys(block=["hstu"]), "block: "),
    (keys(colour=1), 'colour: unknown key for block "hstu"'),
    (keys(ffn_dim=4), 'ffn_dim: unknown key for block "hstu"'),
    (keys(time_bias=1), "time_bias: 1, expected true or false"),
    (keys(time_bias="yes"), 'time_bias: "yes", expected true or false'),
    (keys(time_bias=None), "time_bias: null, expected true or false"),
    (keys(attention_scale=0), "attention_scale: 0, expected a number from 1e-30 to 1e30"),
    (keys(attention_scale=True), "attention_scale: true, expected a number from 1e-30 to 1e30"),
    (keys(attention_scale="6"), 'attention_scale: "6", expected a number from 1e-30 to 1e30'),
    (keys(attention_scale=float("nan")), "not JSON"),
    (keys(similarity="l2"), 'similarity: "l2", expected "cosine" or "dot"'),
    (keys(similarity=[]), 'similarity: [], expected "cosine" or "dot"'),
    (keys(temperature=-0.05), "temperature: -0.05, expected a number from 1e-30 to 1e30"),
    (keys(temperature=None), "temperature: "),
    (keys(ln_eps=1e31), "ln_eps: 1e+31, expected a number from 1e-30 to 1e30"),
    (keys(norm_eps=False), "norm_eps: false, expected a number from 1e-30 to 1e30"),
    (keys(heads=3), "heads: 3, expected a divisor of dim 16"),
    *(
        (keys(**{name: value}), f"{name}: {json.dumps(value)}, expected a whole number from {least} to ")
        for name, (least, most) in SIZES.items()
        if name != "ffn_dim"
        for value in (least - 1, most + 1, 2.0, "2", True, None, [2])
    ),
    *((without(name), f"{name}: ") for name in ("format", "block", "dim", "time_bias", "ln_eps", "temperature")),
]  # fmt: skip


class Models(CommandLine):
    def setUp(self) -> None:
        super().setUp()
        self.model = self.train("model", "--epochs", "1")
        forget_digests(self.model)
        self.good = json.loads((self.model / "config.json").read_text("utf-8"))

    def says(self) -> tuple[int, str]:
        code, _, errors = self.run_command("evaluate", "--model", str(self.model))
        return code, errors

    def program_says(self) -> tuple[int, str]:
        done = subprocess.run(
            [PROGRAM, "model", "verify", str(self.model)], capture_output=True, text=True, check=False
        )
        return done.returncode, done.stderr

    def test_configs(self) -> None:
        path = self.model / "config.json"
        for changed, message in CONFIGS:
            path.write_text(changed(self.good), "utf-8")
            with self.subTest(message):
                code, errors = self.says()
                self.assertEqual(code, 1)
                self.assertIn(f"{path}: ", errors)
                self.assertIn(message, errors)

    @unittest.skipUnless(PROGRAM, "FRESHET names no program")
    def test_the_engine_refuses_the_same(self) -> None:
        path = self.model / "config.json"
        self.assertEqual(self.program_says()[0], 0)
        for changed, message in CONFIGS:
            path.write_text(changed(self.good), "utf-8")
            with self.subTest(message):
                code, errors = self.program_says()
                self.assertNotEqual(code, 0)
                self.assertIn(message.replace("e-30 to 1e30", ""), errors)

    def test_what_the_engine_takes(self) -> None:
        """Whatever is no part of what is computed may be left out."""
        path = self.model / "config.json"
        for changed in (
            without("attention_scale"),
            keys(attention_scale=6, ln_eps=1),
            lambda good: without("temperature")({**good, "similarity": "dot"}),
            keys(similarity="dot", temperature=None),
        ):
            path.write_text(changed(self.good), "utf-8")
            code, errors = self.says()
            self.assertEqual(code, 0, errors)
            if PROGRAM:
                self.assertEqual(self.program_says()[0], 0)

    def test_of_a_transformer(self) -> None:
        self.model = self.train("transformer", "--epochs", "1", "--block", "transformer")
        path = self.model / "config.json"
        good = json.loads(path.read_text("utf-8"))
        for changes, message in (
            ({"attention": "x"}, 'attention: "x", expected "softmax" or "additive"'),
            ({"ffn_dim": 0}, "ffn_dim: 0, expected a whole number from 1 to 16384"),
            ({"ffn_dim": 16385}, "ffn_dim: 16385, expected a whole number from "),
            ({"attention_scale": 6}, 'attention_scale: unknown key for block "transformer"'),
        ):
            path.write_text(json.dumps({**good, **changes}), "utf-8")
            with self.subTest(message):
                code, errors = self.says()
                self.assertEqual((code, message in errors), (1, True), errors)
                if PROGRAM:
                    code, errors = self.program_says()
                    self.assertEqual((code != 0, message in errors), (True, True), errors)

    def test_weights(self) -> None:
        path = self.model / "model.safetensors"
        good = safetensors.load(path)
        name, codes = "item_embedding.weight", "item_embedding.codes"
        table = good[name]
        for changes, message in (
            ({"more": table}, "more is no tensor of a hstu model with 2 layers"),
            ({"layers.1.out.bias": None}, "layers.1.out.bias is missing"),
            ({name: table[:-1]}, "item_embedding.weight is [20, 16], expected [21, 16]"),
            ({name: table[0, 0]}, "item_embedding.weight is [], expected [21, 16]"),
            (
                {name: table.astype(np.float64)},
                "item_embedding.weight is of float64, expected float32",
            ),
            ({name: np.full_like(table, np.inf)}, "holds numbers that are not finite"),
            (
                {codes: np.zeros(21, np.uint8)},
                "item_embedding.codes is [21], expected [items, item_codes]",
            ),
            ({codes: np.zeros((21, 3), np.uint8)}, "item_codes (3) must divide dim (16)"),
            ({codes: np.zeros((21, 0), np.uint8)}, "item_codes (0) must divide dim (16)"),
        ):
            changed = {**good, **changes}
            safetensors.save(path, {name: np.asarray(w) for name, w in changed.items() if w is not None})
            with self.subTest(message):
                code, errors = self.says()
                self.assertEqual(code, 1)
                self.assertIn(f"{path}: ", errors)
                self.assertIn(message, errors)
        safetensors.save(path, good)
        config = self.model / "config.json"
        for name in ("items", "event_types"):  # larger than memory
            config.write_text(keys(**{name: SIZES[name][1]}, dim=4096)(self.good), "utf-8")
            self.assertIn("expected [", self.says()[1])

    @unittest.skipUnless(PROGRAM, "FRESHET names no program")
    def test_quantised_models(self) -> None:
        output = self.directory / "small"
        for form in ("int8", "bf16"):
            shutil.rmtree(output, ignore_errors=True)
            line = [PROGRAM, "model", "quantize", str(self.model), "--output", str(output), "--items", form]
            done = subprocess.run(line, capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            code, _, errors = self.run_command("evaluate", "--model", str(output))
            self.assertEqual(code, 1)
            self.assertRegex(
                errors, r"model\.safetensors: .*: dtype (I8|BF16), as of a quantised model; expected one of U8"
            )

    def test_sizes_are_no_truth_values(self) -> None:
        with self.assertRaisesRegex(ValueError, "layers: true, expected a whole number from 1 to 64"):
            ModelConfig(2, 2, layers=True)


if __name__ == "__main__":
    unittest.main()
