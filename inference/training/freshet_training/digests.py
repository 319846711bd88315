"""Short names of contents: what a checkpoint remembers of the data and models that it is of."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from .exports import joined
from .model import SequenceModel
from .sequences import History, Sequences

_COLUMNS = ("items", "types", "times")


def of(*parts: Tensor | npt.NDArray[Any] | bytes) -> str:
    """Tells them from others, also from the same numbers in other shapes."""
    sha = hashlib.sha256()
    for part in parts:
        whole = np.frombuffer(part, np.uint8) if isinstance(part, bytes) else part
        array = whole.detach().cpu().numpy() if isinstance(whole, Tensor) else whole
        sha.update(f"{array.dtype}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return f"sha256:{sha.hexdigest()[:16]}"


def of_model(model: SequenceModel) -> str:
    weights = model.state_dict()
    return of(json.dumps([asdict(model.config), list(weights)]).encode(), *weights.values())


def of_export(data: Sequences) -> dict[str, str]:
    """Of each part: events that are held out from training count as well, as they choose the epoch."""
    parts = {name: of(content) for name, content in data.vocabulary.files().items()}
    columns = {name: of(getattr(data.events, name)) for name in _COLUMNS}
    return {**parts, **columns, "offsets": of(data.offsets), "synthetic": of(data.synthetic)}


def of_histories(histories: Sequence[History]) -> str | None:
    if not histories:
        return None
    offsets, events = joined(histories)
    return of(offsets, *(getattr(events, name) for name in _COLUMNS))
