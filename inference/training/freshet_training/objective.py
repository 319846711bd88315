"""What a training step makes small: a loss, the items it compares the target with, and what each event counts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .loss import softmax_loss
from .sampled_loss import gbce_beta, gbce_loss, sampled_softmax_loss
from .sequences import History

LOSSES = ("full", "sampled", "in-batch", "gbce")
SAMPLERS = ("uniform", "popularity")


@dataclass(frozen=True)
class ObjectiveOptions:
    loss: str = "full"
    negatives: int = 1024  # items a step, drawn with replacement and shared by its rows: of sampled and gbce
    sampler: str = "uniform"
    logq: bool = True  # subtract the logarithm of how often a negative was to be expected: of sampled and in-batch
    gbce_calibration: float = 0.75  # t; 0: plain binary cross-entropy
    type_weights: tuple[float, ...] = ()  # by row of event_types.tsv, of the event to predict; rows beyond it count 1

    def __post_init__(self) -> None:
        if self.loss not in LOSSES or self.sampler not in SAMPLERS:
            raise ValueError(f"loss {self.loss!r}, sampler {self.sampler!r}: expected {LOSSES}, {SAMPLERS}")
        if self.negatives < 1:
            raise ValueError(f"negatives is {self.negatives}, expected 1 or more")
        if any(not 0 <= weight < float("inf") for weight in self.type_weights):
            raise ValueError(f"weights of event types are {self.type_weights}, expected numbers from 0 on")


class Objective:
    """Draws from PyTorch's global generator, so that a checkpoint of that is one of this."""

    def __init__(
        self, options: ObjectiveOptions, histories: Sequence[History], items: int, device: torch.device | str = "cpu"
    ) -> None:
        """`items` rows of the table, row 0 included; `histories` are those trained on."""
        self._options = options
        counts = sum((np.bincount(history.items[1:], minlength=items) for history in histories), np.zeros(items))
        # One for each item, so that none of them is never drawn.
        shares = torch.from_numpy(counts[1:] + 1 if options.sampler == "popularity" else np.ones(items - 1))
        self._shares = (shares / shares.sum()).float().to(device)
        in_log = torch.from_numpy(counts[1:] + 1).to(device)
        self._log_others = torch.log1p(-(in_log / in_log.sum()).clamp(max=1 - 1e-9))
        self._type_weights = torch.tensor(options.type_weights or (1.0,), dtype=torch.float64, device=device)

    def loss(self, vectors: Tensor, candidates: Tensor, targets: Tensor, types: Tensor) -> Tensor:
        """A scalar, weighted mean over rows.

        vectors [rows, dim]; candidates [items - 1, dim], row 0 left out; targets [rows] of these; types [rows], the
        event types of the targets.
        """
        weights = self.weights(types).to(vectors.dtype)
        options = self._options
        if options.loss == "full":
            return softmax_loss(vectors, candidates, targets, weights)
        if options.loss == "in-batch":
            negatives = torch.unique(targets)
            log_expected = torch.log(-torch.expm1(self._log_others[negatives] * len(targets)))
        else:
            negatives = torch.multinomial(self._shares, options.negatives, replacement=True)
            log_expected = torch.log(self._shares[negatives] * options.negatives)
        if options.loss == "gbce":
            beta = gbce_beta(len(candidates), options.negatives, options.gbce_calibration)
            return gbce_loss(vectors, candidates, targets, weights, negatives, beta)
        log_expected = log_expected.to(vectors.dtype) if options.logq else torch.zeros_like(vectors[:1, 0])
        return sampled_softmax_loss(vectors, candidates, targets, weights, negatives, log_expected)

    def weights(self, types: Tensor) -> Tensor:
        """What events to predict count, by their types: they sum to 1, or are all 0."""
        known = types.clamp(max=len(self._type_weights) - 1)
        beyond = types >= len(self._type_weights)
        weights = torch.where(beyond, torch.ones_like(self._type_weights[:1]), self._type_weights[known])
        return weights / weights.sum().clamp(min=1e-30)
