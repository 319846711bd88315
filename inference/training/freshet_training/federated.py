"""Federated averaging (McMahan et al. 2017): one model of several logs that stay where they are.

In a round each log's holder trains the common model on its own log alone; what leaves it are the weights, the number of
its events, and its accuracy. The new common model is the mean, weighted by events. Here the holders are one process.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial, reduce
from pathlib import Path

import torch
from torch import Tensor

from .evaluation import Accuracy, evaluate, held_out_cases
from .model import ModelConfig, SequenceModel
from .sequences import Sequences
from .train import Best, Progress, Report, Run, Saving, TrainOptions, draw
from .vocabulary import Vocabulary


def common_vocabulary(logs: Sequence[Sequences]) -> Vocabulary:
    """Of all logs, by name: all that they tell one another before the first round."""
    return reduce(Vocabulary.grown_by, (log.vocabulary for log in logs))


def train_federated(
    logs: Sequence[Sequences],
    config: ModelConfig,
    options: TrainOptions,
    rounds: int,
    output: Path,
    report: Report,
    progress: Progress = lambda *_: None,
    device: torch.device | str = "cpu",
) -> SequenceModel:
    """`rounds` rounds of `options.epochs` epochs on each log. The best round's model is written, as by train().

    The rate falls along a cosine from round to round and stands still within one. REQUIRES: `logs` of one vocabulary,
    that of `config`. Raises ValueError where a log has nothing to train on.
    """
    histories = [log.training_histories(options.hold_out) for log in logs]
    shares = [sum(map(len, part)) for part in histories]
    torch.manual_seed(options.seed)
    model = SequenceModel(config).to(device)
    best = Best(logs[0].vocabulary, output)
    for number in range(1, rounds + 1):
        started = time.monotonic()
        local = replace(options, lr=_rate(options, number, rounds), final_lr=1.0)
        weights, losses, told = [], [], partial(_of_round, progress, number)
        for holder, (log, part) in enumerate(zip(logs, histories)):
            own = replace(local, seed=options.seed + number * len(logs) + holder)
            run = Run(log, config, own, Saving(output), part, device, None, model)
            losses += [run.train_epoch(told)["loss"] for _ in range(options.epochs)]
            weights.append(run.model.state_dict())
        model.load_state_dict(average(weights, shares))
        record = {"epoch": number, "loss": sum(losses) / len(losses), "train_seconds": _seconds(started)}
        started = time.monotonic()
        accuracy = _accuracy(model, logs, options, back=2) if options.hold_out else None
        best.offer(number, accuracy, model)
        valid = {"valid": asdict(accuracy)} if accuracy else {}
        report({**record, **valid, "valid_seconds": _seconds(started), "best_epoch": best.epoch})
    model.load_state_dict(best.weights)
    test = {"test": asdict(_accuracy(model, logs, options, back=1))} if options.hold_out else {}
    report({"chosen_epoch": best.epoch, "config": asdict(config), "options": asdict(options), **test})
    return model


def average(weights: Sequence[Mapping[str, Tensor]], shares: Sequence[float]) -> dict[str, Tensor]:
    """The mean of models of the same sizes, weighted by `shares`."""
    parts = [share / sum(shares) for share in shares]
    names = weights[0].keys()
    return {name: torch.stack([part * model[name] for part, model in zip(parts, weights)]).sum(0) for name in names}


def _of_round(progress: Progress, number: int, _: int, done: int, users: int) -> None:
    progress(number, done, users)


def _rate(options: TrainOptions, number: int, rounds: int) -> float:
    return options.lr * (
        options.final_lr + (1 - options.final_lr) * (1 + math.cos(math.pi * (number - 1) / rounds)) / 2
    )


def _accuracy(model: SequenceModel, logs: Sequence[Sequences], options: TrainOptions, back: int) -> Accuracy:
    """Over the users of all logs, each log judged where it is."""
    cases = [held_out_cases(log, back) for log in logs]
    found = [evaluate(model, draw(part, options) if back == 2 else part) for part in cases]
    users = sum(accuracy.users for accuracy in found)
    mean = [sum(a.users * getattr(a, name) for a in found) / max(1, users) for name in ("hr", "ndcg")]
    return Accuracy(users, *mean)


def _seconds(started: float) -> float:
    return round(time.monotonic() - started, 1)
