"""Writes what `freshet export` writes, for sequences that were changed or made here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import safetensors, vocabulary
from .files import Write, replace
from .sequences import History, Ints, Sequences


@dataclass(frozen=True)
class Names:
    """By row; row 0 of items and types is [unknown], of users the first user."""

    items: list[str]
    types: list[str]
    users: list[str]


def names(data: Sequences) -> Names:
    """Of an export; one without users.tsv calls its users by their row. Raises ValueError where it is of others."""
    path = data.directory / "users.tsv"
    users = vocabulary.read(path) if path.exists() else [str(row) for row in range(data.users)]
    if len(users) != data.users:
        raise ValueError(f"{path}: {len(users)} users, expected {data.users} as in sequences.safetensors")
    return Names(data.vocabulary.items, data.vocabulary.event_types, users)


def joined(histories: Sequence[History]) -> tuple[Ints, History]:
    """Offsets, and events end to end."""
    columns = ([getattr(history, name) for history in histories] for name in ("items", "types", "times"))
    lengths = [len(history) for history in histories]
    return np.cumsum([0, *lengths]), History(*(np.concatenate(column) for column in columns))


def write(
    directory: Path, offsets: Ints, events: History, names: Names, synthetic: npt.NDArray[np.bool_] | None = None
) -> None:
    """All four files, or none; `synthetic` [users] marks those that were made up."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, npt.NDArray[Any]] = {
        "offsets": offsets.astype(np.int64),
        "items": events.items.astype(np.int32),
        "types": events.types.astype(np.int32),
        "times": events.times.astype(np.int64),
    }
    if synthetic is not None and synthetic.any():
        tensors["synthetic"] = synthetic.astype(np.int32)
    writes: dict[Path, Write] = {directory / "sequences.safetensors": lambda new: safetensors.save(new, tensors)}
    for name, rows in (("items.tsv", names.items), ("event_types.tsv", names.types), ("users.tsv", names.users)):
        writes[directory / name] = lambda new, rows=rows: new.write_bytes(vocabulary.lines(rows))  # type: ignore[misc]
    replace(writes)
