"""Files that are there whole or not at all, and written over nothing but their like."""

import fcntl
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

Write = Callable[[Path], object]

_TOKEN_BYTES = 4


def replace(writes: Mapping[Path, Write]) -> None:
    """Has each function fill a new file beside its path, then puts these in place. A full disk changes none."""
    token = secrets.token_hex(_TOKEN_BYTES)  # two processes may write at the same time
    new = {path: path.with_name(f"{path.name}.{token}.new") for path in writes}
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


class UsageError(ValueError):
    """A path that a command must not write to: exit status 2."""


@dataclass(frozen=True)
class Kind:
    """What a command writes, and so over what."""

    text: str
    accepts: Callable[[Path], bool]  # whether what is there is of this kind
    names: tuple[str, ...] = ()  # of the files of a directory; none: it is a file
    replaced: bool = True  # by a new file; else lines are appended to what is there, which may be a pipe or a terminal


def _is_model(path: Path) -> bool:
    try:
        return json.loads((path / "config.json").read_bytes())["format"].startswith("freshet-")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _is_records(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return isinstance(json.loads(file.readline(1 << 20)), dict)
    except (ValueError, RecursionError):
        return False


def _is_checkpoint(path: Path) -> bool:
    with path.open("rb") as file:
        return file.readline(100).startswith(b"freshet-checkpoint-")


_SEQUENCES = "sequences.safetensors"
MODEL = Kind(
    "a model directory",
    lambda path: _is_model(path) and not (path / _SEQUENCES).exists(),
    ("config.json", "model.safetensors", "items.tsv", "event_types.tsv"),
)
EXPORT = Kind(
    "an export",
    lambda path: (path / _SEQUENCES).exists() and not _is_model(path),
    (_SEQUENCES, "items.tsv", "event_types.tsv", "users.tsv"),
)
CHECKPOINT = Kind("a checkpoint of this version", _is_checkpoint)
RECORDS = Kind("a file of JSON lines", _is_records, replaced=False)
FILE = Kind("a file", lambda _: True)

_NAMES = sorted({*MODEL.names, *EXPORT.names})


@contextmanager
def outputs(reads: Sequence[tuple[str, Path]], writes: Sequence[tuple[str, Path, Kind]]) -> Iterator[None]:
    """Around a command that reads and writes these, each with its option: refuses what it would spoil, holds locks.

    Raises UsageError where it would write over what it reads, over another output, over something of another kind, or
    where another process writes to the same directory. A lock goes with its process, however that ends.
    """
    for number, (option, path, kind) in enumerate(writes):
        for other, its in reads:
            if _overlap(path, its):
                raise UsageError(f"{option} {path}: {other} {its} is read from there, expected another path")
        for other, its, _ in writes[:number]:
            if _overlap(path, its):
                raise UsageError(f"{option} {path}: {other} {its} is written there, expected another path")
        _check_kind(option, path, kind)
    with ExitStack() as locks:
        for option, path, kind in writes:
            if kind.names:
                locks.enter_context(_locked(option, path))
        for _, path, kind in writes:
            if kind.names or kind is CHECKPOINT:  # of files without a lock they may be another process's
                for file in [path / name for name in kind.names] or [path]:
                    _remove_unfinished(file)
        yield


def _overlap(one: Path, other: Path) -> bool:
    """Whether they are the same, or one is a file of the directory that the other is."""
    inside = ((one, other / name) for name in _NAMES), ((other, one / name) for name in _NAMES)
    return any(_same(*pair) for pair in chain([(one, other)], *inside))


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one is not there
        return os.path.realpath(one) == os.path.realpath(other)


def _check_kind(option: str, path: Path, kind: Kind) -> None:
    if kind.names:
        if path.exists() and not path.is_dir():
            raise UsageError(f"{option} {path}: is a file, expected {kind.text} or a new one")
        there = [name for name in _NAMES if (path / name).exists()]
        if there and not kind.accepts(path):
            raise UsageError(
                f"{option} {path}: holds {there[0]} and is not {kind.text}, expected one or a new directory"
            )
        return
    if not path.exists() or (not kind.replaced and (path.is_fifo() or path.is_char_device())):
        return
    if not path.is_file():
        raise UsageError(f"{option} {path}: is not a regular file, expected {kind.text} or a new one")
    if path.stat().st_size and not kind.accepts(path):
        raise UsageError(f"{option} {path}: is there and is not {kind.text}, expected one or a new file")


@contextmanager
def _locked(option: str, directory: Path) -> Iterator[None]:
    """The directory is made for it, and goes again where nothing was written."""
    made = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        if not _lock(descriptor, directory):
            raise UsageError(f"{option} {directory}: another process writes there, expected to be the only one")
        try:
            yield
        finally:
            if made:
                with suppress(OSError):
                    directory.rmdir()
    finally:
        os.close(descriptor)


def _lock(descriptor: int, directory: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), directory.stat())  # one that failed may just have removed it
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError:
        return True  # some network file systems lock no directories


def _remove_unfinished(path: Path) -> None:
    """What a killed replace() left beside `path`."""
    name = re.compile(re.escape(path.name) + rf"\.[0-9a-f]{{{2 * _TOKEN_BYTES}}}\.new")
    for other in path.parent.iterdir() if path.parent.is_dir() else ():
        if name.fullmatch(other.name):
            other.unlink(missing_ok=True)
