"""Pruning: what contributes nothing goes first, and goes without a trace where the format allows it."""

import json
import unittest

import numpy as np
import torch

from freshet_training import model_directory
from freshet_training.model import SequenceModel
from freshet_training.pruning import Sizes, prune
from freshet_training.sequences import History
from tests.command_line import CommandLine, write_vocabulary
from tests.support import columns, random_history, random_model

KINDS = ({}, {"block": "transformer", "ffn_dim": 6}, {"block": "transformer", "attention": "additive", "ffn_dim": 6})


def histories(seed: int, count: int = 40) -> list[History]:
    random = np.random.default_rng(seed)
    return [random_history(random, 9) for _ in range(count)]


def as_the_model_says(model: SequenceModel, seed: int) -> list[History]:
    """Each item but the first is the one that `model` scores highest, so that its loss is low and others' higher."""
    whole = histories(seed, 12)
    for history in whole:
        for event in range(1, len(history)):
            with torch.no_grad():
                scores = model.candidates() @ model(*columns(history.slice(0, event)))[-1]
            history.items[event] = 1 + int(scores[1:].argmax())
    return whole


class Pruning(unittest.TestCase):
    def assert_same(self, found: SequenceModel, expected: SequenceModel, events: int = 20) -> None:
        history = columns(random_history(np.random.default_rng(1), events))
        with torch.no_grad():
            torch.testing.assert_close(found(*history), expected(*history), rtol=1e-12, atol=1e-13)

    def test_a_layer_that_writes_nothing_goes_without_a_trace(self) -> None:
        for kind in KINDS:
            model = random_model(1, layers=3, **kind)
            with torch.no_grad():
                for name, weight in model.layers[1].named_parameters():
                    if "out" in name:
                        weight.zero_()
            pruned = prune(model, as_the_model_says(model, 1), Sizes(layers=2))
            self.assertEqual(pruned.layers, [0, 2])
            self.assertEqual(pruned.model.config.layers, 2)
            self.assertAlmostEqual(*pruned.loss, places=10)
            self.assert_same(pruned.model, model)

    def test_the_layer_that_matters_stays(self) -> None:
        model = random_model(2, layers=3)
        with torch.no_grad():
            for layer in (0, 2):
                for weight in model.layers[layer].out.parameters():
                    weight.mul_(1e-3)
        self.assertEqual(prune(model, as_the_model_says(model, 2), Sizes(layers=1)).layers, [1])

    def test_units_that_write_nothing_go_without_a_trace(self) -> None:
        for kind in KINDS[1:]:
            model = random_model(3, **kind)
            with torch.no_grad():
                model.layers[0].ffn_out.weight[[1, 4]] = 0
                model.layers[1].ffn_out.weight[[0, 5]] = 0
            pruned = prune(model, histories(3), Sizes(ffn_dim=4)).model
            self.assertEqual(pruned.config.ffn, 4)
            self.assert_same(pruned, model)

    def test_heads_and_channels_that_write_nothing_go_first(self) -> None:
        for kind in KINDS:
            model = random_model(4, heads=4, **kind)  # of two columns each
            dead = {0: [0, 3], 1: [1, 2]}
            channels = [0, 2, 5, 7]
            with torch.no_grad():
                for layer, heads in dead.items():
                    model.layers[layer].out.weight.view(4, 2, 8)[heads] = 0
                for name, weight in model.named_parameters():
                    if "embedding" in name or "out." in name:
                        weight[..., channels] = 0
            pruned = prune(model, histories(4), Sizes(heads=2))
            self.assertEqual(pruned.heads, [[1, 2], [0, 3]])
            config = pruned.model.config
            self.assertEqual((config.dim, config.heads), (4, 2))
            kept = pruned.model.layers[0]
            torch.testing.assert_close(kept.out.weight, model.layers[0].out.weight[2:6][:, [1, 3, 4, 6]])
            torch.testing.assert_close(kept.bias_pos, model.layers[0].bias_pos[1:3])
            items, types = torch.arange(5), torch.ones(5, dtype=torch.int64)
            torch.testing.assert_close(pruned.model.embed(items, types), model.embed(items, types)[:, [1, 3, 4, 6]])

    def test_projections_follow_their_heads(self) -> None:
        model = random_model(5, heads=4)
        pruned = prune(model, histories(5), Sizes(heads=3))
        for part in range(4):
            found = pruned.model.layers[1].uvqk.weight.view(6, 4, 3, 2)[:, part]
            whole = model.layers[1].uvqk.weight.view(8, 4, 4, 2)[:, part][:, pruned.heads[1]]
            rows = [min(range(8), key=lambda r, row=row: (whole[r] - row).abs().max()) for row in found]
            torch.testing.assert_close(found, whole[rows])
            self.assertEqual(len(set(rows)), 6)

    def test_a_smaller_window_is_exact_while_histories_fit(self) -> None:
        for kind in KINDS:
            model = random_model(6, **kind)
            pruned = prune(model, histories(6), Sizes(window=3)).model
            self.assertEqual(pruned.config.window, 3)
            self.assert_same(pruned, model, events=3)

    def test_wrong_sizes(self) -> None:
        model = random_model(7)
        for sizes, message in (
            (Sizes(layers=3), "layers 3: expected 1 to 2"),
            (Sizes(heads=0), "heads 0: expected 1 to 2"),
            (Sizes(window=-1), "window -1: expected 1 to 5"),
            (Sizes(ffn_dim=4), "ffn_dim 4: a model of block hstu has no feed-forward part"),
            (Sizes(), "nothing to prune"),
            (Sizes(layers=2), "nothing to prune"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                prune(model, histories(7), sizes)


class PruneCommand(CommandLine):
    def ndcg(self, model: str) -> float:
        return json.loads(self.run_command("evaluate", "--model", model)[1])["ndcg"]

    def test_prunes_and_finetuning_repairs(self) -> None:
        for block in ("hstu", "transformer"):
            model = self.train(block, "--layers", "3", "--heads", "4", "--block", block, "--lr", ".01")
            small, tuned = str(self.directory / f"small {block}"), str(self.directory / f"tuned {block}")
            flags = ["--output", small, "--layers", "1", "--heads", "2", "--window", "4"]
            code, printed, errors = self.run_command("prune", "--model", str(model), *flags)
            self.assertEqual(code, 0, errors)
            self.assertRegex(printed, r"^layer \d: heads \d, \d\ndim 8, window 4; loss [\d.]+ before, [\d.]+ after\n$")
            config = model_directory.load(self.directory / f"small {block}").config
            self.assertEqual((config.dim, config.layers, config.heads, config.window), (8, 1, 2, 4))
            flags = ["--from", small, "--output", tuned, "--epochs", "8", "--batch-users", "8", "--lr", ".02"]
            code, _, errors = self.run_command("finetune", *flags)
            self.assertEqual(code, 0, errors)
            self.assertGreater(self.ndcg(tuned), 0.9)

    def test_items_go_by_name(self) -> None:
        model = self.train("model", "--epochs", "2")
        first, second = (
            self.run_command("prune", "--model", str(model), "--output", str(self.directory / name), "--layers", "1")
            for name in ("a", "b")
        )
        self.assertEqual(first, second)
        write_vocabulary(self.directory / "items.tsv", [f"j{row}" for row in range(1, 21)])
        code, printed, _ = self.run_command(
            "prune", "--model", str(model), "--output", str(self.directory / "c"), "--layers", "1"
        )
        self.assertEqual(code, 0)
        self.assertIn("loss 0.0000 before, 0.0000 after", printed)  # there is nothing that it knows

    def test_bad_input_is_refused(self) -> None:
        model = self.train("model", "--epochs", "1")
        flags = ["--model", str(model)]
        self.assertIn("nothing to prune", self.refused("prune", *flags))
        self.assertIn("--users: 0", self.refused("prune", *flags, "--layers", "1", "--users", "0", status=2))
        self.assertIn("config.json", self.refused("prune", "--model", str(self.directory), "--layers", "1"))


if __name__ == "__main__":
    unittest.main()
