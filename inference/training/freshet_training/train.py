"""The trainer: whole histories, Adam with cosine decay, the epoch chosen on validation, a checkpoint to go on from."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import digests, model_directory
from .augmentation import Augmentation, Augmenter
from .checkpoint import Checkpoint
from .distillation import Teachers
from .evaluation import Accuracy, Case, evaluate, held_out_cases, user_vectors
from .model import ModelConfig, SequenceModel
from .objective import Objective, ObjectiveOptions
from .packing import pack
from .sequences import History, Sequences
from .vocabulary import Vocabulary


@dataclass(frozen=True)
class TrainOptions:
    epochs: int = 16
    patience: int = 0  # epochs in a row that are no better than the best, after which training ends; 0: never
    batch_users: int = 32  # users a step, with their whole histories
    lr: float = 2e-3
    final_lr: float = 0.02  # of lr, where the cosine decay ends
    dropout: float = 0.2
    id_dropout: float = 0.0  # share of input items that become row 0, so that it learns to stand for an unknown item
    hold_out: int = 2  # newest events of each user kept from training: validation and test; or 0
    valid_users: int = 10_000  # at most so many, drawn at random, judge each epoch; the test is of all users
    seed: int = 1
    augmentations: tuple[Augmentation, ...] = ()
    objective: ObjectiveOptions = field(default_factory=ObjectiveOptions)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_users", "valid_users"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if not self.patience >= 0 or not 0 <= self.lr < math.inf:
            raise ValueError(f"patience is {self.patience}, lr {self.lr}: expected 0 or more of each")
        if not 0 <= self.dropout < 1 or not 0 <= self.id_dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, id_dropout {self.id_dropout}: expected 0 or more and below 1")


@dataclass(frozen=True)
class Saving:
    """Where a run writes, and how often what it would take to go on."""

    output: Path  # the model directory
    checkpoint: Path | None = None
    resume: bool = False  # go on from the checkpoint, if there is one
    checkpoint_minutes: float = 5.0  # and at the end of each epoch


Report = Callable[[dict[str, Any]], None]
Progress = Callable[[int, int, int], None]  # epoch, users done, users in all


def train(
    sequences: Sequences,
    config: ModelConfig,
    options: TrainOptions,
    saving: Saving,
    report: Report,
    progress: Progress = lambda *_: None,
    device: torch.device | str = "cpu",
    teachers: Teachers | None = None,
    start: SequenceModel | None = None,
    others: Sequence[History] = (),
    codes: Tensor | None = None,
) -> SequenceModel:
    """Trains a model and writes it to `saving.output` at each epoch that is the best so far (without hold-out: each).

    `start` is the model to begin with, which with hold-out is the best of epoch 0; `others` are trained on as well;
    `codes` [items, item_codes] are the items' where the model has some and none to begin with.
    Returns the best. `report` receives one record per epoch and a last one with the test's accuracy. Raises
    FloatingPointError, naming epoch and batch, where the loss is no number; what was saved before it stays.
    """
    torch.manual_seed(options.seed)
    histories = sequences.training_histories(options.hold_out)
    run = Run(sequences, config, options, saving, [*histories, *others], device, teachers, start, codes)
    if saving.checkpoint is not None:
        run.purpose = {
            "config": asdict(config),
            "options": asdict(options),
            "distillation": asdict(teachers.options) if teachers else None,
            "start": digests.of_model(start) if start else None,
            "codes": digests.of(codes) if codes is not None else None,
            "data": digests.of_export(sequences),
            "kept": digests.of_histories(others),
        }
    with _told_how_to_go_on(run):
        if saving.resume and saving.checkpoint and saving.checkpoint.exists():
            run.restore(saving.checkpoint)
        valid = draw(held_out_cases(sequences, back=2), options) if options.hold_out else []
        if start is not None and valid and not run.best.weights:
            before = evaluate(run.model, valid)
            run.best.offer(0, before, run.model)
            report({"epoch": 0, "valid": asdict(before), "best_epoch": 0})
        while run.epoch < options.epochs and not (options.patience and run.epoch - run.best.epoch >= options.patience):
            record = run.train_epoch(progress)
            started = time.monotonic()
            accuracy = evaluate(run.model, valid) if valid else None
            run.best.offer(run.epoch, accuracy, run.model)
            record["valid_seconds"] = round(time.monotonic() - started, 1)
            report({**record, **({"valid": asdict(accuracy)} if accuracy else {}), "best_epoch": run.best.epoch})
            run.save()
        run.model.load_state_dict(run.best.weights)
        distillation = {"distillation": asdict(teachers.options)} if teachers else {}
        report({**_summary(run.model, sequences, config, options, run.best.epoch), **distillation})
        return run.model


@contextmanager
def _told_how_to_go_on(run: "Run") -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if not run.saved:
            raise
        raise KeyboardInterrupt("go on with --resume") from interrupt


def draw(cases: list[Case], options: TrainOptions) -> list[Case]:
    """Those that judge an epoch."""
    order = np.random.default_rng(options.seed).permutation(len(cases))
    return [cases[index] for index in sorted(order[: options.valid_users])]


class Best:
    """Keeps the weights of the epoch with the highest validation NDCG@10, in memory and on disk."""

    def __init__(self, vocabulary: Vocabulary, output: Path) -> None:
        self.epoch = 0
        self.ndcg = -math.inf
        self.weights: dict[str, Tensor] = {}
        self._vocabulary, self._output = vocabulary, output

    def offer(self, epoch: int, accuracy: Accuracy | None, model: SequenceModel) -> None:
        if accuracy is not None and accuracy.ndcg <= self.ndcg:
            return
        self.keep(epoch, accuracy.ndcg if accuracy else -math.inf, model)

    def keep(self, epoch: int, ndcg: float, model: SequenceModel) -> None:
        self.epoch, self.ndcg = epoch, ndcg
        self.weights = {name: weight.clone() for name, weight in model.state_dict().items()}
        model_directory.save(model, self._vocabulary, self._output)


class Run:
    """A training run between two steps: all that it takes to go on, as if nothing had happened, is in a Checkpoint."""

    def __init__(
        self,
        sequences: Sequences,
        config: ModelConfig,
        options: TrainOptions,
        saving: Saving,
        histories: list[History],
        device: torch.device | str,
        teachers: Teachers | None,
        start: SequenceModel | None,
        codes: Tensor | None = None,
    ) -> None:
        self.model = SequenceModel(config, options.dropout)  # drawn on the CPU: the same everywhere
        if start is not None:
            self.model.load_state_dict(start.state_dict())
        if codes is not None:
            self.model.item_embedding.codes = codes
        self.model.to(device)
        self.best = Best(sequences.vocabulary, saving.output)
        self.epoch = 0  # that were trained whole
        self._histories, self._options, self._saving = histories, options, saving
        self.purpose: dict[str, Any] = {}  # what is trained on what: a checkpoint of another cannot be gone on from
        self._augmenter = Augmenter(options.augmentations, histories, config.items)
        self._objective = Objective(options.objective, histories, config.items, device)
        self._teachers = teachers
        self._optimizer = torch.optim.Adam(self.model.parameters(), lr=options.lr, betas=(0.9, 0.98), eps=1e-8)
        self._random = np.random.default_rng(options.seed)
        self._order = np.zeros(0, np.int64)  # of users in the epoch that is being trained; empty: it has not begun
        self._losses: list[float] = []  # of its steps so far
        self.saved = False  # whether there is a checkpoint of this run
        self._save_time = time.monotonic()

    def train_epoch(self, progress: Progress) -> dict[str, Any]:
        """Mean loss, and seconds (of this process)."""
        started = time.monotonic()
        size = self._options.batch_users
        if not len(self._order):
            self._order, self._losses = self._random.permutation(len(self._histories)), []
        while len(self._losses) * size < len(self._order):
            progress(self.epoch + 1, len(self._losses) * size, len(self._order))
            self._step(self._augmenter(self._batch(len(self._losses)), self._random))
            if time.monotonic() - self._save_time > 60 * self._saving.checkpoint_minutes:
                self._check_finite()
                self.save()
        self._check_finite()
        loss = round(float(np.mean(self._losses)), 4)
        self.epoch += 1
        self._order = np.zeros(0, np.int64)
        return {"epoch": self.epoch, "loss": loss, "train_seconds": round(time.monotonic() - started, 1)}

    def _batch(self, step: int) -> list[History]:
        size = self._options.batch_users
        return [self._histories[user] for user in self._order[step * size : (step + 1) * size]]

    def _step(self, batch: list[History]) -> None:
        self.model.train()
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate()
        loss = batch_loss(self.model, batch, self._objective, self._options.id_dropout, self._teachers)
        value = loss.item()
        if not math.isfinite(value):
            raise self._spoilt(f"batch {len(self._losses) + 1}: the loss is {value}", batch)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        self._losses.append(value)

    def _check_finite(self) -> None:
        """What the last step spoilt shows in the next one's loss: too late, where it is saved in between."""
        batch = self._batch(len(self._losses) - 1)
        numbers = [*self.model.parameters(), self.model.candidates(), user_vectors(self.model, batch)]
        if not all(bool(torch.isfinite(part).all()) for part in numbers):
            raise self._spoilt(f"after batch {len(self._losses)} the model computes no finite numbers", batch)

    def _spoilt(self, how: str, batch: list[History]) -> FloatingPointError:
        users = min(len(batch), 3)
        return FloatingPointError(
            f"epoch {self.epoch + 1}, {how}. Try a lower --lr, or look at these users' events "
            f"({users} of {len(batch)}): " + "; ".join(f"items {h.items[:5].tolist()}.." for h in batch[:users])
        )

    def _learning_rate(self) -> float:
        options = self._options
        steps = -(-len(self._histories) // options.batch_users)
        progress = (self.epoch * steps + len(self._losses)) / (steps * options.epochs)
        return options.lr * (options.final_lr + (1 - options.final_lr) * (1 + math.cos(math.pi * progress)) / 2)

    def save(self) -> None:
        self._save_time = time.monotonic()
        if self._saving.checkpoint is None:
            return
        Checkpoint(
            purpose=self.purpose,
            epoch=self.epoch,
            order=torch.from_numpy(self._order),
            losses=torch.tensor(self._losses, dtype=torch.float64),
            model=self.model.state_dict(),
            optimizer=self._optimizer.state_dict()["state"],
            best_epoch=self.best.epoch,
            best_ndcg=self.best.ndcg,
            best=self.best.weights,
            torch_random=torch.get_rng_state(),
            numpy_random=dict(self._random.bit_generator.state),
        ).save(self._saving.checkpoint)
        self.saved = True

    def restore(self, path: Path) -> None:
        checkpoint = Checkpoint.load(path)
        checkpoint.check_purpose(self.purpose, path)
        self.saved = True
        self.epoch, self._losses = checkpoint.epoch, checkpoint.losses.tolist()
        self._order = checkpoint.order.numpy()
        if checkpoint.best:  # the directory may have gone since, or hold another model
            self.model.load_state_dict(checkpoint.best)
            self.best.keep(checkpoint.best_epoch, checkpoint.best_ndcg, self.model)
        self.model.load_state_dict(checkpoint.model)
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": checkpoint.optimizer})
        torch.set_rng_state(checkpoint.torch_random)
        self._random.bit_generator.state = checkpoint.numpy_random


def batch_loss(
    model: SequenceModel,
    batch: list[History],
    objective: Objective,
    id_dropout: float = 0.0,
    teachers: Teachers | None = None,
) -> Tensor:
    """Each event predicts the user's next item, or what the history has for it; row 0 is nothing to predict."""
    packed = pack(batch, model.config.window, device=model.device)
    following = torch.roll(packed.targets, -1)
    types = torch.roll(packed.types, -1)
    predicts = torch.zeros_like(packed.items, dtype=torch.bool)
    predicts[packed.real] = True
    predicts[packed.last] = False
    predicts &= following > 0
    if id_dropout:
        packed.items[torch.rand(len(packed.items), device=model.device) < id_dropout] = 0
    vectors = model.normalise(model.forward_packed(packed)[predicts])
    candidates = model.candidates()[1:]
    loss = objective.loss(vectors, candidates, following[predicts] - 1, types[predicts])
    if teachers is None:
        return loss
    weights = objective.weights(types[predicts]).to(vectors.dtype)
    share = teachers.options.weight
    return (1 - share) * loss + share * teachers.loss(batch, predicts[packed.real], vectors, candidates, weights)


def _summary(
    model: SequenceModel, sequences: Sequences, config: ModelConfig, options: TrainOptions, epoch: int
) -> dict[str, Any]:
    test: list[Case] = held_out_cases(sequences, back=1) if options.hold_out else []
    record = {"chosen_epoch": epoch, "config": asdict(config), "options": asdict(options), "torch": torch.__version__}
    return {**record, "test": asdict(evaluate(model, test))} if test else record
