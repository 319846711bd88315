"""Leave-one-out accuracy: the held-out item among the whole catalogue, seen items removed, ties against the model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .model import SequenceModel
from .packing import pack
from .sequences import History, Sequences

_BATCH_USERS = 128
_MISSED = 1 << 30  # a rank worse than any


@dataclass(frozen=True)
class Case:
    """A history and the item that came next."""

    history: History
    target: int


@dataclass(frozen=True)
class Accuracy:
    users: int
    hr: float  # at 10
    ndcg: float  # at 10


def held_out_cases(sequences: Sequences, back: int) -> list[Case]:
    """The newest event but `back` (1: test, 2: validation) of each real user that has one and a history before it."""
    cases = []
    for user in np.flatnonzero(~sequences.synthetic).tolist():
        whole = sequences.history(user, back - 1)
        if len(whole) >= 2 and sequences.offsets[user + 1] - sequences.offsets[user] > back:
            cases.append(Case(whole.slice(0, len(whole) - 1), int(whole.items[-1])))
    return cases


def evaluate(model: SequenceModel, cases: Sequence[Case]) -> Accuracy:
    """A target that is row 0, or was seen before, cannot be recommended and counts as missed."""
    hits, gain = 0, 0.0
    for begin in range(0, len(cases), _BATCH_USERS):
        for rank in ranks(model, cases[begin : begin + _BATCH_USERS]).tolist():
            if rank < 10:
                hits, gain = hits + 1, gain + 1 / math.log2(rank + 2)
    return Accuracy(len(cases), hits / max(1, len(cases)), gain / max(1, len(cases)))


def ranks(model: SequenceModel, cases: Sequence[Case]) -> Tensor:
    """The rank of each target, from 0: how many other unseen items score as high or higher; _MISSED where seen."""
    scores = score_unseen(model, [case.history for case in cases])
    targets = torch.tensor([case.target for case in cases], device=model.device)
    wanted = scores.gather(1, targets[:, None])
    better = (scores >= wanted).sum(1) - 1
    return torch.where(torch.isinf(wanted[:, 0]), torch.full_like(better, _MISSED), better)


def check_scores(scores: Tensor) -> None:
    """Raises FloatingPointError where a model of huge weights computed none."""
    if not bool(torch.isfinite(scores).all()):
        raise FloatingPointError("scores of items are no numbers: the model's weights overflow")


def user_vectors(model: SequenceModel, histories: Sequence[History]) -> Tensor:
    """After each history's newest event: [users, dim]. Only the events that count are computed."""
    model.eval()
    config = model.config
    packed = pack([history.newest(config.exact_history) for history in histories], config.window, device=model.device)
    with torch.no_grad():
        return model.normalise(model.forward_packed(packed)[packed.last])


def score_unseen(model: SequenceModel, histories: Sequence[History]) -> Tensor:
    """[users, items]; minus infinity for row 0 and for what is in the user's history."""
    vectors = user_vectors(model, histories)
    with torch.no_grad():
        scores = vectors @ model.candidates().T
    check_scores(scores)
    scores[:, 0] = -math.inf
    users = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    seen = np.concatenate([history.items for history in histories]).astype(np.int64)
    scores[torch.from_numpy(users), torch.from_numpy(seen)] = -math.inf
    return scores
