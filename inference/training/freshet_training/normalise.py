"""Numeric properties of events as columns of about one size: min-max or z-score, and something for what is missing.

A Normaliser is fitted on the events trained on and applied to all, so that nothing of the held-out ones is in it.
Exports carry no numeric properties and the models take none yet; this is for your own features beside them.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from . import strict_json
from .files import replace
from .shapes import check

METHODS = ("min-max", "z-score")

Floats = npt.NDArray[np.float64]

_FORMAT = "freshet-normaliser-1"
_COLUMN = {"offset": float, "width": float, "mean": float, "flagged": bool}


@dataclass(frozen=True)
class Column:
    """value -> (value - offset) / width"""

    offset: float
    width: float
    mean: float  # stands for a value that is missing
    flagged: bool  # a second column says, by 1, which were


@dataclass(frozen=True)
class Normaliser:
    columns: dict[str, Column]

    def transform(self, values: Mapping[str, Floats]) -> Floats:
        """[rows, columns], each column followed by its flag where it has one. NaN is missing.

        Values beyond those of training go beyond 0..1. Raises ValueError where a column is not among `values`.
        """
        parts = []
        for name, column in self.columns.items():
            given = _given(values, name)
            missing = np.isnan(given)
            parts.append((np.where(missing, column.mean, given) - column.offset) / column.width)
            if column.flagged:
                parts.append(missing.astype(np.float64))
        return np.stack(parts, axis=1)

    def save(self, path: Path) -> None:
        record = {"format": _FORMAT, "columns": {name: asdict(column) for name, column in self.columns.items()}}
        replace({path: lambda new: new.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")})

    @staticmethod
    def load(path: Path) -> "Normaliser":
        """Raises ValueError, naming the file, where it is none."""
        try:
            record = strict_json.parse(path.read_bytes())
            check(record, {"format": str})
            if record["format"] != _FORMAT:
                raise ValueError(f"format is {record['format']!r}, expected {_FORMAT!r}")
            check(record, {"columns": {"*": _COLUMN}})
            return Normaliser({name: _column(name, values) for name, values in record["columns"].items()})
        except ValueError as error:
            raise ValueError(f"{path}: not a normaliser: {error}") from None


def _column(name: str, values: dict[str, float]) -> Column:
    if values.keys() != _COLUMN.keys() or not values["width"] > 0:
        raise ValueError(f"columns.{name}: expected {', '.join(_COLUMN)}, the width above 0")
    return Column(**values)  # type: ignore[arg-type]


def fit(
    values: Mapping[str, Floats], training: npt.NDArray[np.bool_], method: str = "z-score", flag_missing: bool = False
) -> Normaliser:
    """Looks at the rows where `training` holds. min-max maps their range to 0..1, z-score to mean 0 and variance 1.

    A missing value (NaN) becomes their mean; with `flag_missing`, columns that miss some get a flag as well. A column
    that is constant becomes 0. Raises ValueError where a column has no value to fit, or an infinite one.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, expected {' or '.join(METHODS)}")
    columns = {}
    for name in values:
        given = _given(values, name)[training]
        known = given[~np.isnan(given)]
        if not len(known):
            raise ValueError(f"column {name}: no value among the {len(given)} rows of training")
        mean = float(known.mean())
        low, width = (known.min(), np.ptp(known)) if method == "min-max" else (mean, known.std())
        if np.ptp(known) == 0:  # where rounding makes a deviation of 1e-17
            low, width = known[0], 1.0
        columns[name] = Column(float(low), float(width), mean, flag_missing and len(known) < len(given))
    return Normaliser(columns)


def _given(values: Mapping[str, Floats], name: str) -> Floats:
    if name not in values:
        raise ValueError(f"column {name}: missing; there are {', '.join(values) or 'none'}")
    given = np.asarray(values[name], np.float64)
    if given.ndim != 1 or np.isinf(given).any():
        raise ValueError(f"column {name}: expected a vector of finite numbers, NaN where one is missing")
    return given
