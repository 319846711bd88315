"""Cleans an export before training."""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from .. import sequences
from ..files import EXPORT, FILE
from ..prepare import PrepareOptions, prepare
from .arguments import SHARE, Whole, chosen, command

_TIME = Whole(sequences.LEAST_TIME, sequences.MOST_TIME)
_POSITIVE = Whole(1)


def add(parser: argparse.ArgumentParser) -> None:
    command(parser, _run, ("--data",), {"--output": EXPORT, "--report": FILE})
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="what `freshet export` wrote")
    add("--output", type=Path, required=True, metavar="DIR", help="the export to write")
    add("--report", type=Path, metavar="FILE", help="what was dropped, as JSON")
    add(
        "--not-before",
        type=_time,
        metavar="TIME",
        help="drop events before, such as 2026-01-31T00:00:00Z, or seconds since 1970",
    )
    add("--not-after", type=_time, metavar="TIME", help="drop events after")
    add(
        "--backwards",
        type=Whole(0, sequences.MOST_TIME),
        metavar="S",
        help="drop events more than S seconds before their user's newest so far",
    )
    add("--keep-repeats", action="store_true", help="keep events that repeat user, item, type and time")
    add("--max-rate", type=_rate, metavar="N/S", help="drop users with more than N events in some S seconds")
    add("--max-share", type=SHARE, metavar="SHARE", help="drop users with more than this share of all events")
    add("--min-user-events", type=Whole(0), default=0, metavar="N", help="drop users with fewer events")
    add(
        "--min-item-events",
        type=Whole(0),
        default=0,
        metavar="N",
        help="drop items with fewer; until all that is left holds",
    )


def _run(arguments: argparse.Namespace) -> None:
    options = PrepareOptions(
        backwards_s=arguments.backwards,
        repeats=not arguments.keep_repeats,
        rate=arguments.max_rate,
        share=arguments.max_share,
        **chosen(arguments, "not_before", "not_after", "min_user_events", "min_item_events"),
    )
    prepare(sequences.load(arguments.data), options, arguments.output, arguments.report, sys.stderr)


def _time(text: str) -> int:
    """Seconds since 1970; without a zone, UTC."""
    if text.lstrip("-").isdecimal():
        return _TIME(text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text}: expected a time such as 2026-01-31T00:00:00Z, or whole seconds"
        ) from None
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())


def _rate(text: str) -> tuple[int, int]:
    events, _, seconds = text.partition("/")
    try:
        return _POSITIVE(events), _POSITIVE(seconds)
    except argparse.ArgumentTypeError:
        form = f"N/S, such as 100/60 for at most 100 events in 60 seconds, both whole numbers {_POSITIVE}"
        raise argparse.ArgumentTypeError(f"{text}: expected {form}") from None
