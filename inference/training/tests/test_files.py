"""Files in and out: safetensors, exports, model directories."""

import json
import shutil
import tempfile
import unittest
from pathlib import Path

import numpy as np
import torch

from freshet_training import model_directory, safetensors, sequences, vocabulary
from freshet_training.vocabulary import Vocabulary
from tests.support import columns, random_history, random_model


class InTemporaryDirectory(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)


class Safetensors(InTemporaryDirectory):
    def test_round_trip(self) -> None:
        tensors = {
            "a": np.arange(6, dtype=np.float32).reshape(2, 3),
            "b.c": np.array([-1, 2**62], np.int64),
            "empty": np.zeros((0, 4), np.int32),
        }
        path = self.directory / "x.safetensors"
        safetensors.save(path, tensors)
        loaded = safetensors.load(path)
        self.assertEqual(list(loaded), list(tensors))
        for name, array in tensors.items():
            self.assertEqual(loaded[name].dtype, array.dtype)
            np.testing.assert_array_equal(loaded[name], array)

    def test_layout(self) -> None:
        path = self.directory / "x.safetensors"
        safetensors.save(path, {"w": np.array([[1.5]], np.float32)})
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        self.assertEqual(length % 8, 0)
        self.assertEqual(
            json.loads(data[8 : 8 + length]), {"w": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}}
        )
        self.assertEqual(data[8 + length :], b"\x00\x00\xc0\x3f")

    def test_cut_short_or_wrong(self) -> None:
        path = self.directory / "x.safetensors"
        safetensors.save(path, {"w": np.ones(5, np.float32)})
        whole = path.read_bytes()
        for data in (b"", whole[:7], whole[:20], whole[:-1], whole.replace(b"F32", b"F99")):
            path.write_bytes(data)
            with self.assertRaisesRegex(ValueError, "x.safetensors"):
                safetensors.load(path)


class Exports(InTemporaryDirectory):
    def write(self, **changes: np.ndarray) -> None:
        tensors = {
            "offsets": np.array([0, 2, 2, 5], np.int64),
            "items": np.array([1, 2, 2, 3, 0], np.int32),
            "types": np.ones(5, np.int32),
            "times": np.arange(5, dtype=np.int64),
        }
        safetensors.save(self.directory / "sequences.safetensors", {**tensors, **changes})
        (self.directory / "items.tsv").write_text("0\t[unknown]\n1\ta\n2\tb\n3\tc\n", encoding="utf-8")
        (self.directory / "event_types.tsv").write_text("0\t[unknown]\n1\tview\n", encoding="utf-8")

    def test_histories(self) -> None:
        self.write()
        data = sequences.load(self.directory)
        self.assertEqual((data.users, data.items, data.event_types), (3, 4, 2))
        self.assertEqual([data.history(user).items.tolist() for user in range(3)], [[1, 2], [], [2, 3, 0]])
        self.assertEqual([h.items.tolist() for h in data.histories(hold_out=1, at_least=2)], [[2, 3]])
        self.assertEqual(len(data.history(1, hold_out=2)), 0)
        self.assertEqual(data.history(2).newest(2).times.tolist(), [3, 4])

    def test_bad_exports_are_named(self) -> None:
        bad = {
            "offsets": np.array([0, 2, 1, 5], np.int64),
            "items": np.array([1, 2, 2, 4, 0], np.int32),
            "types": np.array([1, 1, 1, 1], np.int32),
            "times": np.arange(5, dtype=np.int32),
        }
        for name, array in bad.items():
            self.write(**{name: array})
            with self.assertRaisesRegex(ValueError, f"sequences.safetensors.*{name}"):
                sequences.load(self.directory)


class ModelDirectories(InTemporaryDirectory):
    def setUp(self) -> None:
        super().setUp()
        self.model = random_model(1, time_bias=False, similarity="dot").float()
        self.saved = self.directory / "model"
        model_directory.save(self.model, Vocabulary(["[unknown]"], ["[unknown]"]), self.saved)

    def test_round_trip(self) -> None:
        loaded = model_directory.load(self.saved)
        self.assertEqual(loaded.config, self.model.config)
        history = random_history(np.random.default_rng(1), 20)
        with torch.no_grad():
            self.assertTrue(torch.equal(loaded(*columns(history)), self.model(*columns(history))))
        self.assertEqual((self.saved / "items.tsv").read_text(encoding="utf-8"), "0\t[unknown]\n")

    def test_tensors_and_keys_are_those_of_the_format(self) -> None:
        weights = safetensors.load(self.saved / "model.safetensors")
        layer = {"uvqk.weight": (8, 32), "out.weight": (8, 8), "out.bias": (8,), "bias_pos": (2, 5)}
        expected = {"item_embedding.weight": (30, 8), "type_embedding.weight": (3, 8)}
        expected |= {f"layers.{index}.{name}": shape for index in (0, 1) for name, shape in layer.items()}
        self.assertEqual({name: weight.shape for name, weight in weights.items()}, expected)
        keys = "format block items event_types dim layers heads window time_bias attention_scale ln_eps similarity"
        config = json.loads((self.saved / "config.json").read_text(encoding="utf-8"))
        self.assertEqual(set(config), {*keys.split(), "temperature", "norm_eps", "time_unit"})

    def test_files_of_two_models_are_refused(self) -> None:
        names = {"items": ["[unknown]", "a", "b"], "types": ["[unknown]", "view"]}
        other, changed = self.directory / "other", random_model(2, time_bias=False, similarity="dot", ln_eps=1e-5)
        model_directory.save(changed.float(), Vocabulary(*names.values()), other)
        for name in ("config.json", "items.tsv", "event_types.tsv", "model.safetensors"):
            mixed = self.directory / f"mixed-{name}"
            shutil.copytree(self.saved, mixed)
            shutil.copy(other / name, mixed)
            beside = "config.json" if name == "model.safetensors" else name
            message = rf"{beside}: is crc32:[0-9a-f]{{8}}, expected crc32:[0-9a-f]{{8}} by model\.safetensors"
            with self.assertRaisesRegex(ValueError, message):
                model_directory.load(mixed)
            weights = safetensors.load(mixed / "model.safetensors")
            for said in (None, {"format": "pt"}, {name: 7}):  # other writers say nothing of them
                safetensors.save(mixed / "model.safetensors", weights, said)
                model_directory.load(mixed)

    def test_bad_directories_are_named(self) -> None:
        path = self.saved / "config.json"
        good = json.loads(path.read_text(encoding="utf-8"))
        for changes, file in (
            ({"colour": 1}, "config.json"),
            ({"format": "x"}, "config.json"),
            ({"dim": 4}, "model.saf"),
        ):
            path.write_text(json.dumps({**good, **changes}), encoding="utf-8")
            with self.assertRaisesRegex(ValueError, file):
                model_directory.load(self.saved)
        with self.assertRaisesRegex(ValueError, r"items\.tsv: 1 rows, expected 30 by config\.json"):
            model_directory.load_vocabulary(self.saved, self.model.config)


class Vocabularies(InTemporaryDirectory):
    def test_names_are_kept_to_the_byte(self) -> None:
        names = [
            "[unknown]",
            "a b",
            " a",
            "a ",
            "é",
            "e\u0301",
            "a\u2028b",
            "\x85",
            "\x0b",
            '"',
            "0",
            "[unknown ]",
            "\U0001f600",
        ]
        for name, content in Vocabulary(names, ["[unknown]"]).files().items():
            (self.directory / name).write_bytes(content)
        self.assertEqual(Vocabulary.load(self.directory).items, names)

    def test_bad_lines_are_named(self) -> None:
        path = self.directory / "items.tsv"
        for text, message in (
            ("0\t[unknown]\n2\ta\n", "items.tsv:2: expected 1, a tab and a name"),
            ("0\t[unknown]\n1\t\n", "items.tsv:2: expected 1, a tab and a name"),
            ("0\t[unknown]\n1\ta\n2\ta\n", "items.tsv:3: a is row 1 already"),
        ):
            path.write_text(text, encoding="utf-8")
            with self.assertRaisesRegex(ValueError, message):
                vocabulary.read(path)

    def test_growing_keeps_the_rows(self) -> None:
        old = Vocabulary(["[unknown]", "a", "b"], ["[unknown]", "view"])
        new = Vocabulary(["[unknown]", "c", "b", "d"], ["[unknown]", "buy", "view"])
        grown = old.grown_by(new)
        self.assertEqual(grown, Vocabulary(["[unknown]", "a", "b", "c", "d"], ["[unknown]", "view", "buy"]))
        self.assertEqual(vocabulary.rows_of(new.items, grown.items).tolist(), [0, 3, 2, 4])
        self.assertEqual(vocabulary.rows_of(new.items, old.items).tolist(), [0, 0, 2, 0])


if __name__ == "__main__":
    unittest.main()
