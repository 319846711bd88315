"""Cleans an export: repeats, impossible times, robots, rare items and users. What is dropped is counted and shown."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt

from . import exports
from .exports import Names
from .files import replace
from .sequences import History, Ints, Sequences

Mask = npt.NDArray[np.bool_]

_EXAMPLES = 5  # of each step


@dataclass(frozen=True)
class PrepareOptions:
    """Each step is left out where its bound is None or 0."""

    not_before: int | None = None  # s since 1970: events before are dropped
    not_after: int | None = None  # s since 1970: events after are dropped
    backwards_s: int | None = None  # an event more than so far before the newest of its user so far is dropped
    repeats: bool = True  # events that repeat user, item, type and time of one before are dropped
    rate: tuple[int, int] | None = None  # (N, S): users with more than N events in some S seconds are dropped
    share: float | None = None  # users with more than this share of all events are dropped
    min_user_events: int = 0
    min_item_events: int = 0

    def __post_init__(self) -> None:
        if self.backwards_s is not None and self.backwards_s < 0:
            raise ValueError(f"backwards by {self.backwards_s} s: expected 0 or more")
        if self.rate is not None and min(self.rate) < 1:
            raise ValueError(f"a rate of {self.rate[0]} events in {self.rate[1]} s: expected 1 or more of each")
        if self.share is not None and not 0 < self.share <= 1:
            raise ValueError(f"a share of {self.share:g} of all events: expected above 0, at most 1")


@dataclass(frozen=True)
class Log:
    """Events of all users, users in order, each user's in log order."""

    users: Ints  # [events] rows of users.tsv
    events: History

    def keep(self, mask: Mask) -> "Log":
        events = self.events
        return Log(self.users[mask], History(events.items[mask], events.types[mask], events.times[mask]))


@dataclass(frozen=True)
class Step:
    """What was dropped, below 0, and why; or what was read and written."""

    name: str
    events: int
    users: int  # that have an event
    items: int  # likewise, unknown ones not counted
    examples: list[str] = field(default_factory=list)


def prepare(data: Sequences, options: PrepareOptions, output: Path, report: Path | None, out: TextIO) -> None:
    """Writes the cleaned export, a table to `out` and, if wanted, JSON to `report`.

    Raises ValueError, having written the table and `report` only, where no event is left.
    """
    names = exports.names(data)
    before = Log(np.repeat(np.arange(data.users), np.diff(data.offsets)), data.events)
    log, steps = clean(before, options, names)
    steps = [Step("read", *_sizes(before)), *steps, Step("written", *_sizes(log))]
    out.write(_table(steps))
    if report is not None:
        record = {"options": asdict(options), "steps": [asdict(step) for step in steps]}
        replace({report: lambda new: new.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")})
    if not len(log.users):
        raise ValueError(f"{data.directory}: no event is left; nothing was written to {output}")
    kept_users, kept_items = np.unique(log.users), _supported_items(log, options, data.items)
    rows = np.searchsorted(kept_items, log.events.items).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(np.unique(log.users, return_counts=True)[1])])
    kept = Names([names.items[row] for row in kept_items], names.types, [names.users[row] for row in kept_users])
    events = History(rows, log.events.types, log.events.times)
    exports.write(output, offsets, events, kept, data.synthetic[kept_users])


def _supported_items(log: Log, options: PrepareOptions, items: int) -> Ints:
    """Rows of the vocabulary that stay: all, unless a support is asked for; row 0 always."""
    if not options.min_item_events:
        return np.arange(items)
    return np.union1d([0], log.events.items).astype(np.int64)


def clean(log: Log, options: PrepareOptions, names: Names) -> tuple[Log, list[Step]]:
    """What is left, and what each step dropped, in the order of the steps."""
    done = []
    for name, dropped in _steps(options):
        mask = dropped(log)
        left = log.keep(~mask)
        events, users, items = (after - before for before, after in zip(_sizes(log), _sizes(left)))
        examples = [_shown(log, int(at), names) for at in np.flatnonzero(mask)[:_EXAMPLES]]
        done.append(Step(name, events, users, items, examples))
        log = left
    return log, done


def _sizes(log: Log) -> tuple[int, int, int]:
    """Events, users, items."""
    users, items = np.bincount(log.users), np.bincount(log.events.items)
    return len(log.users), int(np.count_nonzero(users)), int(np.count_nonzero(items[1:]))


def _steps(options: PrepareOptions) -> Iterator[tuple[str, Callable[[Log], Mask]]]:
    """Bounds of time come before what compares times, and robots, who repeat themselves, before repeats are dropped."""
    if (begin := options.not_before) is not None:
        yield f"before {_time(begin)}", lambda log: log.events.times < begin
    if (end := options.not_after) is not None:
        yield f"after {_time(end)}", lambda log: log.events.times > end
    if (seconds := options.backwards_s) is not None:
        yield f"backwards by more than {seconds} s", lambda log: backwards(log, seconds)
    if (rate := options.rate) is not None:
        yield f"more than {rate[0]} events in {rate[1]} s", lambda log: faster(log, *rate)
    if (share := options.share) is not None:
        yield f"more than {share:g} of all events", lambda log: _count(log.users) > share * len(log.users)
    if options.repeats:
        yield "repeats", repeats
    support = options.min_user_events, options.min_item_events
    if any(support):
        yield f"users of fewer than {support[0]}, items of fewer than {support[1]}", lambda log: rare(log, *support)


def repeats(log: Log) -> Mask:
    """Same user, item, type and second as an event before it. Unknown items (row 0) may differ, so they are none."""
    columns = (log.events.times, log.events.types, log.events.items, log.users)
    order = np.lexsort(columns)  # stable: the first of the log comes first
    same = np.ones(max(0, len(order) - 1), np.bool_)
    for column in columns:
        same &= column[order][1:] == column[order][:-1]
    mask = np.zeros(len(order), np.bool_)
    mask[order[1:]] = same
    return mask & (log.events.items > 0)


def backwards(log: Log, seconds: int) -> Mask:
    """More than `seconds` before the newest event that its user had so far, be that one right or wrong."""
    newest = log.events.times.copy()
    for part in np.split(newest, np.flatnonzero(np.diff(log.users)) + 1):
        np.maximum.accumulate(part, out=part)
    return newest - log.events.times > seconds


def faster(log: Log, most: int, seconds: int) -> Mask:
    """All events of users that have more than `most` within `seconds`: the last less than that after the first."""
    order = np.lexsort((log.events.times, log.users))
    users, times = log.users[order], log.events.times[order]
    burst = (users[most:] == users[:-most]) & (times[most:] - times[:-most] < seconds)
    return np.isin(log.users, users[most:][burst])


def rare(log: Log, user_events: int, item_events: int) -> Mask:
    """The k-core: drops until each user and item that is left has so many events. Unknown items are never rare."""
    kept = np.ones(len(log.users), np.bool_)
    while True:
        users, items = np.bincount(log.users[kept]), np.bincount(log.events.items[kept])
        items[:1] = max(1, item_events)
        left = kept.copy()
        left[kept] = (users[log.users[kept]] >= user_events) & (items[log.events.items[kept]] >= item_events)
        if (left == kept).all():
            return ~kept
        kept = left


def _count(values: Ints) -> Ints:
    """How often each value occurs, beside it."""
    return np.bincount(values)[values] if len(values) else values


def _shown(log: Log, at: int, names: Names) -> str:
    events = log.events
    item, kind = names.items[events.items[at]], names.types[events.types[at]]
    return f"user {names.users[log.users[at]]}: {kind} {item} at {_time(int(events.times[at]))}"


def _time(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):  # beyond the years that Python knows
        return f"{seconds} s"


def _table(steps: list[Step]) -> str:
    text = f"{'':48} {'events':>12} {'users':>10} {'items':>10}\n"
    for step in steps:
        text += f"{step.name:48} {step.events:12,} {step.users:10,} {step.items:10,}\n"
        text += "".join(f"    {example}\n" for example in step.examples)
    return text
