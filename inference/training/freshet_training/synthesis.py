"""Users that never were: histories drawn from a model, event by event, with times and types as they were observed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .evaluation import check_scores, user_vectors
from .model import SequenceModel
from .sequences import MOST_TIME, History, Ints

_BATCH_USERS = 256

Progress = Callable[[int, int], None]  # events drawn, of so many


@dataclass(frozen=True)
class SynthesisOptions:
    users: int
    temperature: float = 1.0  # divides the scores; below 1: nearer to what the model ranks first
    top_p: float = 1.0  # draws among the best items that together have this probability
    repeats: bool = True  # an item may come again to a user
    max_events: int = 100  # of a user
    seed: int = 1

    def __post_init__(self) -> None:
        if self.users < 1 or self.max_events < 1:
            raise ValueError(f"{self.users} users of at most {self.max_events} events: expected 1 or more of each")
        if not 0 < self.temperature < float("inf") or not 0 < self.top_p <= 1:
            raise ValueError(
                f"temperature {self.temperature:g}, top-p {self.top_p:g}: expected above 0, and top-p at most 1"
            )


def synthesize(
    model: SequenceModel, observed: Sequence[History], options: SynthesisOptions, progress: Progress = lambda *_: None
) -> list[History]:
    """Draws from the model what item follows; everything else from `observed`, which should be the events trained on.

    A user's first event, as a whole, and number of events are each those of some observed user; a gap in time is that
    between two events of anybody, 0 where it ran backwards; an event's type is that of another event of the item.
    """
    random = np.random.default_rng(options.seed)
    draw = _Observed(observed, random)
    lengths = np.minimum(draw.lengths(options.users), options.max_events)
    if not options.repeats:
        lengths = np.minimum(lengths, model.config.items - 1)
    shape = options.users, int(lengths.max())
    items, types, times = np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape, np.int64)
    items[:, 0], types[:, 0], times[:, 0] = draw.firsts(options.users)
    for event in range(1, shape[1]):
        progress(int(np.minimum(lengths, event).sum()), int(lengths.sum()))
        (longer,) = np.nonzero(lengths > event)
        for part in np.array_split(longer, -(-len(longer) // _BATCH_USERS)):
            histories = [History(items[user, :event], types[user, :event], times[user, :event]) for user in part]
            scores = _scores(model, histories)
            if not options.repeats:
                np.put_along_axis(scores, items[part, :event].astype(np.int64), -np.inf, axis=1)
            items[part, event] = sample(scores, options.temperature, options.top_p, random)
            types[part, event] = draw.types(items[part, event])
            times[part, event] = np.minimum(times[part, event - 1] + draw.gaps(len(part)), MOST_TIME)
    return [History(items[user, :n], types[user, :n], times[user, :n]) for user, n in enumerate(lengths)]


def _scores(model: SequenceModel, histories: Sequence[History]) -> npt.NDArray[np.float64]:
    """[users, items]; minus infinity for row 0, unknown."""
    scores = user_vectors(model, histories) @ model.candidates().detach().T
    check_scores(scores)
    scores[:, 0] = -np.inf
    return scores.double().cpu().numpy()


def sample(
    scores: npt.NDArray[np.float64], temperature: float, top_p: float, random: np.random.Generator
) -> npt.NDArray[np.int32]:
    """A column for each row, by softmax(scores / temperature) among the fewest best that have `top_p` of it together.

    REQUIRES: a finite score in each row.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    best = np.take_along_axis(scores, order, 1)
    shares = np.exp((best - best[:, :1]) / temperature)
    shares /= shares.sum(1, keepdims=True)
    before = np.cumsum(shares, axis=1) - shares
    shares[before >= top_p] = 0
    until = np.cumsum(shares, axis=1)
    drawn = (until <= random.random((len(scores), 1)) * until[:, -1:]).sum(1, keepdims=True)
    return np.take_along_axis(order, drawn, 1)[:, 0].astype(np.int32)


class _Observed:
    """Draws, evenly, from what was seen."""

    def __init__(self, histories: Sequence[History], random: np.random.Generator) -> None:
        """Raises ValueError where nothing was seen to begin with, or no gap."""
        self._random = random
        known = [history for history in histories if len(history) and history.items[0] > 0]
        gaps = [np.diff(history.times) for history in histories if len(history) > 1]
        if not known or not gaps:
            raise ValueError("no user with two events and a known first item to draw from")
        self._lengths = np.array([len(history) for history in known])
        self._firsts = np.array([(h.items[0], h.types[0], h.times[0]) for h in known], np.int64)
        self._gaps = np.maximum(0, np.concatenate(gaps))
        items, types = (
            np.concatenate([getattr(history, name) for history in histories]) for name in ("items", "types")
        )
        order = np.argsort(items, kind="stable")
        self._items, self._types = items[order], types[order]

    def lengths(self, count: int) -> Ints:
        return self._random.choice(self._lengths, count)

    def firsts(self, count: int) -> Ints:
        """[3, count] items, types, times"""
        return self._random.choice(self._firsts, count).T

    def gaps(self, count: int) -> Ints:
        return self._random.choice(self._gaps, count)

    def types(self, items: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Of any event, where there is none of the item."""
        begin, end = np.searchsorted(self._items, items, "left"), np.searchsorted(self._items, items, "right")
        begin, end = np.where(begin < end, begin, 0), np.where(begin < end, end, len(self._items))
        return self._types[begin + (self._random.random(len(items)) * (end - begin)).astype(np.int64)]
