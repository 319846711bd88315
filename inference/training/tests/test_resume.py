"""What `--resume` goes on from: a checkpoint of the same data, whole, and the model that it has kept."""

import shutil
import unittest
from pathlib import Path

import numpy as np

from freshet_training import safetensors, sequences
from freshet_training.checkpoint import Checkpoint
from tests.command_line import ITEMS, CommandLine, forget_digests, write_export, write_vocabulary


class OtherData(CommandLine):
    """Of the same counts, so that nothing else tells."""

    def setUp(self) -> None:
        super().setUp()
        self.data = self.directory / "export"
        self.begin_anew()

    def begin_anew(self) -> None:
        write_export(self.data)
        with (self.data / "items.tsv").open("ab") as file:
            file.write(f"{ITEMS + 1}\tnever seen\n".encode())

    def change(self, name: str, values: np.ndarray) -> None:
        path = self.data / "sequences.safetensors"
        tensors = safetensors.load(path)
        safetensors.save(path, {**tensors, name: values.astype(tensors[name].dtype)})

    def test_is_refused_with_what_differs(self) -> None:
        model = self.train("model", "--epochs", "1", data=self.data)
        data = sequences.load(self.data)
        events = data.events
        newest, others = np.full(len(events), 0), np.arange(len(events)) % 12 < 11
        newest[~others] = 1  # of each user: held out from training
        offsets = data.offsets.copy()
        offsets[1] += 1
        swapped = events.items.copy()
        swapped[[0, 1]] = swapped[[1, 0]]
        changes = {
            "items.tsv": lambda: write_vocabulary(
                self.data / "items.tsv", [*(f"i{row}" for row in range(1, ITEMS + 1)), "another"]
            ),
            "event_types.tsv": lambda: write_vocabulary(self.data / "event_types.tsv", ["buy"]),
            "items": lambda: self.change("items", swapped),
            "times": lambda: self.change("times", events.times + newest),
            "types": lambda: self.change("types", events.types - newest),
            "offsets": lambda: self.change("offsets", offsets),
        }
        for name, change in changes.items():
            with self.subTest(name):
                self.begin_anew()
                change()
                code, _, errors = self.resumed(model)
                self.assertEqual(code, 1)
                self.assertRegex(
                    errors, rf"model\.checkpoint: the checkpoint is of another run: its data\.{name} is 'sha256:\w+', "
                )
        self.begin_anew()
        self.assertEqual(self.resumed(model)[0], 0)

    def resumed(self, model: Path, *arguments: str, command: str = "train") -> tuple[int, str, str]:
        line = ["--output", str(model), "--dim", "16", "--layers", "2", "--window", "6", "--batch-users", "8"]
        line += ["--lr", ".02", "--epochs", "1", "--resume", *arguments]
        return self.run_command(command, *line, data=self.data)

    def test_kept_users_and_models_count(self) -> None:
        old, other = self.directory / "old", self.directory / "other"
        write_export(old, step=5)
        write_export(other, step=7)
        start = self.train("start", "--epochs", "1", data=self.data)
        flags = ["--from", str(start), "--keep", f"{old}:0.5"]
        tuned = self.train("tuned", *flags, "--epochs", "1", command="finetune", data=self.data)
        code, _, errors = self.resumed(tuned, "--from", str(start), "--keep", f"{other}:0.5", command="finetune")
        self.assertEqual(code, 1)
        self.assertIn("its kept is 'sha256:", errors)
        # The same weights may compute something else: a config.json with another temperature.
        forget_digests(start)
        config = start / "config.json"
        config.write_text(config.read_text("utf-8").replace('"temperature": 0.05', '"temperature": 0.1'), "utf-8")
        student = self.train("student", "--teacher", str(start), "--epochs", "1", command="distill", data=self.data)
        config.write_text(config.read_text("utf-8").replace('"temperature": 0.1', '"temperature": 0.05'), "utf-8")
        code, _, errors = self.resumed(student, "--teacher", str(start), command="distill")
        self.assertEqual(code, 1)
        self.assertIn("its distillation.teachers is ['sha256:", errors)


class Checkpoints(CommandLine):
    def test_an_output_that_went_away_comes_back(self) -> None:
        flags = ["--lr", "0", "--epochs", "2"]  # no epoch is better than the first
        model = self.train("model", *flags)
        weights = self.weights(model)
        for lost in (lambda: shutil.rmtree(model), (model / "items.tsv").unlink, lambda: None):
            lost()
            self.assertEqual(self.weights(self.train("model", *flags, "--resume")), weights)
            self.assertEqual(len(list(model.iterdir())), 4)
        other = self.train("other", "--epochs", "1", "--seed", "3")
        shutil.rmtree(model)
        shutil.copytree(other, model)
        self.assertEqual(self.weights(self.train("model", *flags, "--resume")), weights)

    def test_flipped_and_missing_bytes_are_noticed(self) -> None:
        model = self.train("model", "--epochs", "1")
        path = self.directory / "model.checkpoint"
        whole = path.read_bytes()
        Checkpoint.load(path)
        for at in (len(whole) // 2, len(whole) - 1, 40, *np.random.default_rng(1).integers(21, len(whole), 20)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with self.assertRaisesRegex(ValueError, r"model\.checkpoint: damaged"):
                Checkpoint.load(path)
        for data in (whole[:-1], whole + b"x", whole[:30], whole[:21]):
            path.write_bytes(data)
            with self.assertRaisesRegex(ValueError, r"model\.checkpoint: damaged"):
                Checkpoint.load(path)
        path.write_bytes(b"")
        code, _, errors = self.run_command("train", "--output", str(model), "--resume")
        self.assertEqual(code, 1)
        self.assertIn("model.checkpoint: not a checkpoint of this version (freshet-checkpoint-2)", errors)


if __name__ == "__main__":
    unittest.main()
