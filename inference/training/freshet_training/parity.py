"""What this model says of some users, written down so that another implementation can be held against it."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .evaluation import check_scores
from .files import replace
from .model import SequenceModel
from .sequences import History, Sequences

_TOP = 10


def write(model: SequenceModel, sequences: Sequences, users: int, path: Path) -> None:
    """For the first `users`: the vector after their newest event, and the ten best unseen rows, best first.

    The vector is computed densely over the whole history, so it takes memory by the square of its length.
    """
    model.eval()
    rows = (user for user in range(sequences.users) if len(sequences.history(user)))
    records = [_record(model, user, sequences.history(user)) for user, _ in zip(rows, range(users))]
    text = json.dumps({"model": asdict(model.config), "users": records}) + "\n"
    replace({path: lambda new: new.write_text(text, encoding="utf-8")})


def _record(model: SequenceModel, user: int, history: History) -> dict[str, Any]:
    columns = (torch.from_numpy(column).long() for column in (history.items, history.types, history.times))
    with torch.no_grad():
        vector = model(*columns)[-1]
        scores = model.candidates() @ vector
    check_scores(scores)
    scores[0] = -math.inf
    scores[torch.from_numpy(history.items).long()] = -math.inf
    top = _best_rows(scores)
    return {
        "user": user,
        "events": len(history),
        "user_vector": vector.tolist(),
        "top": [{"row": row, "score": scores[row].item()} for row in top],
    }


def _best_rows(scores: Tensor) -> list[int]:
    """Higher score first, ties by lower row."""
    order = torch.sort(scores, descending=True, stable=True).indices[:_TOP]
    return [row for row in order.tolist() if not math.isinf(scores[row].item())]
