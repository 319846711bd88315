"""Banded HSTU one event at a time, in NumPy over rings of keys and values: written from docs/model-format.md alone.

Shares nothing with freshet_training but the names of the tensors.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def _normalise(x: Floats, eps: float) -> Floats:
    centred = x - x.mean()
    return centred / np.sqrt((centred * centred).mean() + eps)


def _silu(x: Floats) -> Floats:
    return x / (1 + np.exp(-x))


def _bucket(seconds: int) -> int:
    return min(128, int(np.floor(np.log(max(abs(seconds), 1)) / 0.301)))


class RingStep:
    """One user's state. `weights`: the tensors of model.safetensors; `config`: the keys of config.json."""

    def __init__(self, weights: Mapping[str, Floats], config: Mapping[str, Any]) -> None:
        self.weights, self.config = weights, config
        self.events = 0
        layers, window, dim = config["layers"], config["window"], config["dim"]
        self.keys = np.zeros((layers, window, dim), weights["item_embedding.weight"].dtype)
        self.values = np.zeros_like(self.keys)
        self.times = [0] * window

    def take(self, item: int, event_type: int, time: int) -> Floats:
        """Takes in the next event; the normalised output."""
        dim, eps = self.config["dim"], self.config["ln_eps"]
        self.times[self.events % self.config["window"]] = time
        x = self.weights["item_embedding.weight"][item] * np.sqrt(dim).astype(self.keys.dtype)
        x = x + self.weights["type_embedding.weight"][event_type]
        for layer in range(self.config["layers"]):
            u, v, q, k = np.split(_silu(_normalise(x, eps) @ self._weight(layer, "uvqk.weight")), 4)
            self.keys[layer, self.events % self.config["window"]] = k
            self.values[layer, self.events % self.config["window"]] = v
            gated = u * _normalise(self._attend(layer, q, time), eps)
            x = x + gated @ self._weight(layer, "out.weight") + self._weight(layer, "out.bias")
        self.events += 1
        if self.config["similarity"] == "dot":
            return _normalise(x, eps)
        return x / max(np.sqrt((x * x).sum()), self.config["norm_eps"])

    def _attend(self, layer: int, query: Floats, time: int) -> Floats:
        heads, window = self.config["heads"], self.config["window"]
        width = len(query) // heads
        out = np.zeros_like(query)
        for offset in range(min(self.events, window - 1) + 1):
            slot = (self.events - offset) % window
            for head in range(heads):
                part = slice(head * width, (head + 1) * width)
                score = query[part] @ self.keys[layer, slot, part] + self._weight(layer, "bias_pos")[head, offset]
                if self.config["time_bias"]:
                    score += self._weight(layer, "bias_time")[head, _bucket(time - self.times[slot])]
                out[part] += _silu(score) / (self.config["attention_scale"] or window) * self.values[layer, slot, part]
        return out

    def _weight(self, layer: int, name: str) -> Floats:
        return self.weights[f"layers.{layer}.{name}"]
