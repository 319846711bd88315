"""Files that are there whole or not at all."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

Write = Callable[[Path], object]


def replace(writes: Mapping[Path, Write]) -> None:
    """Has each function fill a new file beside its path, then puts these in place. A full disk changes none."""
    new = {path: path.with_name(path.name + ".new") for path in writes}
    try:
        for path, write in writes.items():
            _write(write, new[path])
        for path in writes:
            new[path].replace(path)
    finally:
        for path in new.values():
            path.unlink(missing_ok=True)


def _write(write: Write, path: Path) -> None:
    try:
        write(path)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = error.filename or str(path)  # a write() that fails names none
        raise
