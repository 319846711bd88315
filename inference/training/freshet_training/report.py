"""Pictures of what `train --metrics` and `freshet evaluate --json` wrote. The only part that needs matplotlib."""

import json
import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from .files import replace

_MOST_HOURS = 120  # that a curve is drawn of; else of days
_PANELS = (("loss", "training loss"), ("hr", "validation HR@10"), ("ndcg", "validation NDCG@10"))


def draw_curves(metrics: Sequence[Path], output: Path) -> None:
    """One curve for each file, by epoch. Of a run that was begun anew in the same file, the newest record counts."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(1, len(_PANELS), figsize=(12, 3.6), layout="constrained")
    for path in metrics:
        epochs = read_epochs(path)
        for axis, (key, _) in zip(axes, _PANELS):
            points = [(epoch, value) for epoch, record in epochs.items() if (value := _value(record, key)) is not None]
            axis.plot([x for x, _ in points], [y for _, y in points], marker=".", label=path.stem)
    for axis, (_, title) in zip(axes, _PANELS):
        axis.set(title=title, xlabel="epoch")
        axis.grid(alpha=0.3)
    axes[0].legend()
    _save(figure, output)


def draw_evaluation(path: Path, output: Path) -> None:
    """Accuracy of each predictor with its interval, and, of the prequential protocol, how it went with time."""
    try:
        evaluation = json.loads(path.read_text(encoding="utf-8"))
        predictors = {evaluation["model"]["name"]: evaluation["model"]}
        if "compare" in evaluation:
            predictors[evaluation["compare"]["model"]["name"] + " (compared)"] = evaluation["compare"]["model"]
        if "blend" in evaluation:
            predictors["blend"] = evaluation["blend"]
        predictors.update(evaluation["baselines"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected what `freshet evaluate --json` writes: {error!r}") from error
    curves = evaluation.get("curves", {})
    unit = "hour" if len(curves.get("hour", [])) <= _MOST_HOURS else "day"
    curve = curves.get(unit, [])
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(1, 3 if curve else 2, figsize=(15 if curve else 10, 4), layout="constrained")
    for axis, metric in zip(axes, ("hr@10", "ndcg@10")):
        _draw_bars(axis, predictors, metric)
    if curve:
        _draw_curve(axes[2], curve, unit, evaluation["model"]["name"])
    protocol = evaluation["protocol"]
    seen = "left out" if protocol["exclude_seen"] else "kept"
    figure.suptitle(f"{protocol['name']}, {protocol['cases']:,} events, seen items {seen}, 95 % intervals over users")
    _save(figure, output)


def _draw_bars(axis: Any, predictors: dict[str, Any], metric: str) -> None:
    names = list(predictors)[::-1]
    values = [predictors[name][metric] for name in names]
    bounds = [predictors[name].get("intervals", {}).get(metric, (value, value)) for name, value in zip(names, values)]
    errors = [
        [max(0.0, value - low) for value, (low, _) in zip(values, bounds)],
        [max(0.0, high - value) for value, (_, high) in zip(values, bounds)],
    ]
    axis.barh(names, values, xerr=errors, color=["C1"] * (len(names) - 1) + ["C0"])
    axis.set(title=metric.upper())
    axis.grid(axis="x", alpha=0.3)


def _draw_curve(axis: Any, curve: list[dict[str, Any]], unit: str, model: str) -> None:
    times = [datetime.fromisoformat(point["begin"].replace("Z", "+00:00")) for point in curve]
    for name in (name for name in curve[0] if name not in ("begin", "n")):
        values = [point.get(name, {}).get("ndcg@10", math.nan) for point in curve]
        axis.plot(times, values, label=model if name == "model" else name, linewidth=2 if name == "model" else 1)
    axis.set(title=f"NDCG@10 by the {unit} (UTC)")
    axis.tick_params(axis="x", rotation=30)
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise ValueError("report needs matplotlib: apt-get install python3-matplotlib, or pip install it") from error
    matplotlib.use("agg")
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, output: Path) -> None:
    form = output.suffix.lstrip(".") or "png"
    replace({output: lambda new: figure.savefig(new, format=form, dpi=110)})
    _pyplot().close(figure)


def read_epochs(path: Path) -> dict[int, dict[str, Any]]:
    """Records by epoch. Raises ValueError, naming file and line, where a line is none."""
    epochs = {int(record["epoch"]): record for record in read_records(path) if "epoch" in record}
    if not epochs:
        raise ValueError(f"{path}: no record of an epoch")
    return dict(sorted(epochs.items()))


def read_records(path: Path) -> list[dict[str, Any]]:
    """All lines, of epochs and of ends of runs. Raises ValueError, naming file and line, where a line is none."""
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{number}: expected a JSON object: {error}") from error
        if not isinstance(record, dict):
            raise ValueError(f"{path}:{number}: expected a JSON object")
        records.append(record)
    return records


def _value(record: dict[str, Any], key: str) -> Any:
    return record.get("loss") if key == "loss" else record.get("valid", {}).get(key)
