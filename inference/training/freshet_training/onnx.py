"""A model as an ONNX graph, for runtimes other than freshet's. It computes densely, one history at a time."""

import inspect
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .files import replace
from .model import SequenceModel

INPUTS, OUTPUTS = ("items", "types", "times"), ("user_vector", "scores")
_OPSET = 14  # the newest that PyTorch 1.13 checks without fault


class Recommender(nn.Module):
    """What the graph computes."""

    def __init__(self, model: SequenceModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, items: Tensor, types: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """One user's events, oldest first: int64 [events] each, times in s. The vector [dim], and scores [items]."""
        newest = slice(-self.model.config.exact_history, None)
        user = self.model(items[newest], types[newest], times[newest])[-1]
        return user, self.model.candidates() @ user


def export(model: SequenceModel, path: Path) -> None:
    """Of any number of events from 1 on."""
    example = tuple(torch.tensor(column) for column in ([0, 0], [0, 0], [0, 60]))
    arguments: dict[str, Any] = {
        "input_names": list(INPUTS),
        "output_names": list(OUTPUTS),
        "dynamic_axes": {name: {0: "events"} for name in INPUTS},
        "opset_version": _OPSET,
        "do_constant_folding": False,  # the normalised item table would be in the file as well
    }
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        arguments["dynamo"] = False  # needs onnxscript besides onnx
    recommender = Recommender(model.cpu().eval())
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, of what the tests compare
        replace({path: lambda new: torch.onnx.export(recommender, example, str(new), **arguments)})
