"""Augmentation of training histories: what a user could as well have done.

Each function takes a history of two events or more, draws from the generator, and returns a new history; the one it
was given stays as it is. Item and type of an event stay together. Times that never fell do not fall afterwards. An
event that is made up is an input and never a target: `History.targets` keeps what the event before it is to predict.

Sources: crop, mask and reorder are those of CL4SRec (Xie et al. 2022), substitute and insert those of CoSeRec (Liu et
al. 2021); both use them to make views for a contrastive loss, here they change the sequences of the next-item loss.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .sequences import LEAST_TIME, MOST_TIME, History, Ints

Items = npt.NDArray[np.int32]

NEIGHBOURS = 5  # kept of each item
_REACH = 5  # events apart, at most, that count as together


def crop(history: History, random: np.random.Generator, share: float) -> History:
    """A stretch of `share` of the events (two at least) that begins anywhere; all of them are real, and targets."""
    kept = _count(share, len(history), at_least=2)
    begin = int(random.integers(len(history) - kept + 1))
    return history.slice(begin, begin + kept)


def mask(history: History, random: np.random.Generator, share: float) -> History:
    """`share` of the items (one at least) become row 0, unknown, as inputs; what they were stays the target."""
    items = history.items.copy()
    items[_positions(history, random, share)] = 0
    return replace(history, items=items, targets=history.wanted)


def reorder(history: History, random: np.random.Generator, share: float) -> History:
    """A stretch of `share` of the events (two at least) is shuffled; times stay where they were.

    Targets move along: were the old order still the target, an event could be asked for after it was an input.
    """
    length = _count(share, len(history), at_least=2)
    begin = int(random.integers(len(history) - length + 1))
    order = np.arange(len(history))
    order[begin : begin + length] = begin + random.permutation(length)
    targets = None if history.targets is None else history.targets[order]
    return replace(history, items=history.items[order], types=history.types[order], targets=targets)


def substitute(history: History, random: np.random.Generator, share: float, neighbours: Items) -> History:
    """`share` of the items (one at least) become one of their neighbours as inputs; what they were stays the target."""
    positions = _positions(history, random, share)
    items = history.items.copy()
    drawn = _draw(neighbours, items[positions], random)
    items[positions] = np.where(drawn > 0, drawn, items[positions])
    return replace(history, items=items, targets=history.wanted)


def insert(history: History, random: np.random.Generator, share: float, neighbours: Items) -> History:
    """Behind `share` of the events (one at least, the newest never) comes a neighbour of theirs, which is no target.

    It is of the same type, at a time between this event's and the next one's. CoSeRec puts a neighbour of an item
    before it, which tells the model what comes; here nothing is made of an event before that event.
    """
    positions = _positions(history, random, share, of=len(history) - 1)
    drawn = _draw(neighbours, history.items[positions], random)
    at_share = random.random(len(positions))
    positions, drawn, at_share = positions[drawn > 0], drawn[drawn > 0], at_share[drawn > 0]
    gaps = np.maximum(0, history.times[positions + 1] - history.times[positions])
    times = history.times[positions] + (at_share * gaps).astype(np.int64)
    return History(
        items=np.insert(history.items, positions + 1, drawn),
        types=np.insert(history.types, positions + 1, history.types[positions]),
        times=np.insert(history.times, positions + 1, times),
        targets=np.insert(history.wanted, positions + 1, 0),
    )


def noise(history: History, random: np.random.Generator, share: float, jitter: float, items: int) -> History:
    """Each item becomes any other with probability `share` as an input; what it was stays the target.

    Each gap between two events is stretched by exp(jitter · z), z normal, from the first event's time on. `items` rows
    of the vocabulary. Times stay among those that an export may hold.
    """
    strange = random.integers(min(1, items - 1), items, len(history))
    noisy = np.where(random.random(len(history)) < share, strange, history.items).astype(np.int32)
    gaps = np.diff(history.times) * np.exp(jitter * random.standard_normal(len(history) - 1))
    since = np.clip(np.cumsum(np.rint(gaps)), LEAST_TIME - MOST_TIME, MOST_TIME - LEAST_TIME).astype(np.int64)
    times = np.concatenate([history.times[:1], np.clip(history.times[0] + since, LEAST_TIME, MOST_TIME)])
    return replace(history, items=noisy, times=times, targets=history.wanted)


def windows(history: History, random: np.random.Generator, length: int, stride: int) -> list[History]:
    """Pieces of up to `length` events, the next `stride` later; the first cut is drawn. REQUIRES: stride < length.

    A history that is no longer than `length` stays whole. An event where pieces overlap is a target in each, save where
    it is the first of one.
    """
    if len(history) <= length:
        return [history]
    begins = range(-int(random.integers(stride)), len(history) - length + stride, stride)
    pieces = [history.slice(max(0, begin), min(begin + length, len(history))) for begin in begins]
    return [piece for piece in pieces if len(piece) >= 2]


def neighbours(histories: Sequence[History], items: int) -> Items:
    """The NEIGHBOURS items that are most often near each item: [items, NEIGHBOURS] rows, best first, 0 for none.

    Near: at most _REACH events apart in a history. Ranked by the cosine, pairs / √(n · n'), where n counts how often an
    item is in a pair; row 0 has no neighbours.
    """
    keys = [np.zeros(0, np.int64)]
    for distance in range(1, _REACH + 1):
        first = np.concatenate([history.items[:-distance] for history in histories]).astype(np.int64)
        second = np.concatenate([history.items[distance:] for history in histories]).astype(np.int64)
        real = (first > 0) & (second > 0) & (first != second)
        low, high = np.minimum(first[real], second[real]), np.maximum(first[real], second[real])
        keys.append(low * items + high)
    pairs, counts = np.unique(np.concatenate(keys), return_counts=True)
    item, other = np.concatenate([pairs // items, pairs % items]), np.concatenate([pairs % items, pairs // items])
    counts = np.concatenate([counts, counts])
    total = np.bincount(item, counts, minlength=items)
    cosine = counts / np.sqrt(total[item] * total[other])
    order = np.lexsort((other, -cosine, item))
    item, other = item[order], other[order]
    rank = np.arange(len(item)) - np.searchsorted(item, item)
    best = np.zeros((items, NEIGHBOURS), np.int32)
    best[item[rank < NEIGHBOURS], rank[rank < NEIGHBOURS]] = other[rank < NEIGHBOURS]
    return best


def _count(share: float, events: int, at_least: int) -> int:
    return min(events, max(at_least, int(share * events)))


def _positions(history: History, random: np.random.Generator, share: float, of: int | None = None) -> Ints:
    """`share` of the first `of` events (all unless given), one at least, in order."""
    events = len(history) if of is None else of
    return np.sort(random.permutation(events)[: _count(share, events, at_least=1)])


def _draw(neighbours: Items, items: Items, random: np.random.Generator) -> Items:
    """One of the neighbours of each item; 0 where it has none."""
    known = (neighbours[items] > 0).sum(1)
    return neighbours[items, (random.random(len(items)) * known).astype(np.int64)]


@dataclass(frozen=True)
class Augmentation:
    """`--augment NAME=PROBABILITY[:PARAMETER...]`"""

    name: str
    probability: float  # that a history is changed, each time that it is trained on
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class _Parameter:
    name: str
    default: float
    least: float
    most: float


_SHARE = (("crop", 0.7), ("mask", 0.2), ("reorder", 0.2), ("substitute", 0.1), ("insert", 0.2))
PARAMETERS = {
    **{name: (_Parameter("SHARE", default, 0, 1),) for name, default in _SHARE},
    "noise": (_Parameter("SHARE", 0.05, 0, 1), _Parameter("JITTER", 0.1, 0, 5)),
    "windows": (_Parameter("LENGTH", 50, 2, 1e9), _Parameter("STRIDE", 25, 1, 1e9)),
}


def parse(text: str) -> Augmentation:
    """Raises ValueError, saying what was expected."""
    name, _, rest = text.partition("=")
    if name not in PARAMETERS:
        raise ValueError(f"{text}: expected NAME=PROBABILITY with NAME one of {', '.join(PARAMETERS)}")
    expected = [_Parameter("PROBABILITY", 1, 0, 1), *PARAMETERS[name]]
    form = f"{text}: expected {name}={expected[0].name}" + "".join(f"[:{p.name}]" for p in expected[1:])
    texts = rest.split(":")
    if len(texts) > len(expected):
        raise ValueError(form)
    values = [_number(text, parameter, form) for text, parameter in zip(texts, expected)]
    values += [parameter.default for parameter in expected[len(texts) :]]
    if name == "windows" and len(texts) < 3:
        values[2] = max(1.0, values[1] // 2)
    if name == "windows" and values[2] >= values[1]:
        raise ValueError(f"{form}, STRIDE below LENGTH")
    return Augmentation(name, values[0], tuple(values[1:]))


def _number(text: str, parameter: _Parameter, form: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not parameter.least <= value <= parameter.most:
        raise ValueError(f"{form}, {parameter.name} a number from {parameter.least:g} to {parameter.most:g}")
    return value


class Augmenter:
    """Applies augmentations, in their order, to the histories of a step. Learns what it needs from `histories` only."""

    def __init__(self, augmentations: Sequence[Augmentation], histories: Sequence[History], items: int) -> None:
        near = neighbours(histories, items) if {"substitute", "insert"} & {a.name for a in augmentations} else None
        self._steps = [(each.probability, _bound(each, near, items)) for each in augmentations]

    def __call__(self, batch: list[History], random: np.random.Generator) -> list[History]:
        """Draws from `random` only: nothing without augmentations. REQUIRES: histories of two events or more."""
        for probability, change in self._steps:
            changed = [change(history, random) if random.random() < probability else [history] for history in batch]
            batch = [history for pieces in changed for history in pieces]
        return batch


def _bound(
    augmentation: Augmentation, near: Items | None, items: int
) -> Callable[[History, np.random.Generator], list[History]]:
    """The function of that name with its parameters, which makes one history or more of one."""
    values = augmentation.parameters
    if augmentation.name == "windows":
        length, stride = int(values[0]), int(values[1])
        return lambda history, random: windows(history, random, length, stride)
    if augmentation.name == "noise":
        return lambda history, random: [noise(history, random, values[0], values[1], items)]
    if near is not None and augmentation.name in ("substitute", "insert"):
        function = substitute if augmentation.name == "substitute" else insert
        return lambda history, random: [function(history, random, values[0], near)]
    plain = {"crop": crop, "mask": mask, "reorder": reorder}[augmentation.name]
    return lambda history, random: [plain(history, random, values[0])]
