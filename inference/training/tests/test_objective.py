"""The sampled losses against their definitions, and against the full one that they estimate."""

import unittest

import numpy as np
import torch
import torch.nn.functional as F

from freshet_training.loss import softmax_loss
from freshet_training.objective import Objective, ObjectiveOptions
from freshet_training.sampled_loss import gbce_beta, gbce_loss, sampled_softmax_loss
from freshet_training.sequences import History
from tests.support import random_history

ROWS, ITEMS, DIM = 40, 60, 6


def problem(seed: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    vectors, candidates = (torch.randn(n, DIM, generator=generator, dtype=torch.float64) for n in (ROWS, ITEMS))
    targets = torch.randint(ITEMS, (ROWS,), generator=generator)
    weights = torch.rand(ROWS, generator=generator, dtype=torch.float64)
    return vectors, candidates, targets, weights / weights.sum()


class SampledLosses(unittest.TestCase):
    def test_every_item_once_is_the_full_softmax(self) -> None:
        vectors, candidates, targets, weights = problem(1)
        full = softmax_loss(vectors, candidates, targets, weights)
        sampled = sampled_softmax_loss(
            vectors, candidates, targets, weights, torch.arange(ITEMS), torch.zeros(ITEMS, dtype=torch.float64)
        )
        self.assertAlmostEqual(full.item(), sampled.item(), places=12)

    def test_a_skewed_sample_estimates_the_full_softmax_with_its_correction_only(self) -> None:
        vectors, candidates, targets, weights = problem(2)
        full = softmax_loss(vectors, candidates, targets, weights).item()
        shares = torch.softmax(3 * candidates[:, 0], 0)
        shares = 0.2 / ITEMS + 0.8 * shares
        generator = torch.Generator().manual_seed(3)
        negatives = torch.multinomial(shares, 200_000, replacement=True, generator=generator)
        corrected, plain = (
            sampled_softmax_loss(vectors, candidates, targets, weights, negatives, expected).item()
            for expected in (
                torch.log(shares[negatives] * len(negatives)),
                torch.full((1,), np.log(len(negatives) / ITEMS)),
            )
        )
        self.assertAlmostEqual(corrected, full, delta=0.01)
        self.assertGreater(abs(plain - full), 0.1)

    def test_gbce_is_its_formula(self) -> None:
        vectors, candidates, targets, weights = problem(4)
        negatives, beta = torch.tensor([3, 5, 5, 17]), 0.3
        expected = 0.0
        for vector, target, weight in zip(vectors, targets.tolist(), weights.tolist()):
            scores = candidates @ vector
            loss = -beta * F.logsigmoid(scores[target])
            for row in negatives.tolist():
                loss = loss - (0 if row == target else F.logsigmoid(-scores[row]))
            expected += weight * loss.item() / 5
        self.assertAlmostEqual(
            gbce_loss(vectors, candidates, targets, weights, negatives, beta).item(), expected, places=12
        )

    def test_beta(self) -> None:
        self.assertAlmostEqual(gbce_beta(1001, 100, 0.0), 1.0)
        self.assertAlmostEqual(gbce_beta(1001, 100, 1.0), 0.1)
        self.assertAlmostEqual(gbce_beta(1001, 100, 0.75), 0.1 * (0.75 * (1 - 10) + 10))
        self.assertAlmostEqual(gbce_beta(10, 5000, 0.75), 1.0)


class Objectives(unittest.TestCase):
    def setUp(self) -> None:
        random = np.random.default_rng(6)
        self.histories = [random_history(random, 30, ITEMS + 1) for _ in range(50)]

    def objective(self, **options: object) -> Objective:
        return Objective(ObjectiveOptions(**options), self.histories, ITEMS + 1)

    def test_each_loss_falls_along_its_gradient(self) -> None:
        vectors, candidates, targets, _ = (x.float() if x.is_floating_point() else x for x in problem(7))
        types = torch.ones(ROWS, dtype=torch.long)
        for options in ({}, {"loss": "sampled"}, {"loss": "sampled", "sampler": "popularity"}, {"loss": "in-batch"},
                        {"loss": "gbce"}, {"loss": "sampled", "logq": False}):  # fmt: skip
            losses = []
            moved = vectors.clone().requires_grad_()
            for _ in range(2):
                torch.manual_seed(1)
                loss = self.objective(**options).loss(moved, candidates, targets, types)
                losses.append(loss.item())
                (gradient,) = torch.autograd.grad(loss, moved)
                moved = (moved - gradient).detach().requires_grad_()
            self.assertLess(losses[1], losses[0] - 1e-4, str(options))

    def test_popular_items_are_drawn_more_often_and_none_never(self) -> None:
        items = np.array([1] * 500 + [2] * 100, np.int32)
        history = History(items, np.ones_like(items), np.arange(len(items)))
        chosen = Objective(ObjectiveOptions("sampled", sampler="popularity"), [history], 5)._shares
        self.assertAlmostEqual(float(chosen[0] / chosen[1]), 500 / 101, places=5)
        self.assertTrue((chosen > 0).all())

    def test_weights_of_event_types(self) -> None:
        vectors, candidates, targets, _ = problem(8)
        types = torch.tensor([1] * (ROWS - 1) + [2])
        found = self.objective(type_weights=(1.0, 0.0, 5.0)).loss(vectors, candidates, targets, types)
        last = F.cross_entropy(vectors[-1:] @ candidates.T, targets[-1:])
        self.assertAlmostEqual(found.item(), last.item(), places=9)
        even = self.objective().loss(vectors, candidates, targets, types)
        self.assertAlmostEqual(even.item(), F.cross_entropy(vectors @ candidates.T, targets).item(), places=6)

    def test_options_that_make_no_sense(self) -> None:
        for options in ({"loss": "hinge"}, {"sampler": "best"}, {"negatives": 0}, {"type_weights": (-1.0,)}):
            with self.assertRaises(ValueError):
                ObjectiveOptions(**options)


if __name__ == "__main__":
    unittest.main()
