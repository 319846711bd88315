"""Cleans an export before training."""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import sequences
from ..files import EXPORT, FILE
from ..prepare import PrepareOptions, prepare
from .arguments import chosen, command


def add(commands: Any) -> None:
    text = "clean an export: repeats, impossible times, robots, rare items"
    parser = command(commands, "prepare", text, _run, ("--data",), {"--output": EXPORT, "--report": FILE})
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="what `freshet export` wrote")
    add("--output", type=Path, required=True, metavar="DIR", help="the export to write")
    add("--report", type=Path, metavar="FILE", help="what was dropped, as JSON")
    add("--not-before", metavar="TIME", help="drop events before, such as 2026-01-31T00:00:00Z, or seconds since 1970")
    add("--not-after", metavar="TIME", help="drop events after")
    add("--backwards", type=int, metavar="S", help="drop events more than S seconds before their user's newest so far")
    add("--keep-repeats", action="store_true", help="keep events that repeat user, item, type and time")
    add("--max-rate", metavar="N/S", help="drop users with more than N events in some S seconds")
    add("--max-share", type=float, metavar="SHARE", help="drop users with more than this share of all events")
    add("--min-user-events", type=int, default=0, metavar="N", help="drop users with fewer events")
    add(
        "--min-item-events",
        type=int,
        default=0,
        metavar="N",
        help="drop items with fewer; until all that is left holds",
    )


def _run(arguments: argparse.Namespace) -> None:
    options = PrepareOptions(
        not_before=_time(arguments.not_before, "--not-before"),
        not_after=_time(arguments.not_after, "--not-after"),
        backwards_s=arguments.backwards,
        repeats=not arguments.keep_repeats,
        rate=_rate(arguments.max_rate),
        share=arguments.max_share,
        **chosen(arguments, "min_user_events", "min_item_events"),
    )
    prepare(sequences.load(arguments.data), options, arguments.output, arguments.report, sys.stderr)


def _time(text: str | None, option: str) -> int | None:
    """Seconds since 1970; without a zone, UTC."""
    if text is None or text.lstrip("-").isdecimal():
        return None if text is None else int(text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{option} {text}: expected a time such as 2026-01-31T00:00:00Z, or whole seconds") from None
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())


def _rate(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    events, _, seconds = text.partition("/")
    if not (events.isdecimal() and seconds.isdecimal()):
        raise ValueError(f"--max-rate {text}: expected N/S, such as 100/60: at most 100 events in 60 seconds")
    return int(events), int(seconds)
