"""Structured pruning: layers, heads, feed-forward units and the window of a model that is there, into a smaller one.

A layer's heads fill the model's width: `dim` is heads · head_dim, in the residual stream as within a layer
(docs/model-format.md). To have fewer heads is therefore to be narrower: as many channels of the residual stream go.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .model import SequenceModel
from .objective import Objective, ObjectiveOptions
from .sequences import History
from .train import batch_loss

_BATCH_USERS = 32
_PARTS = {"uvqk.weight": 4, "qkv.weight": 3, "ffn_in.weight": 2}
_WRITERS = (
    "embedding.weight",
    ".out.weight",
    ".out.bias",
    ".ffn_out.weight",
    ".ffn_out.bias",
)  # of the residual stream


@dataclass(frozen=True)
class Sizes:
    """What to prune to; None: as it is."""

    layers: int | None = None
    heads: int | None = None
    ffn_dim: int | None = None
    window: int | None = None


@dataclass(frozen=True)
class Pruned:
    model: SequenceModel
    layers: list[int]  # that stay
    heads: list[list[int]]  # of each of these
    loss: tuple[float, float]  # mean of -log softmax over the catalogue, before and after


@dataclass(frozen=True)
class Importance:
    """How much the loss would change, to the first order, were a part zero (Michel et al. 2019); by kind of part."""

    channels: Tensor  # [dim]
    heads: Tensor  # [layers, heads]
    units: Tensor  # [layers, ffn]


def prune(model: SequenceModel, histories: Sequence[History], sizes: Sizes) -> Pruned:
    """Layers go one by one, each time the one without which the loss over `histories` is least; then all else at once.

    Raises ValueError where the model has no such sizes. REQUIRES: `histories` of two events or more, at least one.
    """
    _check(model, sizes)
    objective = Objective(ObjectiveOptions(), histories, model.config.items, model.device)
    before = _loss(model, histories, objective)
    layers = list(range(model.config.layers))
    while len(layers) > (sizes.layers or len(layers)):
        layers = min(_without_one(layers), key=lambda rest: _loss(_of_layers(model, rest), histories, objective))
    smaller = _of_layers(model, layers)
    importance = _importance(smaller, histories, objective)
    heads = [_most(row, sizes.heads) for row in importance.heads]
    channels = _most(importance.channels, len(heads[0]) * _head_dim(smaller))
    units = [_most(row, sizes.ffn_dim) for row in importance.units]
    smaller = _cut(smaller, channels, heads, units, sizes.window or model.config.window)
    return Pruned(smaller, layers, heads, (before, _loss(smaller, histories, objective)))


def _check(model: SequenceModel, sizes: Sizes) -> None:
    config = model.config
    if sizes.ffn_dim and config.block != "transformer":
        raise ValueError(f"ffn_dim {sizes.ffn_dim}: a model of block {config.block} has no feed-forward part")
    found = {"layers": config.layers, "heads": config.heads, "ffn_dim": config.ffn, "window": config.window}
    wanted = {name: getattr(sizes, name) for name in found if getattr(sizes, name) is not None}
    for name, size in wanted.items():
        if not 1 <= size <= found[name]:
            raise ValueError(f"{name} {size}: expected 1 to {found[name]}, what the model has")
    if config.item_codes and wanted.get("heads", config.heads) < config.heads:
        raise ValueError("heads: a model with item_codes keeps its width. Prune it first, or train a narrower one")
    if all(size == found[name] for name, size in wanted.items()):
        raise ValueError("nothing to prune: expected fewer layers, heads, feed-forward units, or a smaller window")


def _head_dim(model: SequenceModel) -> int:
    return model.config.dim // model.config.heads


def _batches(histories: Sequence[History]) -> Iterator[list[History]]:
    for begin in range(0, len(histories), _BATCH_USERS):
        yield list(histories[begin : begin + _BATCH_USERS])


def _loss(model: SequenceModel, histories: Sequence[History], objective: Objective) -> float:
    """Mean over batches. Raises FloatingPointError where it is no number."""
    with torch.no_grad():
        losses = [batch_loss(model.eval(), batch, objective).item() for batch in _batches(histories)]
    mean = sum(losses) / len(losses)
    if not math.isfinite(mean):
        raise FloatingPointError(f"the loss of the model is {mean}: its weights overflow")
    return mean


def _without_one(layers: list[int]) -> list[list[int]]:
    return [[*layers[:at], *layers[at + 1 :]] for at in range(len(layers))]


def _of_layers(model: SequenceModel, layers: Sequence[int]) -> SequenceModel:
    smaller = SequenceModel(replace(model.config, layers=len(layers))).to(model.item_embedding.weight)
    weights = {name: weight for name, weight in model.state_dict().items() if not name.startswith("layers.")}
    for row, layer in enumerate(layers):
        weights.update({f"layers.{row}.{name}": w for name, w in model.layers[layer].state_dict().items()})
    smaller.load_state_dict(weights)
    return smaller.eval()


def _importance(model: SequenceModel, histories: Sequence[History], objective: Objective) -> Importance:
    """W · ∂loss/∂W, summed over the rows or columns of W that a part writes with: were they zero, so were the part."""
    config = model.config
    zeros = model.item_embedding.weight.new_zeros
    units = config.ffn if config.block == "transformer" else 0
    sums = Importance(zeros(config.dim), zeros(config.layers, config.heads), zeros(config.layers, units))
    for batch in _batches(histories):
        model.zero_grad(set_to_none=True)
        batch_loss(model, batch, objective).backward()
        changes = {name: (w * w.grad).detach() for name, w in model.named_parameters() if w.grad is not None}
        writing = [w.view(-1, config.dim).sum(0) for name, w in changes.items() if name.endswith(_WRITERS)]
        sums.channels.add_(torch.stack(writing).sum(0).abs())
        for layer in range(config.layers):
            by_head = changes[f"layers.{layer}.out.weight"].view(config.heads, -1)
            sums.heads[layer] += by_head.sum(1).abs()
            if units:
                sums.units[layer] += changes[f"layers.{layer}.ffn_out.weight"].sum(1).abs()
    return sums


def _most(importance: Tensor, count: int | None) -> list[int]:
    """The rows of the greatest, in order."""
    order = torch.sort(importance, descending=True, stable=True).indices
    return sorted(order[: len(importance) if count is None else count].tolist())


def _cut(
    model: SequenceModel, channels: list[int], heads: list[list[int]], units: list[list[int]], window: int
) -> SequenceModel:
    """The model of these parts only."""
    config = replace(model.config, dim=len(channels), heads=len(heads[0]), window=window)
    if config.block == "transformer":
        config = replace(config, ffn_dim=len(units[0]))
    elif window != model.config.window:
        config = replace(config, attention_scale=model.config.scale)
    weights = {f"item_embedding.{name}": weight for name, weight in model.item_embedding.state_dict().items()}
    if not config.item_codes:  # the input is √dim times the row, and stays what it was
        rows = model.item_embedding.weight[:, channels]
        weights["item_embedding.weight"] = rows * (model.config.dim / config.dim) ** 0.5
    weights["type_embedding.weight"] = model.type_embedding.weight[:, channels]
    for row, layer in enumerate(model.layers):
        columns = [head * _head_dim(model) + column for head in heads[row] for column in range(_head_dim(model))]
        for name, weight in layer.state_dict().items():
            weights[f"layers.{row}.{name}"] = _kept(name, weight, channels, columns, heads[row], units[row], window)
    smaller = SequenceModel(config).to(weights["type_embedding.weight"])
    smaller.load_state_dict(weights)
    return smaller.eval()


def _kept(
    name: str,
    weight: Tensor,
    channels: list[int],
    columns: list[int],
    heads: list[int],
    units: list[int],
    window: int,
) -> Tensor:
    """What stays of a layer's tensor; `columns` are those of the heads."""
    if name == "bias_pos":
        return weight[heads, :window]
    if name in ("bias_time", "score.weight"):
        return weight[heads]
    if name.endswith(".bias"):
        return weight[channels]
    if name == "out.weight":
        return weight[columns][:, channels]
    if name == "ffn_out.weight":
        return weight[units][:, channels]
    inside = units if name == "ffn_in.weight" else columns
    parts = weight[channels].split(weight.shape[1] // _PARTS[name], 1)  # side by side
    return torch.cat([part[:, inside] for part in parts], 1)
