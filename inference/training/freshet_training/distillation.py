"""Distillation (Hinton et al. 2015): a student also learns what its teachers think of every item."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import digests, model_directory, vocabulary
from .loss import chunk_rows
from .model import SequenceModel
from .packing import pack
from .sequences import History


@dataclass(frozen=True)
class DistillationOptions:
    teachers: tuple[str, ...]  # their digests
    weight: float = 0.5  # of the teachers in the loss, 0 to 1; the rest is that of the item that came next
    temperature: float = 1.0  # that divides the scores of both before the softmax

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1 or not 0 < self.temperature < float("inf"):
            raise ValueError(
                f"the teachers' weight is {self.weight}, their temperature {self.temperature}: expected "
                "a weight above 0 and at most 1, and a temperature above 0"
            )


class Teachers:
    """Models of one vocabulary, whose weights stay as they are."""

    def __init__(self, models: Sequence[SequenceModel], options: DistillationOptions) -> None:
        self.options = options
        self._models = [model.eval() for model in models]
        with torch.no_grad():
            self._candidates = [model.candidates()[1:].contiguous() for model in self._models]
        if not all(bool(torch.isfinite(table).all()) for table in self._candidates):
            raise FloatingPointError("a teacher's rows of items are no numbers: its weights overflow")

    @staticmethod
    def load(
        directories: Sequence[Path], data: Path, weight: float, temperature: float, device: torch.device | str = "cpu"
    ) -> "Teachers":
        """Raises ValueError where a teacher's vocabulary is not the one of the export `data`."""
        for directory in directories:
            vocabulary.check_same(directory, data)
        models = [model_directory.load(directory).to(device) for directory in directories]
        names = tuple(digests.of_model(model) for model in models)
        return Teachers(models, DistillationOptions(names, weight, temperature))

    def loss(
        self, batch: Sequence[History], chosen: Tensor, vectors: Tensor, candidates: Tensor, weights: Tensor
    ) -> Tensor:
        """How far the student is from the teachers, by distillation_loss().

        chosen: a bool for each event of `batch`, users in order, oldest first. vectors [rows, dim] of the chosen ones
        and candidates [items - 1, dim] are the student's; weights [rows].
        """
        with torch.no_grad():
            teachers = [
                (self._vectors(model, batch, chosen), table) for model, table in zip(self._models, self._candidates)
            ]
        return distillation_loss(vectors, candidates, weights, teachers, self.options.temperature)

    def _vectors(self, model: SequenceModel, batch: Sequence[History], chosen: Tensor) -> Tensor:
        packed = pack(batch, model.config.window, device=model.device)
        vectors = model.normalise(model.forward_packed(packed)[packed.real[chosen]])
        if not bool(torch.isfinite(vectors).all()):
            raise FloatingPointError("a teacher's vectors of users are no numbers: its weights overflow")
        return vectors


def distillation_loss(
    vectors: Tensor, candidates: Tensor, weights: Tensor, teachers: Sequence[tuple[Tensor, Tensor]], temperature: float
) -> Tensor:
    """Σ over rows of weight · T² · KL(p ‖ softmax(vectors · candidatesᵀ / T)), p the mean of the teachers' own softmax.

    vectors [rows, dim], candidates [items, dim], weights [rows]; of each teacher the first two, in its own width. T²
    keeps the gradient's size the same for every T. As in softmax_loss(), scores [rows, items] never exist as a whole.
    """
    return _DistillationLoss.apply(vectors, candidates, weights, teachers, temperature)


class _DistillationLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        vectors: Tensor,
        candidates: Tensor,
        weights: Tensor,
        teachers: Sequence[tuple[Tensor, Tensor]],
        temperature: float,
    ) -> Tensor:
        grad_vectors = torch.empty_like(vectors)
        grad_candidates = torch.zeros_like(candidates)
        total = vectors.new_zeros(())
        chunk = chunk_rows(candidates)
        for begin in range(0, len(vectors), chunk):
            part = slice(begin, begin + chunk)
            wanted = _mean_probabilities([(theirs[part], table) for theirs, table in teachers], temperature)
            log_found = torch.log_softmax(vectors[part] @ candidates.T / temperature, 1)
            divergence = torch.xlogy(wanted, wanted).sum(1) - (wanted * log_found).sum(1)
            total += (divergence * weights[part]).sum() * temperature**2
            grad = log_found.exp_().sub_(wanted).mul_(weights[part, None] * temperature)  # of the scores
            torch.mm(grad, candidates, out=grad_vectors[part])
            grad_candidates.addmm_(grad.T, vectors[part])
        ctx.save_for_backward(grad_vectors, grad_candidates)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_vectors, grad_candidates = ctx.saved_tensors
        return grad_vectors * grad, grad_candidates * grad, None, None, None


def _mean_probabilities(teachers: Sequence[tuple[Tensor, Tensor]], temperature: float) -> Tensor:
    """[rows, items]"""
    probabilities = [torch.softmax(vectors @ table.T / temperature, 1) for vectors, table in teachers]
    return sum(probabilities[1:], probabilities[0]) / len(probabilities)
