"""Reads what `freshet export` writes: each user's events in log order, as rows of the vocabulary."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from . import safetensors
from .vocabulary import Vocabulary, rows_of

Ints = npt.NDArray[np.int64]

# Of times in seconds: milliseconds, as the engine has them, are of 64 bits. The difference of two fits as well.
LEAST_TIME, MOST_TIME = -(2**63) // 1000, (2**63 - 1) // 1000

_DTYPES = {"offsets": np.int64, "items": np.int32, "types": np.int32, "times": np.int64}


@dataclass(frozen=True)
class History:
    """Some events of one user, oldest first; the three arrays are of one length."""

    items: npt.NDArray[np.int32]
    types: npt.NDArray[np.int32]
    times: Ints  # whole seconds
    targets: npt.NDArray[np.int32] | None = None  # what the event before each is to predict, 0: nothing; None: `items`

    def __len__(self) -> int:
        return len(self.items)

    @property
    def wanted(self) -> npt.NDArray[np.int32]:
        return self.items if self.targets is None else self.targets

    def newest(self, events: int) -> "History":
        return self.slice(max(0, len(self) - events), len(self))

    def slice(self, begin: int, end: int) -> "History":
        targets = None if self.targets is None else self.targets[begin:end]
        return History(self.items[begin:end], self.types[begin:end], self.times[begin:end], targets)


@dataclass(frozen=True)
class Sequences:
    """An export directory in memory."""

    directory: Path
    offsets: Ints  # [users + 1]
    events: History  # of all users, end to end
    vocabulary: Vocabulary
    made_up: npt.NDArray[np.bool_] | None = None  # [users], by `synthesize`; None: nobody is

    @property
    def items(self) -> int:
        """Rows of the vocabulary, row 0 included."""
        return len(self.vocabulary.items)

    @property
    def event_types(self) -> int:
        return len(self.vocabulary.event_types)

    @property
    def users(self) -> int:
        return len(self.offsets) - 1

    @property
    def synthetic(self) -> npt.NDArray[np.bool_]:
        """[users] Whom to train on whole, and never to judge by."""
        return np.zeros(self.users, np.bool_) if self.made_up is None else self.made_up

    def history(self, user: int, hold_out: int = 0) -> History:
        """The user's events without the newest `hold_out`; may be empty."""
        begin, end = int(self.offsets[user]), int(self.offsets[user + 1])
        return self.events.slice(begin, max(begin, end - hold_out))

    def histories(self, hold_out: int, at_least: int) -> list[History]:
        """Of all users, without the newest `hold_out` events (of synthetic ones with all).

        Those with fewer than `at_least` left are left out.
        """
        every = (self.history(user, 0 if whole else hold_out) for user, whole in enumerate(self.synthetic.tolist()))
        return [history for history in every if len(history) >= at_least]

    def training_histories(self, hold_out: int) -> list[History]:
        """histories() of those that teach something. Raises ValueError where nothing does."""
        if self.items < 2:
            raise ValueError(f"{self.directory}: items.tsv has no item but [unknown], nothing to train on")
        histories = self.histories(hold_out, at_least=2)
        if not histories:
            raise ValueError(f"{self.directory}: no user has {hold_out + 2} events or more, nothing to train on")
        if not any(history.items[1:].any() for history in histories):
            raise ValueError(f"{self.directory}: all items to train on are unknown (row 0), expected known ones")
        return histories

    def translated(self, vocabulary: Vocabulary) -> "Sequences":
        """The same events in rows of another vocabulary, by name; what that does not know becomes row 0."""
        items = rows_of(self.vocabulary.items, vocabulary.items)[self.events.items]
        types = rows_of(self.vocabulary.event_types, vocabulary.event_types)[self.events.types]
        return replace(self, events=History(items, types, self.events.times), vocabulary=vocabulary)


def load(directory: Path) -> Sequences:
    """Raises ValueError, naming file and tensor, where the directory is no export."""
    path = directory / "sequences.safetensors"
    tensors = safetensors.load(path)
    for name, dtype in _DTYPES.items():
        if name not in tensors or tensors[name].dtype != dtype or tensors[name].ndim != 1:
            raise ValueError(f"{path}: expected a vector `{name}` of {np.dtype(dtype).name}")
    offsets = tensors["offsets"]
    events = History(tensors["items"], tensors["types"], tensors["times"])
    if len(offsets) < 1 or offsets[0] != 0 or offsets[-1] != len(events) or (offsets[1:] < offsets[:-1]).any():
        raise ValueError(f"{path}: offsets must rise from 0 to {len(events)}, the number of events")
    vocabulary = Vocabulary.load(directory)
    rows = (len(vocabulary.items), len(vocabulary.event_types))
    for values, limit, name in ((events.items, rows[0], "items"), (events.types, rows[1], "types")):
        if len(values) != len(events) or (len(values) and not 0 <= values.min() <= values.max() < limit):
            raise ValueError(f"{path}: {name} must be {len(events)} rows from 0 to {limit - 1}, as its .tsv says")
    times = events.times
    if len(times) != len(events) or (len(times) and not LEAST_TIME <= times.min() <= times.max() <= MOST_TIME):
        raise ValueError(f"{path}: times must be {len(events)} whole seconds from {LEAST_TIME} to {MOST_TIME}")
    made_up = tensors.get("synthetic")
    if made_up is not None and (made_up.shape != (len(offsets) - 1,) or made_up.dtype != np.int32):
        raise ValueError(f"{path}: expected a vector `synthetic` of int32, one for each of {len(offsets) - 1} users")
    return Sequences(directory, offsets, events, vocabulary, None if made_up is None else made_up != 0)
