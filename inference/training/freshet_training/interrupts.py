"""SIGINT and SIGTERM end the program with one line and a status, not with a traceback."""

import os
import signal
from collections.abc import Callable
from types import FrameType

STATUS = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def end_at_once() -> None:
    """While nothing is open yet, such as while libraries load."""
    _handle(_end)


def raise_keyboard_interrupt() -> None:
    """So that what is open is closed, and unfinished files go."""
    _handle(signal.default_int_handler)


def _end(*_: object) -> None:
    os.write(2, b"freshet_training: interrupted\n")
    os._exit(STATUS)


def _handle(handler: Callable[[int, FrameType | None], object]) -> None:
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as of a shell's background jobs
            signal.signal(number, handler)
