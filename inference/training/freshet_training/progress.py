"""How far a command is: a line that is written over on a terminal, one every half minute elsewhere."""

import time
from typing import TextIO

_TERMINAL_S = 0.5
_LOG_S = 30.0


class ProgressLine:
    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._part = ""
        self._began = self._next = 0.0
        self._first = 0  # what was done when this process began the part

    def epoch(self, number: int, done: int, users: int) -> None:
        """`done` of `users` of the epoch were trained on."""
        self.update(f"epoch {number}", done, users, "users")

    def update(self, part: str, done: int, total: int, unit: str) -> None:
        now = time.monotonic()
        if part != self._part:
            self._part, self._began, self._first = part, now, done
            self._next = now + (0 if self._out.isatty() else _LOG_S)
        if now < self._next or done == self._first:
            return
        self._next = now + (_TERMINAL_S if self._out.isatty() else _LOG_S)
        left = (now - self._began) / (done - self._first) * (total - done)
        text = f"{part}: {done:,} of {total:,} {unit}, {100 * done // total}%, {left:.0f} s left"
        print(f"\r\x1b[K{text}" if self._out.isatty() else text, end="" if self._out.isatty() else "\n", file=self._out)
        self._out.flush()

    def clear(self) -> None:
        """Before another line goes to the same terminal."""
        if self._out.isatty():
            print("\r\x1b[K", end="", file=self._out, flush=True)
