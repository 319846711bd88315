"""Pictures of what `train --metrics` and `freshet evaluate --json` wrote. The only part that needs matplotlib."""

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from . import strict_json
from .files import replace
from .shapes import check

_MOST_HOURS = 120  # that a curve is drawn of; else of days
_FEWEST_EVENTS = 100  # in an hour, on average, or days are drawn if there are three
_ACCURACY = {"hr": float, "ndcg": float}
_RECORD = {"epoch?": int, "loss?": float, "valid?": _ACCURACY, "test?": _ACCURACY, "train_seconds?": float}
_FIGURES = {
    "hr@10": float,
    "ndcg@10": float,
    "intervals?": {"hr@10?": (float, float), "ndcg@10?": (float, float)},
}
_POINTS = [{"begin": str, "n": int, "*": {"ndcg@10?": float}}]
_EVALUATION = {
    "protocol": {"name": str, "cases": int, "exclude_seen": bool},
    "model": {"name": str, **_FIGURES},
    "blend?": _FIGURES,
    "baselines": {"*": _FIGURES},
    "compare?": {
        "model": {"name": str, **_FIGURES},
        "differences": {"*": {"difference": float, "interval": (float, float), "p": float}},
    },
    "curves?": {"hour?": _POINTS, "day?": _POINTS},
}
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
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
    axes[0].legend()
    _save(figure, output)


def draw_evaluation(path: Path, output: Path) -> None:
    """Accuracy of each predictor with its interval, how a compared model differs, and, of the prequential protocol, how
    it went with time. A predictor has one colour throughout."""
    try:
        evaluation = strict_json.parse(path.read_bytes())
        check(evaluation, _EVALUATION)
        unit, curve = _curve(evaluation.get("curves") or {})
        times = [datetime.fromisoformat(point["begin"].replace("Z", "+00:00")) for point in curve]
    except ValueError as error:
        raise ValueError(f"{path}: expected what `freshet evaluate --json` writes: {error}") from None
    predictors = {"model": evaluation["model"]}
    if compare := evaluation.get("compare"):
        predictors["compared"] = compare["model"]
    if evaluation.get("blend"):
        predictors["blend"] = evaluation["blend"]
    predictors.update(evaluation["baselines"])
    names = {key: key for key in predictors} | {"model": evaluation["model"]["name"]}
    if compare:
        names["compared"] = f"{compare['model']['name']} (compared)"
    pyplot = _pyplot()
    widths = [4.5, 4.5] + [3.6] * bool(compare) + [6] * bool(curve)
    size = (sum(widths), 1.6 + 0.4 * max(len(predictors), 5))
    figure, panels = pyplot.subplots(1, len(widths), figsize=size, width_ratios=widths, layout="constrained")
    axes = iter(panels)
    for number, metric in enumerate(("hr@10", "ndcg@10")):
        _draw_bars(next(axes), predictors, metric, list(names.values()) if number == 0 else [""] * len(names))
    if compare:
        _draw_differences(next(axes), compare["differences"], f"{compare['model']['name']} − {names['model']}")
    if curve:
        _draw_curve(next(axes), times, curve, unit, names)
    protocol = evaluation["protocol"]
    seen = "left out" if protocol["exclude_seen"] else "kept"
    figure.suptitle(f"{protocol['name']}, {protocol['cases']:,} events, seen items {seen}, 95 % intervals over users")
    _save(figure, output)


def _curve(curves: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """By the hour, unless there are too many hours to draw, or too few events in one to say something."""
    hours, days = curves.get("hour") or [], curves.get("day") or []
    thin = sum(point["n"] for point in hours) < _FEWEST_EVENTS * len(hours)
    by_day = len(hours) > _MOST_HOURS or (thin and len(days) > 2)
    return ("day", days) if by_day else ("hour", hours)


def _draw_bars(axis: Any, predictors: dict[str, Any], metric: str, labels: Sequence[str]) -> None:
    values = [figures[metric] for figures in predictors.values()]
    bounds = [(figures.get("intervals") or {}).get(metric) or (v, v) for figures, v in zip(predictors.values(), values)]
    errors = [
        [v - min(v, low) for v, (low, _) in zip(values, bounds)],
        [max(v, high) - v for v, (_, high) in zip(values, bounds)],
    ]
    rows = range(len(values))
    axis.barh(rows, values, xerr=errors, color=[f"C{row}" for row in rows], ecolor="0.25", error_kw={"capsize": 3})
    for row, value, (_, high) in zip(rows, values, bounds):
        axis.annotate(f"{value:.4f}", (max(value, high), row), (5, 0), textcoords="offset points", va="center")
    axis.set_yticks(rows, labels)
    axis.invert_yaxis()
    axis.margins(x=0.3)  # room for the numbers
    axis.set(title=metric.upper())
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)


def _draw_differences(axis: Any, differences: dict[str, Any], title: str) -> None:
    labels = []
    for row, (metric, found) in enumerate(differences.items()):
        value, (low, high) = found["difference"], found["interval"]
        errors = [[value - min(value, low)], [max(value, high) - value]]
        axis.errorbar([value], [row], xerr=errors, fmt="o", color="C1", ecolor="0.25", capsize=3)
        relative = f" ({found['relative']:+.1%})" if "relative" in found else ""
        labels.append(f"{metric.upper()}: {value:+.4f}{relative}\n[{low:+.4f}, {high:+.4f}]\np = {found['p']:.4f}")
    axis.axvline(0, color="0.25", linewidth=1)
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.set(title=title)
    axis.grid(axis="x", alpha=0.3)
    axis.locator_params(axis="x", nbins=4)  # labels of small numbers are wide


def _draw_curve(
    axis: Any, times: list[datetime], curve: list[dict[str, Any]], unit: str, names: dict[str, str]
) -> None:
    for number, (key, label) in enumerate(names.items()):
        values = [(point.get(key) or {}).get("ndcg@10", math.nan) for point in curve]
        axis.plot(
            times,
            values,
            label=label,
            color=f"C{number}",
            linewidth=2 if key in ("model", "compared") else 1,
            marker=".",
        )
    axis.set(title=f"NDCG@10 by the {unit} (UTC)")
    axis.set_ylim(bottom=0)
    axis.tick_params(axis="x", rotation=30)
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["text.parse_math"] = False  # of names, a dollar is one
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, output: Path) -> None:
    form = output.suffix.lstrip(".") or "png"
    replace({output: lambda new: figure.savefig(new, format=form, dpi=110)})
    _pyplot().close(figure)


def read_epochs(path: Path) -> dict[int, dict[str, Any]]:
    """Records by epoch. Raises ValueError, naming file and line, where a line is none."""
    epochs = {record["epoch"]: record for record in read_records(path) if record.get("epoch") is not None}
    if not epochs:
        raise ValueError(f"{path}: no record of an epoch")
    return dict(sorted(epochs.items()))


def read_records(path: Path) -> list[dict[str, Any]]:
    """All lines, of epochs and of ends of runs. Raises ValueError, naming file and line, where a line is none."""
    records = []
    *lines, last = path.read_bytes().split(b"\n")
    for number, line in enumerate([*lines, last] if last else lines, 1):
        try:
            record = strict_json.parse(line)
            check(record, _RECORD)
        except ValueError as error:
            raise ValueError(f"{path}:{number}: expected a JSON object, a record of training: {error}") from None
        records.append(record)
    return records


def _value(record: dict[str, Any], key: str) -> Any:
    return record.get("loss") if key == "loss" else (record.get("valid") or {}).get(key)
