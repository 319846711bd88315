"""Model directories: config.json, model.safetensors, items.tsv, event_types.tsv (docs/model-format.md)."""

import json
from dataclasses import asdict, fields
from pathlib import Path

import torch

from . import safetensors
from .files import Write, replace
from .model import Hstu, ModelConfig

_CONSTANT = {"format": "freshet-hstu-1", "block": "hstu", "time_unit": "s"}
VOCABULARY = ("items.tsv", "event_types.tsv")


def save(model: Hstu, vocabulary_from: Path, directory: Path) -> None:
    """Writes the directory, weights as float32; the vocabulary is copied from an export."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**_CONSTANT, **asdict(model.config)}, indent=2) + "\n"
    weights = {name: weight.detach().float().numpy() for name, weight in model.state_dict().items()}
    writes: dict[Path, Write] = {
        directory / "config.json": lambda new: new.write_bytes(text.encode()),
        directory / "model.safetensors": lambda new: safetensors.save(new, weights),
    }
    for name in VOCABULARY:
        content = (vocabulary_from / name).read_bytes()
        writes[directory / name] = lambda new, content=content: new.write_bytes(content)  # type: ignore[misc]
    replace(writes)


def load(directory: Path) -> Hstu:
    """Raises ValueError, naming the file, where keys, tensors or shapes are not those of the format."""
    path = directory / "config.json"
    keys = json.loads(path.read_text(encoding="utf-8"))
    expected = {*_CONSTANT, *(field.name for field in fields(ModelConfig))}
    if set(keys) != expected:
        raise ValueError(f"{path}: missing or unknown keys: {', '.join(sorted(set(keys) ^ expected))}")
    for name, value in _CONSTANT.items():
        if keys.pop(name) != value:
            raise ValueError(f"{path}: {name} must be {value!r}")
    model = Hstu(ModelConfig(**keys))
    weights = safetensors.load(directory / "model.safetensors")
    try:
        model.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})
    except RuntimeError as error:
        raise ValueError(f"{directory / 'model.safetensors'}: {error}") from error
    return model.eval()
