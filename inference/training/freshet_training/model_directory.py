"""Model directories: config.json, model.safetensors, items.tsv, event_types.tsv (docs/model-format.md)."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import safetensors, strict_json
from .files import Write, replace
from .model import SIZES, ModelConfig, SequenceModel, wrong
from .vocabulary import FILES, Vocabulary

_WEIGHTS = "model.safetensors"
_FORMATS = {"hstu": "freshet-hstu-1", "transformer": "freshet-transformer-1"}
_CODES = "item_embedding.codes"
_ONLY_OF = {"hstu": {"attention_scale"}, "transformer": {"attention", "ffn_dim"}}


def save(model: SequenceModel, vocabulary: Vocabulary, directory: Path) -> None:
    """Writes the directory, weights as float32, codes of items as bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_keys(model.config), indent=2) + "\n"
    weights = {name: _stored(weight) for name, weight in model.state_dict().items()}
    beside = {"config.json": text.encode(), **vocabulary.files()}
    digests = {name: _digest(content) for name, content in beside.items()}
    writes: dict[Path, Write] = {
        directory / name: lambda new, content=content: new.write_bytes(content)  # type: ignore[misc]
        for name, content in beside.items()
    }
    replace({**writes, directory / _WEIGHTS: lambda new: safetensors.save(new, weights, digests)})


def load(directory: Path) -> SequenceModel:
    """Raises ValueError, naming the file, where keys, tensors or shapes are not those of the format."""
    path = directory / "config.json"
    try:
        keys = _read_keys(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    path = directory / _WEIGHTS
    weights = safetensors.load(path)
    try:
        config = ModelConfig(**keys, item_codes=_item_codes(weights))
        _check_tables(config, weights)
        model = SequenceModel(config)
        _check_weights(model, weights)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    model.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})
    _check_digests(directory)
    return model.eval()


def _item_codes(weights: Mapping[str, safetensors.Array]) -> int | None:
    codes = weights.get(_CODES)
    if codes is not None and codes.ndim != 2:
        raise ValueError(f"{_CODES} is {list(codes.shape)}, expected [items, item_codes]")
    return None if codes is None else codes.shape[1]


def _check_tables(config: ModelConfig, weights: Mapping[str, safetensors.Array]) -> None:
    """What may be larger than memory, before there is a model of it."""
    tables = {
        "item_embedding.weight": (config.items, config.dim),
        "type_embedding.weight": (config.event_types, config.dim),
    }
    if config.item_codes:
        tables = {**tables, _CODES: (config.items, config.item_codes)}
        tables.pop("item_embedding.weight")
    for name, shape in tables.items():
        if name in weights and weights[name].shape != shape:
            raise ValueError(f"{name} is {list(weights[name].shape)}, expected {list(shape)} by config.json")


def _check_weights(model: SequenceModel, weights: Mapping[str, safetensors.Array]) -> None:
    expected = model.state_dict()
    for name in sorted({*expected, *weights}):
        if name not in weights:
            raise ValueError(f"{name} is missing")
        if name not in expected:
            raise ValueError(f"{name} is no tensor of a {model.config.block} model with {model.config.layers} layers")
        weight, shape = weights[name], list(expected[name].shape)
        if list(weight.shape) != shape:
            raise ValueError(f"{name} is {list(weight.shape)}, expected {shape} by config.json")
        dtype = np.uint8 if name == _CODES else np.float32
        if weight.dtype != dtype:
            raise ValueError(f"{name} is of {weight.dtype.name}, expected {np.dtype(dtype).name}")
        if not np.isfinite(weight).all():
            raise ValueError(f"{name} holds numbers that are not finite")


def _check_digests(directory: Path) -> None:
    """Raises ValueError, naming both files, where one is not of the model that the weights were written with."""
    said = safetensors.metadata(directory / _WEIGHTS)
    for name in ("config.json", *FILES):
        if name in said and (found := _digest((directory / name).read_bytes())) != said[name]:
            raise ValueError(
                f"{directory / name}: is {found}, expected {said[name]} by {_WEIGHTS}: files of two models, or changed "
                "since"
            )


def _digest(content: bytes) -> str:
    return f"crc32:{zlib.crc32(content):08x}"


def _stored(weight: Tensor) -> safetensors.Array:
    values = weight.detach().cpu()
    array: safetensors.Array = (values.float() if values.is_floating_point() else values).numpy()
    return array


def _read_keys(path: Path) -> dict[str, Any]:
    """Of config.json, for ModelConfig. Raises ValueError, in the engine's words, for what that would not load."""
    keys = strict_json.parse(path.read_bytes())
    if not isinstance(keys, dict):
        raise ValueError("not a JSON object")
    block = keys.get("block")
    if not isinstance(block, str) or block not in _FORMATS:
        raise wrong("block", block, " or ".join(f'"{name}"' for name in _FORMATS))
    for name, value in _constant(block).items():
        if (found := keys.pop(name, None)) != value:
            raise wrong(name, found, f'"{value}"')
    known = _config_keys(block)
    for name in keys:
        if name not in known:
            raise ValueError(f'{name}: unknown key for block "{block}"')
    if keys.get("similarity") == "dot" and keys.get("temperature") is None:  # which has none
        keys.pop("temperature", None)
        known.remove("temperature")
    for name in known:
        if name not in keys and name != "attention_scale":
            raise ValueError(f"{name}: missing")
    if block == "transformer" and keys["ffn_dim"] == 0:  # ModelConfig's word for twice the width
        raise wrong("ffn_dim", 0, f"a whole number from 1 to {SIZES['ffn_dim'][1]}")
    ModelConfig(**keys)
    return keys


def load_vocabulary(directory: Path, config: ModelConfig) -> Vocabulary:
    """Raises ValueError, naming the file, where it is not that of the model."""
    vocabulary = Vocabulary.load(directory)
    for name, names, rows in (
        ("items.tsv", vocabulary.items, config.items),
        ("event_types.tsv", vocabulary.event_types, config.event_types),
    ):
        if len(names) != rows:
            raise ValueError(f"{directory / name}: {len(names)} rows, expected {rows} by config.json")
    return vocabulary


def _constant(block: str) -> dict[str, str]:
    return {"format": _FORMATS[block], "time_unit": "s"}


def _config_keys(block: str) -> list[str]:
    others = {"item_codes"}.union(*(keys for name, keys in _ONLY_OF.items() if name != block))
    return [field.name for field in fields(ModelConfig) if field.name not in others]


def _keys(config: ModelConfig) -> dict[str, object]:
    """config.json: `block` right behind `format`, and only what this kind of block knows."""
    values = {**asdict(config), "ffn_dim": config.ffn}
    head = {"format": _FORMATS[config.block], "block": config.block, "time_unit": "s"}
    return {**head, **{key: values[key] for key in _config_keys(config.block) if key != "block"}}
