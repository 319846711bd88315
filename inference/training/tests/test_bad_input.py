"""Logs that hold next to nothing, weights that are no numbers, sizes that nobody serves, a disk that is full."""

import contextlib
import json
import math
import resource
import unittest
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from freshet_training import model_directory, safetensors, sequences
from freshet_training import train as train_module
from freshet_training.model import ModelConfig
from freshet_training.objective import LOSSES, SAMPLERS
from freshet_training.train import TrainOptions
from tests.command_line import CommandLine, write_export, write_vocabulary

# Each loss with each way to draw what it compares with.
RECIPES = [("--loss", loss, "--sampler", sampler, "--negatives", "8") for loss in LOSSES for sampler in SAMPLERS]


def rewrite(directory: Path, **changes: np.ndarray) -> None:
    """Tensors of an export."""
    path = directory / "sequences.safetensors"
    safetensors.save(path, {**safetensors.load(path), **changes})


class Users(CommandLine):
    def test_those_with_no_or_one_event_change_nothing(self) -> None:
        expected = self.weights(self.train("whole", "--epochs", "2"))
        data = sequences.load(self.directory)
        ends = [
            0,
            0,
            1,
            *(data.offsets[1:] + 1),
            data.offsets[-1] + 1,
            data.offsets[-1] + 2,
        ]  # of 0, 1, .., 0, 1 events
        around = {name: np.array([3, *getattr(data.events, name), 4]) for name in ("items", "types", "times")}
        around["types"][[0, -1]] = 1
        dtypes = {"items": np.int32, "types": np.int32, "times": np.int64}
        rewrite(
            self.directory,
            offsets=np.array(ends, np.int64),
            **{name: column.astype(dtypes[name]) for name, column in around.items()},
        )
        self.assertEqual(sequences.load(self.directory).users, 64)
        model = self.train("more", "--epochs", "2")
        self.assertEqual(self.weights(model), expected)
        code, printed, errors = self.run_command("evaluate", "--model", str(model))
        self.assertEqual((code, json.loads(printed)["users"]), (0, 60), errors)

    def test_a_log_of_nobody_else_is_refused(self) -> None:
        model = self.train("model", "--epochs", "1")
        for events in (0, 1, 3):  # three leave one to learn from
            short = self.directory / f"short-{events}"
            write_export(short, events=events)
            message = f"{short}: no user has 4 events or more"
            self.assertIn(message, self.refused("train", data=short))
            self.assertIn(message, self.refused("finetune", "--from", str(model), data=short))
            self.assertIn(message, self.refused("distill", "--teacher", str(model), data=short))
            self.assertIn(message, self.refused("prune", "--model", str(model), "--layers", "1", data=short))
            if events < 2:
                synthesis = ("synthesize", "--model", str(model), "--users", "3")
                self.assertIn("no user with two events", self.refused(*synthesis, data=short))


class Items(CommandLine):
    def test_items_without_an_event_are_learnt_from_as_the_others_negatives(self) -> None:
        write_vocabulary(self.directory / "items.tsv", [f"i{row}" for row in range(1, 41)])  # 20 of them in the log
        for number, recipe in enumerate(RECIPES):
            model = model_directory.load(self.train(f"model-{number}", "--epochs", "2", *recipe))
            self.assertTrue(torch.isfinite(model.item_embedding.weight).all(), recipe)

    def test_one_item_in_all(self) -> None:
        """It has been seen by everybody, so that there is nothing to recommend: 0, and no error."""
        write_export(self.directory, items=1)
        for number, recipe in enumerate(RECIPES):
            model = self.train(f"model-{number}", "--epochs", "2", *recipe)
            self.assertTrue(torch.isfinite(model_directory.load(model).item_embedding.weight).all(), recipe)
        code, printed, errors = self.run_command("evaluate", "--model", str(model))
        self.assertEqual((code, json.loads(printed)), (0, {"users": 60, "hr": 0, "ndcg": 0}), errors)
        self.train("tuned", "--from", str(model), command="finetune")
        self.train("student", "--teacher", str(model), command="distill")
        flags = ["--model", str(model), "--output", str(self.directory / "small"), "--layers", "1"]
        self.assertEqual(self.run_command("prune", *flags)[0], 0)
        flags = ["--model", str(model), "--output", str(self.directory / "more"), "--users", "5"]
        for repeats in ([], ["--no-repeats"]):
            self.assertEqual(self.run_command("synthesize", *flags, *repeats)[0], 0)


class NoNumbers(CommandLine):
    def spoilt_after(self, steps: int) -> contextlib.AbstractContextManager[object]:
        """A step that leaves no number in the weights, as one of too high a rate does."""
        step = train_module.Run._step

        def spoilt(run: train_module.Run, batch: list) -> None:
            step(run, batch)
            if len(run._losses) + run.epoch * 8 == steps:
                with torch.no_grad():
                    run.model.item_embedding.weight.fill_(torch.nan)

        return mock.patch.object(train_module.Run, "_step", spoilt)

    def test_what_the_last_step_spoilt_is_not_saved(self) -> None:
        for name, flags in (("held-out", []), ("all", ["--hold-out", "0"])):
            for minutes in ("0", "5"):
                model = self.train(name, *flags, "--epochs", "1", "--checkpoint-minutes", minutes)
                checkpoint = self.directory / f"{name}.checkpoint"
                good = self.weights(model)
                more = ["--output", str(model), "--dim", "16", "--batch-users", "8", "--epochs", "3"]
                for steps in (3, 8, 16):  # within the first epoch, at its end, at that of the second
                    with self.spoilt_after(steps):
                        code, _, errors = self.run_command("train", *more, *flags, "--checkpoint-minutes", minutes)
                    self.assertEqual(code, 1)
                    epoch, batch = divmod(steps - 1, 8)
                    # Where nothing is saved behind the step, the next one tells.
                    where = rf"batch {batch + 2}: the loss is nan|after batch {batch + 1} the model computes no finite"
                    self.assertRegex(errors, rf"epoch {epoch + 1}, ({where})")
                    if steps < 16:
                        self.assertEqual(self.weights(model), good)
                    model_directory.load(model)  # refuses what is not finite
                    if steps == 16 and minutes == "0":
                        weights = train_module.Checkpoint.load(checkpoint).model
                        self.assertTrue(all(torch.isfinite(weight).all() for weight in weights.values()))

    def test_models_that_hold_none(self) -> None:
        model = self.train("model", "--epochs", "1")
        path = model / "model.safetensors"
        good = safetensors.load(path)
        for value, message in (
            (np.nan, "model.safetensors: item_embedding.weight holds numbers that are not finite"),
            (3e38, "scores of items are no numbers"),
        ):
            bad = np.full_like(good["item_embedding.weight"], value)
            safetensors.save(path, {**good, "item_embedding.weight": bad})
            code, _, errors = self.run_command("evaluate", "--model", str(model))
            self.assertEqual(code, 1)
            self.assertIn(message, errors)

    def test_weights_whose_products_are_none(self) -> None:
        model = str(self.train("model", "--epochs", "1"))
        path = Path(model) / "model.safetensors"
        good = safetensors.load(path)
        scores = "scores of items are no numbers: the model's weights overflow"
        for name in ("item_embedding.weight", "layers.0.uvqk.weight"):
            safetensors.save(path, {**good, name: np.full_like(good[name], 3e38)})
            for command, flags, message in (
                ("parity", ["--model", model], scores),
                ("synthesize", ["--model", model, "--users", "2"], scores),
                ("prune", ["--model", model, "--layers", "1"], "the loss of the model is nan: its weights overflow"),
                ("finetune", ["--from", model], scores),
                ("distill", ["--teacher", model, "--dim", "16"], "are no numbers: its weights overflow"),
            ):
                with self.subTest(name, command=command):
                    self.assertIn(message, self.refused(command, *flags))
        safetensors.save(path, {**good, "item_embedding.weight": np.full_like(good["item_embedding.weight"], 3e38)})
        codes = ("--dim", "16", "--item-codes", "4", "--codes-from", model)
        self.assertIn("without a finite length", self.refused("train", *codes))


class Sizes(CommandLine):
    def test_what_no_engine_loads_is_not_trained(self) -> None:
        for flags, message in (
            (["--dim", "4098"], "--dim: 4098: expected a whole number from 1 to 4,096"),
            (["--dim", "0"], "--dim: 0: expected a whole number from 1 to 4,096"),
            (["--heads", "0"], "--heads: 0: expected a whole number from 1 to 4,096"),
            (["--layers", "65"], "--layers: 65: expected a whole number from 1 to 64"),
            (["--window", "65537"], "--window: 65537: expected a whole number from 1 to 65,536"),
            (["--ffn-dim", "16385"], "--ffn-dim: 16385: expected a whole number from 0 to 16,384"),
            (["--temperature", "0"], "--temperature: 0: expected a number from 1e-30 to 1e+30"),
            (["--epochs", "0"], "--epochs: 0: expected a whole number from 1 to 1,000,000,000"),
            (["--batch-users", "0"], "--batch-users: 0: expected a whole number from 1 to 1,000,000,000"),
            (["--dropout", "1"], "--dropout: 1: expected a number from 0, below 1"),
            (["--lr", "nan"], "--lr: nan: expected a number from 0 to 1e+30"),
        ):
            self.assertIn(message, self.refused("train", *flags, status=2))
        self.assertIn("heads: 3, expected a divisor of dim 16", self.refused("train", "--dim", "16", "--heads", "3"))
        ModelConfig(2, 2, dim=4096, layers=64, window=65536, ffn_dim=16384)
        with self.assertRaisesRegex(ValueError, "items: 1073741825, expected a whole number from 1 to 1073741824"):
            ModelConfig((1 << 30) + 1, 2)
        for name in ("epochs", "patience", "batch_users", "lr", "dropout", "id_dropout", "valid_users"):
            for value in (-1, math.nan):
                with self.subTest(name=name, value=value), self.assertRaisesRegex(ValueError, f"{name}.* {value}"):
                    TrainOptions(**{name: value})

    def test_a_model_of_others(self) -> None:
        model = self.train("model", "--epochs", "1")
        path = model / "config.json"
        good = json.loads(path.read_text("utf-8"))
        for text, message in (
            ("{", "config.json: not JSON"),
            ("[]", "config.json: not a JSON object"),
            (json.dumps({**good, "dim": 8}), r"model\.safetensors: .*item_embedding\.weight"),
            (json.dumps({**good, "layers": 3}), r"model\.safetensors: .*layers\.2\.bias_pos is missing"),
            (json.dumps({**good, "layers": 65}), r"config\.json: layers: 65, expected a whole number from 1 to 64"),
            (json.dumps({**good, "layers": "2"}), r"config\.json: "),
        ):
            path.write_text(text, "utf-8")
            code, _, errors = self.run_command("evaluate", "--model", str(model))
            self.assertEqual(code, 1)
            self.assertRegex(errors.replace("\n", " "), message)


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As a disk that has no more room, but for the number of the error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class FullDisk(CommandLine):
    def test_what_was_saved_survives(self) -> None:
        model = self.train("model", "--epochs", "1")
        checkpoint = self.directory / "model.checkpoint"
        size = (model / "model.safetensors").stat().st_size
        self.assertGreater(checkpoint.stat().st_size, size + 1000)  # one limit lets only the model through
        for limit, named in ((size // 2, model / "model.safetensors"), (size + 1000, checkpoint)):
            before = [path.read_bytes() for path in (*sorted(model.iterdir()), checkpoint)]
            with files_of_at_most(limit):
                code, _, errors = self.run_command("train", "--output", str(model), "--dim", "16", "--layers", "2",
                                                   "--window", "6", "--epochs", "1", "--seed", "2")  # fmt: skip
            self.assertEqual(code, 1)
            self.assertRegex(errors, rf"File too large: '{named}\.[0-9a-f]+\.new'")
            after = [path.read_bytes() for path in (*sorted(model.iterdir()), checkpoint)]
            self.assertEqual(after[-1], before[-1])
            self.assertEqual(after == before, limit < size)
            self.assertFalse(list(self.directory.glob("**/*.new")))
        self.assertEqual(
            len(train_module.Checkpoint.load(checkpoint).model), len(safetensors.load(model / "model.safetensors"))
        )


if __name__ == "__main__":
    unittest.main()
