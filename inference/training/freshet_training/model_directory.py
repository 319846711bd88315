"""Model directories: config.json, model.safetensors, items.tsv, event_types.tsv (docs/model-format.md)."""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import safetensors
from .files import Write, replace
from .model import ModelConfig, SequenceModel
from .vocabulary import Vocabulary

_FORMATS = {"hstu": "freshet-hstu-1", "transformer": "freshet-transformer-1"}
_ONLY_OF = {"hstu": {"attention_scale"}, "transformer": {"attention", "ffn_dim"}}


def save(model: SequenceModel, vocabulary: Vocabulary, directory: Path) -> None:
    """Writes the directory, weights as float32, codes of items as bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_keys(model.config), indent=2) + "\n"
    weights = {name: _stored(weight) for name, weight in model.state_dict().items()}
    writes: dict[Path, Write] = {
        directory / "config.json": lambda new: new.write_bytes(text.encode()),
        directory / "model.safetensors": lambda new: safetensors.save(new, weights),
    }
    for name, content in vocabulary.files().items():
        writes[directory / name] = lambda new, content=content: new.write_bytes(content)  # type: ignore[misc]
    replace(writes)


def load(directory: Path) -> SequenceModel:
    """Raises ValueError, naming the file, where keys, tensors or shapes are not those of the format."""
    path = directory / "config.json"
    keys = _read_keys(path)
    if keys.get("block") not in _FORMATS:
        raise ValueError(f"{path}: block is {keys.get('block')!r}, expected {' or '.join(_FORMATS)}")
    expected = {**_constant(keys["block"]), **dict.fromkeys(_config_keys(keys["block"]))}
    if set(keys) != set(expected):
        raise ValueError(f"{path}: missing or unknown keys: {', '.join(sorted(set(keys) ^ set(expected)))}")
    for name, value in _constant(keys["block"]).items():
        if keys.pop(name) != value:
            raise ValueError(f"{path}: {name} must be {value!r}")
    weights = safetensors.load(directory / "model.safetensors")
    for name, weight in weights.items():
        if not np.isfinite(weight).all():
            raise ValueError(f"{directory / 'model.safetensors'}: {name} holds numbers that are not finite")
    codes = weights.get("item_embedding.codes")
    try:
        model = SequenceModel(ModelConfig(**keys, item_codes=None if codes is None else codes.shape[-1]))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    try:
        model.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})
    except RuntimeError as error:
        raise ValueError(f"{directory / 'model.safetensors'}: {error}") from error
    return model.eval()


def _stored(weight: Tensor) -> safetensors.Array:
    values = weight.detach().cpu()
    array: safetensors.Array = (values.float() if values.is_floating_point() else values).numpy()
    return array


def _read_keys(path: Path) -> dict[str, Any]:
    try:
        keys = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from error
    if not isinstance(keys, dict):
        raise ValueError(f"{path}: not a JSON object")
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
