"""The trainer: full softmax, whole histories, Adam with cosine decay, the epoch chosen on validation."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import model_directory
from .evaluation import Accuracy, Case, evaluate, held_out_cases
from .loss import softmax_loss
from .model import Hstu, ModelConfig
from .packing import pack
from .sequences import History, Sequences


@dataclass(frozen=True)
class TrainOptions:
    epochs: int = 16
    batch_users: int = 32  # users a step, with their whole histories
    lr: float = 2e-3
    final_lr: float = 0.02  # of lr, where the cosine decay ends
    dropout: float = 0.2
    id_dropout: float = 0.0  # share of input items that become row 0, so that it learns to stand for an unknown item
    hold_out: int = 2  # newest events of each user kept from training: validation and test; or 0
    valid_users: int = 10_000  # at most so many, drawn at random, judge each epoch; the test is of all users
    seed: int = 1


Report = Callable[[dict[str, Any]], None]


def train(sequences: Sequences, config: ModelConfig, options: TrainOptions, output: Path, report: Report) -> Hstu:
    """Trains a model and writes it to `output` whenever an epoch is the best so far (without hold-out: each one).

    Returns the best. `report` receives one record per epoch and a last one with the test's accuracy.
    """
    torch.manual_seed(options.seed)
    model = Hstu(config, options.dropout)
    histories = sequences.histories(options.hold_out, at_least=2)
    if not histories:
        raise ValueError(
            f"{sequences.directory}: no user has {options.hold_out + 2} events or more, nothing to train on"
        )
    valid = _draw(held_out_cases(sequences, back=2), options) if options.hold_out else []
    best = Best(model, sequences.directory, output)
    for epoch, loss in enumerate(_epochs(model, histories, options), 1):
        started = time.monotonic()
        accuracy = evaluate(model, valid) if valid else None
        best.offer(epoch, accuracy)
        record = {"epoch": epoch, **loss, "valid_seconds": round(time.monotonic() - started, 1)}
        report({**record, **({"valid": asdict(accuracy)} if accuracy else {}), "best_epoch": best.epoch})
    best.restore()
    report(_summary(model, sequences, config, options, best.epoch))
    return model


def _draw(cases: list[Case], options: TrainOptions) -> list[Case]:
    order = np.random.default_rng(options.seed).permutation(len(cases))
    return [cases[index] for index in sorted(order[: options.valid_users])]


class Best:
    """Keeps the weights of the epoch with the highest validation NDCG@10, in memory and on disk."""

    def __init__(self, model: Hstu, vocabulary_from: Path, output: Path) -> None:
        self.epoch = 0
        self._model, self._vocabulary_from, self._output = model, vocabulary_from, output
        self._ndcg = -math.inf
        self._weights: dict[str, Tensor] = {}

    def offer(self, epoch: int, accuracy: Accuracy | None) -> None:
        if accuracy is not None and accuracy.ndcg <= self._ndcg:
            return
        self.epoch, self._ndcg = epoch, accuracy.ndcg if accuracy else -math.inf
        self._weights = {name: weight.clone() for name, weight in self._model.state_dict().items()}
        model_directory.save(self._model, self._vocabulary_from, self._output)

    def restore(self) -> None:
        self._model.load_state_dict(self._weights)


def _epochs(model: Hstu, histories: list[History], options: TrainOptions) -> Iterator[dict[str, float]]:
    """Trains epoch by epoch; yields each one's mean loss and seconds."""
    random = np.random.default_rng(options.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=options.lr, betas=(0.9, 0.98), eps=1e-8)
    steps = -(-len(histories) // options.batch_users)
    done = 0
    for _ in range(options.epochs):
        started = time.monotonic()
        losses = []
        order = random.permutation(len(histories))
        for begin in range(0, len(order), options.batch_users):
            batch = [histories[user] for user in order[begin : begin + options.batch_users]]
            for group in optimizer.param_groups:
                group["lr"] = _learning_rate(options, done / (steps * options.epochs))
            losses.append(_step(model, optimizer, batch, options.id_dropout))
            done += 1
        yield {"loss": round(float(np.mean(losses)), 4), "train_seconds": round(time.monotonic() - started, 1)}


def _learning_rate(options: TrainOptions, progress: float) -> float:
    return options.lr * (options.final_lr + (1 - options.final_lr) * (1 + math.cos(math.pi * progress)) / 2)


def _step(model: Hstu, optimizer: torch.optim.Optimizer, batch: list[History], id_dropout: float) -> float:
    """One step of the optimizer on `batch`; its mean loss."""
    model.train()
    loss = batch_loss(model, batch, id_dropout)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.item()


def batch_loss(model: Hstu, batch: list[History], id_dropout: float = 0.0) -> Tensor:
    """Each event predicts the user's next item; an unknown item (row 0) is nothing to predict."""
    packed = pack(batch, model.config.window)
    following = torch.roll(packed.items, -1)
    predicts = torch.zeros(len(packed.items), dtype=torch.bool)
    predicts[packed.real] = True
    predicts[packed.last] = False
    predicts &= following > 0
    if id_dropout:
        packed.items[torch.rand(len(packed.items)) < id_dropout] = 0
    vectors = model.normalise(model.forward_packed(packed)[predicts])
    return softmax_loss(vectors, model.candidates()[1:], following[predicts] - 1)


def _summary(
    model: Hstu, sequences: Sequences, config: ModelConfig, options: TrainOptions, epoch: int
) -> dict[str, Any]:
    test: list[Case] = held_out_cases(sequences, back=1) if options.hold_out else []
    record = {"chosen_epoch": epoch, "config": asdict(config), "options": asdict(options), "torch": torch.__version__}
    return {**record, "test": asdict(evaluate(model, test))} if test else record
