"""Pictures of what `train --metrics` wrote. The only part that needs matplotlib."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .files import replace

_PANELS = (("loss", "training loss"), ("hr", "validation HR@10"), ("ndcg", "validation NDCG@10"))


def draw_curves(metrics: Sequence[Path], output: Path) -> None:
    """One curve for each file, by epoch. Of a run that was begun anew in the same file, the newest record counts."""
    try:
        import matplotlib
    except ImportError as error:
        raise ValueError("report needs matplotlib: apt-get install python3-matplotlib, or pip install it") from error
    matplotlib.use("agg")
    from matplotlib import pyplot

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
    form = output.suffix.lstrip(".") or "png"
    replace({output: lambda new: figure.savefig(new, format=form, dpi=110)})
    pyplot.close(figure)


def read_epochs(path: Path) -> dict[int, dict[str, Any]]:
    """Records by epoch. Raises ValueError, naming file and line, where a line is none."""
    epochs = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{number}: expected a JSON object: {error}") from error
        if not isinstance(record, dict):
            raise ValueError(f"{path}:{number}: expected a JSON object")
        if "epoch" in record:
            epochs[int(record["epoch"])] = record
    if not epochs:
        raise ValueError(f"{path}: no record of an epoch")
    return dict(sorted(epochs.items()))


def _value(record: dict[str, Any], key: str) -> Any:
    return record["loss"] if key == "loss" else record.get("valid", {}).get(key)
