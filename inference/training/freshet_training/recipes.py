"""Test accuracy by recipe, over seeds: a table of what several `train --metrics` wrote."""

import json
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .report import read_records
from .shapes import check

_SUMMARY = {"chosen_epoch": int, "options": {"seed": int}}


@dataclass(frozen=True)
class _Run:
    recipe: str  # all of its options but the seed
    name: str  # the file's, without a number at its end
    seed: int
    chosen_epoch: int
    seconds: float  # of training, in all
    hr: float
    ndcg: float


def table(metrics: Sequence[Path]) -> str:
    """A row for each recipe: means over its seeds, and how its NDCG@10 differs from the first recipe's, seed by seed.

    Behind ± is the standard error of the mean. Files without a test (unfinished, or --hold-out 0) are named below it.
    """
    read = {path: _read(path) for path in metrics}
    recipes: dict[str, list[_Run]] = {}
    for run in filter(None, read.values()):
        recipes.setdefault(run.recipe, []).append(run)
    lines = [f"{'recipe':20} seeds  epoch  seconds   HR@10  NDCG@10           against the first, %"]
    first: list[_Run] = next(iter(recipes.values()), [])
    lines += [_line(runs, first) for runs in recipes.values()]
    return "\n".join(lines + [f"{path}: no test accuracy" for path, run in read.items() if run is None])


def _read(path: Path) -> _Run | None:
    """The newest summary of the file, and the seconds of its epochs."""
    epochs: dict[int, float] = {}
    summary: dict[str, Any] = {}
    for record in read_records(path):
        if record.get("epoch") is not None:
            epochs[record["epoch"]] = record.get("train_seconds") or 0.0  # fine-tuning begins with an epoch 0
        elif record.get("test") is not None:
            summary = record
    if not summary:
        return None
    try:
        check(summary, _SUMMARY)
    except ValueError as error:
        raise ValueError(f"{path}: the record of the test: {error}") from None
    recipe = {key: value for key, value in summary.items() if key not in ("chosen_epoch", "test", "torch")}
    recipe["options"] = {key: value for key, value in summary["options"].items() if key != "seed"}
    return _Run(
        recipe=json.dumps(recipe, sort_keys=True),
        name=re.sub(r"[-.]\d+$", "", path.stem),
        seed=summary["options"]["seed"],
        chosen_epoch=summary["chosen_epoch"],
        seconds=sum(epochs.values()),
        hr=summary["test"]["hr"],
        ndcg=summary["test"]["ndcg"],
    )


def _line(runs: list[_Run], first: list[_Run]) -> str:
    epoch, seconds, hr, ndcg = (
        statistics.mean(getattr(run, name) for run in runs) for name in ("chosen_epoch", "seconds", "hr", "ndcg")
    )
    line = f"{runs[0].name:20} {len(runs):5}  {epoch:5.1f}  {seconds:7.0f}  {hr:.4f}  {ndcg:.4f}"
    line += _error([run.ndcg for run in runs], ".4f")
    bases = {run.seed: run.ndcg for run in first}
    changes = [100 * (run.ndcg / bases[run.seed] - 1) for run in runs if bases.get(run.seed)]
    if runs is not first and changes:
        line += f"  {statistics.mean(changes):+.1f}" + _error(changes, ".1f")
    return line.rstrip()


def _error(values: list[float], form: str) -> str:
    """Empty for a single seed."""
    if len(values) < 2:
        return " " * 9
    return f" ± {statistics.stdev(values) / len(values) ** 0.5:{form}}"
