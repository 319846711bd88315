"""What a training run goes on from after it was killed."""

import hashlib
import io
import json
import pickle
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .files import replace

# Before what PyTorch writes: this line, and a digest of what follows, as flipped bytes would go unnoticed there.
MAGIC = b"freshet-checkpoint-2\n"
# PyTorch 1.13 reads pickles of tensors, text and whole numbers only, when asked to read no others.
_AS_TEXT = ("purpose", "epoch", "best_epoch", "best_ndcg", "numpy_random")


@dataclass(frozen=True)
class Checkpoint:
    purpose: dict[str, Any]  # what is trained on what; another run cannot go on from here
    epoch: int
    order: Tensor
    losses: Tensor
    model: dict[str, Tensor]
    optimizer: dict[int, dict[str, Tensor]]  # the state of each parameter
    best_epoch: int
    best_ndcg: float
    best: dict[str, Tensor]
    torch_random: Tensor
    numpy_random: dict[str, Any]

    def save(self, path: Path) -> None:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        text = json.dumps({name: values.pop(name) for name in _AS_TEXT})
        path.parent.mkdir(parents=True, exist_ok=True)
        # By way of memory: where the disk is full, PyTorch 1.13 would end the process, and others name no file.
        buffer = io.BytesIO()
        torch.save({"text": text, **values}, buffer)
        content = buffer.getbuffer()
        head = MAGIC + hashlib.sha256(content).digest()

        def write(new: Path) -> None:
            with new.open("wb") as file:
                file.write(head)
                file.write(content)

        replace({path: write})

    @staticmethod
    def load(path: Path) -> "Checkpoint":
        """Raises ValueError, naming the file, where it is no checkpoint, or not as it was written."""
        data = path.read_bytes()
        if not data.startswith(MAGIC):
            raise ValueError(f"{path}: not a checkpoint of this version ({MAGIC.decode().strip()})")
        content = memoryview(data)[len(MAGIC) + hashlib.sha256().digest_size :]
        if hashlib.sha256(content).digest() != data[len(MAGIC) : len(data) - len(content)]:
            raise ValueError(f"{path}: damaged: not the bytes that were written. Train without --resume")
        try:
            values = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ValueError(f"{path}: not a checkpoint: {error}") from error
        return Checkpoint(**json.loads(values.pop("text")), **values)

    def check_purpose(self, purpose: dict[str, Any], path: Path) -> None:
        """Raises ValueError where `purpose` is not what this was saved for, naming file and first difference."""
        wanted = json.loads(json.dumps(purpose))
        found, asked = _flat(self.purpose), _flat(wanted)
        # An option that a checkpoint of an older version does not know, and that is not used, is None here and there.
        name = next((name for name in sorted({*found, *asked}) if found.get(name) != asked.get(name)), None)
        if name is None:
            return
        raise ValueError(
            f"{path}: the checkpoint is of another run: its {name} is {found.get(name)!r}, expected "
            f"{asked.get(name)!r}. Train with the same data and options, or without --resume"
        )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value})
    return flat
