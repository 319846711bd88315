"""Items as codes: those alike share them, and a model with them trains, is saved, and says what it cannot do."""

import unittest
from unittest import mock

import numpy as np
import torch

from freshet_training import model_directory, safetensors
from freshet_training.item_codes import CENTROIDS, CodedTable, assign
from freshet_training.model import SequenceModel
from tests.command_line import ITEMS, SHAPE, CommandLine, write_export, write_vocabulary
from tests.support import random_model

CODED = ("--item-codes", "4", "--codes-from")


class Codes(unittest.TestCase):
    def test_a_row_is_its_centroids_side_by_side(self) -> None:
        random = np.random.default_rng(1)
        table = CodedTable(7, 6, 3)
        table.codes = torch.from_numpy(random.integers(0, CENTROIDS, (7, 3)).astype(np.uint8))
        torch.nn.init.normal_(table.centroids)
        for row in range(7):
            for column in range(6):
                expected = table.centroids[column // 2, int(table.codes[row, column // 2]), column % 2]
                self.assertEqual(table.weight[row, column], expected)

    def test_only_rows_alike_share_a_code_whatever_their_lengths(self) -> None:
        generator = torch.Generator().manual_seed(2)
        kinds = torch.nn.functional.normalize(torch.randn(50, 8, generator=generator), dim=1)
        kind = torch.randint(0, 50, (2001,), generator=generator)
        codes = assign(kinds[kind] * (0.5 + torch.rand(2001, 1, generator=generator)), 4, seed=1)
        self.assertTrue((codes[0] == 0).all())
        self.assertTrue((codes[1:] > 0).all())
        for part in range(4):
            for code in codes[1:, part].unique():
                self.assertEqual(len(kind[1:][codes[1:, part] == code].unique()), 1)

    def test_codes_lie_as_near_as_k_means_puts_them(self) -> None:
        table = torch.randn(4001, 4, generator=torch.Generator().manual_seed(3))
        codes = assign(table, 2, seed=1)
        self.assertTrue(torch.equal(codes, assign(table, 2, seed=1)))
        rows = torch.nn.functional.normalize(table[1:], dim=1)
        means = torch.stack([rows[codes[1:, 0] == code, :2].mean(0) for code in codes[1:, 0].unique()])
        errors = torch.cdist(rows[:, :2], means).amin(1)
        self.assertLess(errors.square().mean(), 0.01 * rows[:, :2].square().mean())

    def test_fewer_items_than_codes(self) -> None:
        codes = assign(torch.randn(4, 8), 2, seed=1)
        self.assertEqual(len(torch.unique(codes[:, 0])), 4)

    def test_parts_must_divide_the_width(self) -> None:
        for parts in (3, -2):
            with self.assertRaisesRegex(ValueError, "must divide dim"):
                random_model(1, item_codes=parts)


class CodedModels(CommandLine):
    def coded(self, name: str, *arguments: str) -> SequenceModel:
        if not (self.directory / "plain").exists():
            self.train("plain", "--epochs", "4")
        return model_directory.load(self.train(name, *CODED, str(self.directory / "plain"), *arguments))

    def test_trains_and_is_told_by_its_tensors(self) -> None:
        model = self.coded("coded")
        tensors = safetensors.load(self.directory / "coded" / "model.safetensors")
        self.assertNotIn("item_embedding.weight", tensors)
        self.assertEqual(tensors["item_embedding.codes"].dtype, np.uint8)
        self.assertEqual(tensors["item_embedding.codes"].shape, (ITEMS + 1, 4))
        self.assertEqual(tensors["item_embedding.centroids"].shape, (4, CENTROIDS, 4))
        self.assertEqual(model.config.item_codes, 4)
        self.assertNotIn("item_codes", (self.directory / "coded" / "config.json").read_text())
        code, printed, _ = self.run_command("evaluate", "--model", str(self.directory / "coded"))
        self.assertEqual(code, 0)
        self.assertIn('"ndcg": 1.0', printed)

    def test_is_distilled_and_finetuned(self) -> None:
        self.coded("whole", "--epochs", "4")
        student = self.train("student", *CODED, str(self.directory / "plain"), *self.taught(), command="distill")
        self.assertEqual(model_directory.load(student).config.item_codes, 4)
        before = model_directory.load(self.directory / "whole").item_embedding.codes
        tuned = self.directory / "tuned"
        flags = ["--from", str(self.directory / "whole"), "--output", str(tuned), "--epochs", "2", "--batch-users", "8"]
        self.assertEqual(self.run_command("finetune", *flags)[0], 0)
        self.assertTrue(torch.equal(model_directory.load(tuned).item_embedding.codes, before))

    def test_resuming_with_other_codes_is_refused(self) -> None:
        self.coded("model", "--epochs", "1")
        one = assign(torch.randn(ITEMS + 1, 16), 4, seed=1)
        one[1:] = 1
        output = ["--output", str(self.directory / "model"), "--resume"]
        with mock.patch("freshet_training.commands.training.assign", lambda *_, **__: one):
            code, _, errors = self.run_command(
                "train", *output, *SHAPE, *CODED, str(self.directory / "plain"), "--epochs", "1"
            )
        self.assertEqual(code, 1)
        self.assertIn("the checkpoint is of another run: its codes is", errors)

    def taught(self) -> list[str]:
        return ["--teacher", str(self.directory / "whole"), "--epochs", "2"]

    def test_new_items_and_fewer_heads_are_refused(self) -> None:
        self.coded("coded", "--epochs", "2", "--heads", "2")
        model = str(self.directory / "coded")
        later = self.directory / "later"
        write_export(later, items=ITEMS + 3)
        errors = self.refused("finetune", "--from", model, data=later)
        self.assertIn("3 new items: a model with item_codes has none for them", errors)
        self.assertIn("keeps its width", self.refused("prune", "--model", model, "--heads", "1"))
        pruned = str(self.directory / "pruned")
        self.assertEqual(self.run_command("prune", "--model", model, "--output", pruned, "--layers", "1")[0], 0)
        self.assertEqual(model_directory.load(self.directory / "pruned").config.item_codes, 4)

    def test_bad_input_is_refused(self) -> None:
        plain = str(self.train("plain", "--epochs", "1"))
        self.assertIn("expected both", self.refused("train", "--item-codes", "4"))
        self.assertIn("expected both", self.refused("train", "--codes-from", plain))
        self.assertIn("must divide dim", self.refused("train", "--item-codes", "5", "--codes-from", plain))
        narrow = str(self.train("narrow", "--epochs", "1", "--dim", "12"))
        self.assertIn(
            "dim (12) of the model that they come from",
            self.refused("train", "--dim", "16", "--item-codes", "8", "--codes-from", narrow),
        )
        write_vocabulary(self.directory / "items.tsv", [f"j{row}" for row in range(1, ITEMS + 1)])
        self.assertIn("row 1 is i1, expected j1", self.refused("train", *CODED, plain))


if __name__ == "__main__":
    unittest.main()
