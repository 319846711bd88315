"""The trainer end to end, through its command line, on a pattern that it must find."""

import io
import json
import sys
import tempfile
import unittest
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import numpy as np

from freshet_training import model_directory, safetensors
from freshet_training.__main__ import main

ITEMS = 20


def write_export(directory: Path, users: int = 60, events: int = 12) -> None:
    """After item i comes item i + 3, around a circle: no item returns within a history."""
    starts = np.random.default_rng(5).integers(0, ITEMS, users)
    items = 1 + (starts[:, None] + 3 * np.arange(events)) % ITEMS
    tensors = {
        "offsets": np.arange(users + 1) * events,
        "items": items.ravel().astype(np.int32),
        "types": np.ones(users * events, np.int32),
        "times": np.arange(users * events),
    }
    safetensors.save(directory / "sequences.safetensors", tensors)
    names = ["[unknown]"] + [f"i{row}" for row in range(1, ITEMS + 1)]
    (directory / "items.tsv").write_text("".join(f"{row}\t{name}\n" for row, name in enumerate(names)), "utf-8")
    (directory / "event_types.tsv").write_text("0\t[unknown]\n1\tview\n", "utf-8")


class Training(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        write_export(self.directory)

    def run_command(self, command: str, *arguments: str) -> tuple[int, str, str]:
        line = ["freshet_training", command, "--threads", "1", "--data", str(self.directory), *arguments]
        out, err = io.StringIO(), io.StringIO()
        with mock.patch.object(sys, "argv", line), redirect_stdout(out), redirect_stderr(err):
            return main(), out.getvalue(), err.getvalue()

    def train(self, name: str, *arguments: str) -> Path:
        output = self.directory / name
        shape = ["--dim", "16", "--layers", "2", "--window", "6", "--epochs", "12", "--batch-users", "8", "--lr", ".02"]
        code, _, errors = self.run_command("train", "--output", str(output), *shape, *arguments)
        self.assertEqual(code, 0, errors)
        return output

    def test_finds_the_pattern_and_reports(self) -> None:
        metrics = self.directory / "metrics.jsonl"
        model = self.train("model", "--metrics", str(metrics))
        code, printed, _ = self.run_command("evaluate", "--model", str(model))
        accuracy = json.loads(printed)
        self.assertEqual((code, accuracy["users"]), (0, 60))
        self.assertGreater(accuracy["ndcg"], 0.95)
        lines = [json.loads(line) for line in metrics.read_text("utf-8").splitlines()]
        self.assertEqual(len(lines), 13)
        self.assertLess(lines[11]["loss"], lines[0]["loss"])
        best = max(lines[:12], key=lambda line: line["valid"]["ndcg"])
        self.assertEqual((lines[12]["chosen_epoch"], lines[12]["test"]), (best["epoch"], accuracy))

    def test_same_seed_same_model(self) -> None:
        first, again, other = (
            (self.train(name, "--seed", seed, "--epochs", "2") / "model.safetensors").read_bytes()
            for name, seed in (("a", "4"), ("b", "4"), ("c", "5"))
        )
        self.assertEqual(first, again)
        self.assertNotEqual(first, other)

    def test_id_dropout_gives_row_0_a_meaning(self) -> None:
        for name, rate, trained in (("without", "0", False), ("with", "0.1", True)):
            model = model_directory.load(self.train(name, "--id-dropout", rate, "--epochs", "1"))
            self.assertEqual(bool(model.item_embedding.weight[0].any()), trained)

    def test_all_events_without_hold_out(self) -> None:
        metrics = self.directory / "metrics.jsonl"
        self.train("model", "--hold-out", "0", "--epochs", "2", "--metrics", str(metrics))
        lines = [json.loads(line) for line in metrics.read_text("utf-8").splitlines()]
        self.assertEqual([line.get("best_epoch") for line in lines], [1, 2, None])
        self.assertNotIn("test", lines[2])

    def test_some_users_judge_the_epochs_and_all_the_test(self) -> None:
        metrics = self.directory / "metrics.jsonl"
        self.train("model", "--valid-users", "7", "--epochs", "1", "--metrics", str(metrics))
        epoch, summary = (json.loads(line) for line in metrics.read_text("utf-8").splitlines())
        self.assertEqual((epoch["valid"]["users"], summary["test"]["users"]), (7, 60))

    def test_errors_name_the_file(self) -> None:
        (self.directory / "items.tsv").unlink()
        code, _, errors = self.run_command("train", "--output", str(self.directory / "model"))
        self.assertEqual(code, 1)
        self.assertIn("items.tsv", errors)


if __name__ == "__main__":
    unittest.main()
