"""The models one event at a time, in NumPy over rings of keys and values: written from docs/model-format.md alone.

Shares nothing with freshet_training but the names of the tensors.
"""

from collections.abc import Callable, Mapping
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
            x = (
                self._transformer(layer, x, time)
                if self.config["block"] == "transformer"
                else self._hstu(layer, x, time)
            )
        self.events += 1
        if self.config["similarity"] == "dot":
            return _normalise(x, eps)
        return x / max(np.sqrt((x * x).sum()), self.config["norm_eps"])

    def _hstu(self, layer: int, x: Floats, time: int) -> Floats:
        eps, window = self.config["ln_eps"], self.config["window"]
        u, v, q, k = np.split(_silu(_normalise(x, eps) @ self._weight(layer, "uvqk.weight")), 4)
        self._store(layer, k, v)
        weigh = lambda scores: _silu(scores) / (self.config["attention_scale"] or window)  # noqa: E731
        gated = u * _normalise(self._attend(layer, q, time, weigh), eps)
        return x + gated @ self._weight(layer, "out.weight") + self._weight(layer, "out.bias")

    def _transformer(self, layer: int, x: Floats, time: int) -> Floats:
        eps = self.config["ln_eps"]
        q, k, v = np.split(_normalise(x, eps) @ self._weight(layer, "qkv.weight"), 3)
        self._store(layer, k, v)
        weigh = lambda scores: np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()  # noqa: E731
        attended = self._attend(layer, q, time, weigh)
        x = x + attended @ self._weight(layer, "out.weight") + self._weight(layer, "out.bias")
        gate, up = np.split(_normalise(x, eps) @ self._weight(layer, "ffn_in.weight"), 2)
        return x + (_silu(gate) * up) @ self._weight(layer, "ffn_out.weight") + self._weight(layer, "ffn_out.bias")

    def _store(self, layer: int, key: Floats, value: Floats) -> None:
        self.keys[layer, self.events % self.config["window"]] = key
        self.values[layer, self.events % self.config["window"]] = value

    def _attend(self, layer: int, query: Floats, time: int, weigh: Callable[[Floats], Floats]) -> Floats:
        heads, window = self.config["heads"], self.config["window"]
        width = len(query) // heads
        out = np.zeros_like(query)
        slots = [(self.events - offset) % window for offset in range(min(self.events, window - 1) + 1)]
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            scores = np.array([self._score(layer, head, query[part], self.keys[layer, slot, part]) for slot in slots])
            scores += self._weight(layer, "bias_pos")[head, : len(slots)]
            if self.config["time_bias"]:
                buckets = [_bucket(time - self.times[slot]) for slot in slots]
                scores += self._weight(layer, "bias_time")[head, buckets]
            out[part] = weigh(scores) @ self.values[layer, slots, part]
        return out

    def _score(self, layer: int, head: int, query: Floats, key: Floats) -> Floats:
        if self.config["block"] == "hstu":
            return query @ key
        if self.config["attention"] == "additive":
            return self._weight(layer, "score.weight")[head] @ np.tanh(query + key)
        return query @ key / np.sqrt(len(query)).astype(query.dtype)

    def _weight(self, layer: int, name: str) -> Floats:
        return self.weights[f"layers.{layer}.{name}"]
