"""Distillation: the loss against its formula, and students that learn what only a teacher tells them."""

import itertools
import json
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from freshet_training import loss, train
from freshet_training.distillation import DistillationOptions, Teachers, distillation_loss
from freshet_training.sequences import History
from freshet_training.train import batch_loss
from tests.command_line import CommandLine, Killed, write_vocabulary
from tests.support import columns, objective, random_history, random_model

ROWS, ITEMS = 40, 60


def problem(seed: int) -> tuple[torch.Tensor, ...]:
    """Vectors and candidates of a student and two wider teachers, and weights."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(ROWS, 4), (ITEMS, 4), (ROWS, 6), (ITEMS, 6), (ROWS, 9), (ITEMS, 9)]
    tables = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return *tables, torch.rand(ROWS, generator=generator, dtype=torch.float64)


class Loss(unittest.TestCase):
    def by_the_book(self, tables: tuple[torch.Tensor, ...], temperature: float, teachers: int) -> torch.Tensor:
        vectors, candidates, *others, weights = tables
        scores = [others[2 * n] @ others[2 * n + 1].T for n in range(teachers)]
        wanted = torch.stack([torch.softmax(score / temperature, 1) for score in scores]).mean(0)
        log_found = torch.log_softmax(vectors @ candidates.T / temperature, 1)
        divergence = torch.nn.functional.kl_div(log_found, wanted, reduction="none").sum(1)
        return (weights * divergence).sum() * temperature**2

    def test_is_its_formula_over_several_chunks(self) -> None:
        for seed, (temperature, teachers) in enumerate(itertools.product((0.5, 1.0, 3.0), (1, 2))):
            tables = problem(seed)
            vectors, candidates, *others, weights = tables
            vectors.requires_grad_(), candidates.requires_grad_()
            pairs = list(zip(others[0::2], others[1::2]))[:teachers]
            with mock.patch.dict(loss._CHUNK_ELEMENTS, cpu=7 * ITEMS):
                found = distillation_loss(vectors, candidates, weights, pairs, temperature)
            expected = self.by_the_book(tables, temperature, teachers)
            self.assertAlmostEqual(found.item(), expected.item(), places=12)
            ours, theirs = (torch.autograd.grad(3 * x, (vectors, candidates)) for x in (found, expected))
            for gradient, wanted in zip(ours, theirs):
                torch.testing.assert_close(gradient, wanted, rtol=1e-11, atol=1e-12)

    def test_a_student_of_itself_has_nothing_to_learn(self) -> None:
        vectors, candidates, *_, weights = problem(9)
        found = distillation_loss(vectors.requires_grad_(), candidates, weights, [(vectors, candidates)], 2.0)
        self.assertAlmostEqual(found.item(), 0, places=12)
        self.assertLess(torch.autograd.grad(found, vectors)[0].abs().max(), 1e-14)

    def test_a_certain_teacher_is_a_number(self) -> None:
        vectors, candidates, *_, weights = (table.float() for table in problem(10))
        found = distillation_loss(vectors, candidates, weights, [(1e4 * vectors, candidates)], 1.0)
        self.assertTrue(torch.isfinite(found))


class Batches(unittest.TestCase):
    """The rows of teachers of other windows and blocks are those of the student."""

    def histories(self) -> list[History]:
        random = np.random.default_rng(3)
        return [random_history(random, length) for length in (2, 3, 8, 40)]

    def test_equals_the_dense_models(self) -> None:
        histories = self.histories()
        student = random_model(1, window=7)
        models = [random_model(2, window=3, dim=12), random_model(3, block="transformer", similarity="dot", window=9)]
        teachers = Teachers(models, DistillationOptions((), weight=0.3, temperature=2.0))
        targets = torch.cat([columns(history)[0][1:] for history in histories])
        known = targets > 0
        log_found, *scores = (
            torch.cat([model(*columns(history))[:-1] for history in histories])[known] @ model.candidates()[1:].T
            for model in (student, *models)
        )
        wanted = torch.stack([torch.softmax(score / 2, 1) for score in scores]).mean(0)
        divergence = torch.nn.functional.kl_div(torch.log_softmax(log_found / 2, 1), wanted, reduction="batchmean")
        expected = 0.7 * torch.nn.functional.cross_entropy(log_found, targets[known] - 1) + 0.3 * 4 * divergence
        found = batch_loss(student, histories, objective(student, histories), teachers=teachers)
        self.assertAlmostEqual(found.item(), expected.item(), places=10)

    def test_teachers_see_items_that_the_student_does_not(self) -> None:
        histories = self.histories()
        model = random_model(4)
        teachers = Teachers([model], DistillationOptions((), weight=1.0))
        whole, blinded = (
            batch_loss(model, histories, objective(model, histories), rate, teachers).item() for rate in (0.0, 0.9)
        )
        self.assertAlmostEqual(whole, 0, places=10)
        self.assertGreater(blinded, 0.01)


class Distilling(CommandLine):
    def distill(self, name: str, teacher: Path, *arguments: str) -> Path:
        return self.train(name, "--teacher", str(teacher), *arguments, command="distill")

    def ndcg(self, model: Path) -> float:
        return json.loads(self.run_command("evaluate", "--model", str(model))[1])["ndcg"]

    def test_a_student_of_a_teacher_only_knows_what_the_teacher_knows(self) -> None:
        metrics = self.directory / "metrics.jsonl"
        teacher = self.train("teacher", "--block", "transformer", "--lr", ".01")
        self.assertGreater(self.ndcg(teacher), 0.95)
        flags = ["--teacher-weight", "1", "--teacher-temperature", "2", "--layers", "1", "--metrics", str(metrics)]
        self.assertGreater(self.ndcg(self.distill("student", teacher, *flags)), 0.95)
        summary = json.loads(metrics.read_text("utf-8").splitlines()[-1])
        self.assertEqual((summary["distillation"]["weight"], summary["distillation"]["temperature"]), (1, 2))
        ignorant = self.train("ignorant", "--lr", "0", "--epochs", "1")
        self.assertLess(self.ndcg(self.distill("taught nothing", ignorant, "--teacher-weight", "1")), 0.7)

    def test_a_killed_run_goes_on_with_the_same_teachers_only(self) -> None:
        teacher = self.train("teacher", "--epochs", "2")
        whole = self.weights(self.distill("whole", teacher, "--epochs", "3"))
        step, steps = train.Run._step, itertools.count(1)

        def killed_in_the_second_epoch(run: train.Run, batch: list) -> None:
            if next(steps) == 12:  # of 8 an epoch
                raise Killed
            step(run, batch)

        flags = ["--epochs", "3", "--checkpoint-minutes", "0", "--resume"]
        with mock.patch.object(train.Run, "_step", killed_in_the_second_epoch), self.assertRaises(Killed):
            self.distill("killed", teacher, *flags)
        other = self.train("other", "--epochs", "1")
        for wrong in (["--teacher", str(other)], ["--teacher", str(teacher), "--teacher-weight", ".7"]):
            line = ["--output", str(self.directory / "killed"), "--dim", "16", "--layers", "2", "--window", "6"]
            line += ["--batch-users", "8", "--lr", ".02", *wrong, *flags]
            code, _, errors = self.run_command("distill", *line)
            self.assertEqual(code, 1)
            self.assertIn("the checkpoint is of another run: its distillation.", errors)
        self.assertEqual(self.weights(self.distill("killed", teacher, *flags)), whole)

    def test_wrong_teachers_are_refused(self) -> None:
        teacher = self.train("teacher", "--epochs", "1")
        flag = ["--teacher", str(teacher)]
        for name, message in (("weight", "a number above 0 to 1"), ("temperature", "a number from 0.001 to 1000")):
            errors = self.refused("distill", *flag, f"--teacher-{name}", "0", status=2)
            self.assertIn(f"--teacher-{name}: 0: expected {message}", errors)
            with self.assertRaisesRegex(ValueError, "a weight above 0 and at most 1, and a temperature above 0"):
                DistillationOptions((), **{name: 0.0})
        self.assertIn("config.json", self.refused("distill", "--teacher", str(self.directory)))
        names = [f"i{row}" for row in range(1, 21)]
        for changed, message in (
            (names[1:] + names[:1], f"not the vocabulary of {self.directory}: row 1 is i2, expected i1"),
            (names[:-1], "20 rows, expected 21"),
        ):
            write_vocabulary(teacher / "items.tsv", changed)
            self.assertIn(message, self.refused("distill", *flag))


if __name__ == "__main__":
    unittest.main()
