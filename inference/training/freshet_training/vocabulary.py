"""Names by row: items.tsv and event_types.tsv, of exports and of model directories alike."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

FILES = ("items.tsv", "event_types.tsv")
UNKNOWN = "[unknown]"


@dataclass(frozen=True)
class Vocabulary:
    """The names of each table's rows. Row 0 is [unknown]."""

    items: list[str]
    event_types: list[str]

    @staticmethod
    def load(directory: Path) -> "Vocabulary":
        return Vocabulary(*(_read_table(directory / name) for name in FILES))

    def files(self) -> dict[str, bytes]:
        """Their contents."""
        return {name: lines(names) for name, names in zip(FILES, astuple(self))}

    def grown_by(self, other: "Vocabulary") -> "Vocabulary":
        """What `other` has besides is appended: rows that are there keep their place."""
        return Vocabulary(_grown(self.items, other.items), _grown(self.event_types, other.event_types))


def read(path: Path) -> list[str]:
    """Raises ValueError, naming file and line, where a line is not `row<TAB>name`, or names what another one names."""
    names: dict[str, int] = {}
    *lines, last = path.read_bytes().split(b"\n")
    if last:
        raise ValueError(f"{path}:{len(lines) + 1}: no line feed at its end (truncated?)")
    for row, line in enumerate(lines):
        try:
            number, _, name = line.decode("utf-8").partition("\t")
        except UnicodeDecodeError:
            raise ValueError(f"{path}:{row + 1}: not UTF-8") from None
        if number != str(row) or not name or "\t" in name or name.endswith("\r"):
            raise ValueError(f"{path}:{row + 1}: expected {row}, a tab and a name, ended by LF")
        if names.setdefault(name, row) != row:
            raise ValueError(f"{path}:{row + 1}: {name} is row {names[name]} already")
    return list(names)


def _read_table(path: Path) -> list[str]:
    names = read(path)
    if names[:1] != [UNKNOWN]:
        raise ValueError(f"{path}: row 0 is {names[0] if names else 'absent'}, expected {UNKNOWN}")
    return names


def check_same(model: Path, data: Path) -> None:
    """Raises ValueError where a model's vocabulary is not the one of the export `data`, naming the first difference."""
    for name in FILES:
        found, expected = (read(directory / name) for directory in (model, data))
        if found == expected:
            continue
        row = next((row for row, names in enumerate(zip(found, expected)) if names[0] != names[1]), None)
        difference = (
            f"{len(found)} rows, expected {len(expected)}"
            if row is None
            else f"row {row} is {found[row]}, expected {expected[row]}"
        )
        raise ValueError(f"{model / name}: not the vocabulary of {data}: {difference}. Expected a model of this export")


def rows_of(names: Iterable[str], among: list[str]) -> npt.NDArray[np.int32]:
    """The row of each name; 0, unknown, for those that are not `among` them."""
    rows = {name: row for row, name in enumerate(among)}
    return np.array([rows.get(name, 0) for name in names], np.int32)


def _grown(names: list[str], other: list[str]) -> list[str]:
    return list(dict.fromkeys(names + other))


def lines(names: list[str]) -> bytes:
    return "".join(f"{row}\t{name}\n" for row, name in enumerate(names)).encode()
