"""The model's three forms agree: dense by the book, packed for training, and one event at a time."""

import unittest
from dataclasses import asdict

import numpy as np
import torch

from freshet_training.loss import softmax_loss
from freshet_training.model import SequenceModel
from freshet_training.packing import pack
from freshet_training.train import batch_loss
from tests.ring_step import RingStep
from tests.support import columns, objective, random_history, random_model

SHAPES = [
    {},
    {"layers": 1, "heads": 1, "window": 1},
    {"layers": 3, "heads": 4, "window": 12},
    {"time_bias": False},
    {"similarity": "dot"},
    {"attention_scale": 2.5},
    {"block": "transformer"},
    {"block": "transformer", "ffn_dim": 6, "heads": 4, "window": 12, "time_bias": False, "similarity": "dot"},
    {"block": "transformer", "attention": "additive", "layers": 1},
]
LENGTHS = [1, 2, 4, 5, 6, 9, 17, 36]


class ModelForms(unittest.TestCase):
    def test_dense_equals_incremental_ring_step(self) -> None:
        for seed, shape in enumerate(SHAPES):
            for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
                model = random_model(seed, **shape).to(dtype)
                history = random_history(np.random.default_rng(seed), 3 * model.config.window + 4)
                with torch.no_grad():
                    dense = model(*columns(history)).numpy()
                weights = {name: weight.numpy() for name, weight in model.state_dict().items()}
                ring = RingStep(weights, asdict(model.config))
                events = zip(history.items.tolist(), history.types.tolist(), history.times.tolist())
                stepped = np.stack([ring.take(*event) for event in events])
                self.assertLess(relative_error(stepped, dense), tolerance, f"{shape} {dtype}")

    def test_packed_equals_dense(self) -> None:
        for seed, shape in enumerate(SHAPES):
            for block in (0, 4, 7, 50):
                model = random_model(seed, **shape)
                random = np.random.default_rng(seed)
                histories = [random_history(random, length) for length in LENGTHS]
                packed = pack(histories, model.config.window, block)
                with torch.no_grad():
                    outputs = model.normalise(model.forward_packed(packed))
                    dense = torch.cat([model(*columns(history)) for history in histories])
                self.assertLess(relative_error(outputs[packed.real].numpy(), dense.numpy()), 1e-12, f"{shape} {block}")
                newest = dense[np.cumsum(LENGTHS) - 1]
                self.assertLess(relative_error(outputs[packed.last].numpy(), newest.numpy()), 1e-12)

    def test_gradient_of_packed_loss_equals_that_of_dense_loss(self) -> None:
        for seed, shape in enumerate(SHAPES):
            model = random_model(seed, **shape)
            random = np.random.default_rng(seed)
            histories = [random_history(random, length) for length in (2, 3, 8, 40)]
            packed = gradients(model, batch_loss(model, histories, objective(model, histories)))
            outputs = torch.cat([model(*columns(history))[:-1] for history in histories])
            targets = torch.cat([columns(history)[0][1:] for history in histories])
            known = targets > 0
            logits = outputs[known] @ model.candidates()[1:].T
            dense = gradients(model, torch.nn.functional.cross_entropy(logits, targets[known] - 1))
            for name, gradient in dense.items():
                self.assertLess(relative_error(packed[name], gradient), 1e-11, f"{shape} {name}")

    def test_only_exact_history_matters(self) -> None:
        model = random_model(7)
        history = random_history(np.random.default_rng(7), 40)
        cut = history.newest(model.config.exact_history)
        with torch.no_grad():
            whole, exact, short = (model(*columns(h))[-1].numpy() for h in (history, cut, cut.slice(1, len(cut))))
        self.assertLess(relative_error(exact, whole), 1e-12)
        self.assertGreater(relative_error(short, whole), 1e-9)

    def test_initial_weights(self) -> None:
        weights = {
            name: weight.numpy()
            for name, weight in SequenceModel(random_model(0, items=3000).config).state_dict().items()
        }
        self.assertAlmostEqual(weights["item_embedding.weight"].std(), 0.02, delta=0.001)
        self.assertFalse(weights["item_embedding.weight"][0].any() or weights["type_embedding.weight"][0].any())
        self.assertFalse(weights["layers.0.out.bias"].any())


class Loss(unittest.TestCase):
    def test_equals_cross_entropy_over_several_chunks(self) -> None:
        generator = torch.Generator().manual_seed(3)
        vectors, candidates = (torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in (600, 5000))
        targets = torch.randint(5000, (600,), generator=generator)
        vectors.requires_grad_(), candidates.requires_grad_()
        weights = torch.rand(600, generator=generator, dtype=torch.float64)
        loss = softmax_loss(vectors, candidates, targets, weights)
        expected = (
            torch.nn.functional.cross_entropy(vectors @ candidates.T, targets, reduction="none") * weights
        ).sum()
        self.assertAlmostEqual(loss.item(), expected.item(), places=9)
        ours, theirs = (torch.autograd.grad(3 * x, (vectors, candidates)) for x in (loss, expected))
        for found, wanted in zip(ours, theirs):
            self.assertLess(relative_error(found.numpy(), wanted.numpy()), 1e-12)

    def test_nothing_to_predict_is_no_loss(self) -> None:
        model = random_model(0)
        history = random_history(np.random.default_rng(0), 6)
        history.items[:] = 0
        self.assertEqual(batch_loss(model, [history], objective(model, [history])).item(), 0)


def gradients(model: SequenceModel, loss: torch.Tensor) -> dict[str, np.ndarray]:
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {name: weight.grad.numpy() for name, weight in model.named_parameters()}


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-12))


if __name__ == "__main__":
    unittest.main()
