"""Federated averaging: the mean, and a model that knows what no log alone could tell it."""

import json
import unittest
from pathlib import Path

import torch

from freshet_training import model_directory, vocabulary
from freshet_training.federated import average
from tests.command_line import ITEMS, SHAPE, CommandLine, run, write_export, write_vocabulary

KNOWN = 5  # items that both logs have


class Averaging(unittest.TestCase):
    def test_is_weighted(self) -> None:
        models = [{"a": torch.tensor([1.0, 2.0])}, {"a": torch.tensor([5.0, 10.0])}]
        self.assertEqual(average(models, [3, 1])["a"].tolist(), [2, 4])
        self.assertEqual(average(models[:1], [7])["a"].tolist(), [1, 2])


class Federated(CommandLine):
    def setUp(self) -> None:
        super().setUp()
        self.logs = [self.directory / "first", self.directory / "second"]
        for number, log in enumerate(self.logs):
            write_export(log, step=3 + 4 * number)
            begin = number * (ITEMS - KNOWN)
            write_vocabulary(log / "items.tsv", [f"i{row}" for row in range(begin, begin + ITEMS)])

    def fedavg(self, name: str, *arguments: str) -> tuple[int, str, str]:
        data = [flag for log in self.logs for flag in ("--data", str(log))]
        line = ["--threads", "1", *data, "--output", str(self.directory / name), *SHAPE, "--epochs", "1", *arguments]
        return run("fedavg", *line)

    def ndcg(self, model: Path) -> list[float]:
        """On each log."""
        found = [self.run_command("evaluate", "--model", str(model), data=log)[1] for log in self.logs]
        return [json.loads(line)["ndcg"] for line in found]

    def test_knows_what_each_log_knows(self) -> None:
        alone = self.ndcg(self.train("alone", data=self.logs[0]))
        self.assertGreater(alone[0], 0.95)
        self.assertLess(alone[1], 0.5)
        metrics = self.directory / "metrics.jsonl"
        code, printed, errors = self.fedavg("both", "--rounds", "14", "--metrics", str(metrics))
        self.assertEqual(code, 0, errors)
        self.assertIn(f"{2 * ITEMS - KNOWN} items in all", errors)
        found = self.ndcg(self.directory / "both")
        self.assertGreater(min(found), 0.9)
        lines = [json.loads(line) for line in metrics.read_text("utf-8").splitlines()]
        self.assertEqual([line.get("epoch") for line in lines], [*range(1, 15), None])
        self.assertEqual(lines[-1]["test"]["users"], 120)
        self.assertAlmostEqual(lines[-1]["test"]["ndcg"], sum(found) / 2, places=9)
        self.assertIn("chosen: epoch", printed)

    def test_the_vocabulary_is_that_of_all_logs(self) -> None:
        self.assertEqual(self.fedavg("model", "--rounds", "1")[0], 0)
        names = vocabulary.read(self.directory / "model" / "items.tsv")
        self.assertEqual(names[1:], [f"i{row}" for row in range(2 * ITEMS - KNOWN)])
        self.assertEqual(model_directory.load(self.directory / "model").config.items, len(names))

    def test_same_seed_same_model(self) -> None:
        for name, seed in (("a", "4"), ("b", "4"), ("c", "5")):
            self.assertEqual(self.fedavg(name, "--rounds", "2", "--seed", seed)[0], 0)
        first, again, other = (self.weights(self.directory / name) for name in "abc")
        self.assertEqual(first, again)
        self.assertNotEqual(first, other)

    def test_without_hold_out_the_last_round_is_the_model(self) -> None:
        code, printed, _ = self.fedavg("model", "--rounds", "2", "--hold-out", "0")
        self.assertEqual(code, 0)
        self.assertIn("chosen: epoch 2, test -", printed)

    def test_bad_input_is_refused(self) -> None:
        for arguments, status, message in (
            (["--rounds", "0"], 2, "--rounds: 0: expected a whole number from 1 to"),
            (["--patience", "2"], 1, "--patience 2: expected none"),
            (["--lr", "1e30", "--rounds", "3"], 1, "the loss is"),
        ):
            code, _, errors = self.fedavg("model", *arguments)
            self.assertEqual(code, status)
            self.assertIn(message, errors)
        write_export(self.logs[1], events=3)
        code, _, errors = self.fedavg("model")
        self.assertEqual(code, 1)
        self.assertIn("second: no user has 4 events or more", errors)


if __name__ == "__main__":
    unittest.main()
