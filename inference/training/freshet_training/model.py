"""Banded HSTU in PyTorch. docs/model-format.md states the arithmetic; `forward` is that text, by the book."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import banded_attention
from .packing import Packed
from .time_bucket import TIME_BUCKETS, time_bucket


@dataclass(frozen=True)
class ModelConfig:
    """The keys of config.json that say what is computed."""

    items: int  # rows of the item table, row 0 included
    event_types: int
    dim: int = 64
    layers: int = 4
    heads: int = 2
    window: int = 50  # events that a row attends to, itself included
    time_bias: bool = True
    attention_scale: float | None = None  # None: window
    ln_eps: float = 1e-6
    similarity: str = "cosine"  # or "dot"
    temperature: float = 0.05
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide dim ({self.dim})")
        if self.similarity not in ("cosine", "dot"):
            raise ValueError(f"similarity is {self.similarity!r}, expected cosine or dot")

    @property
    def scale(self) -> float:
        return float(self.window if self.attention_scale is None else self.attention_scale)

    @property
    def exact_history(self) -> int:
        """Newest events that the newest output depends on."""
        return self.layers * (self.window - 1) + 1


class Table(nn.Module):
    """A matrix named `weight`, used as x · W; with `bias`, a row to add."""

    def __init__(self, rows: int, columns: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns))
        if bias:
            self.bias = nn.Parameter(torch.zeros(columns))


class Layer(nn.Module):
    """One block. Its parameters are the tensors `layers.{l}.*` of the model file."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.uvqk = Table(config.dim, 4 * config.dim)
        self.out = Table(config.dim, config.dim, bias=True)
        self.bias_pos = nn.Parameter(torch.empty(config.heads, config.window))
        self.bias_time = nn.Parameter(torch.empty(config.heads, TIME_BUCKETS)) if config.time_bias else None
        nn.init.xavier_uniform_(self.out.weight)
        for weight in (self.uvqk.weight, self.bias_pos, self.bias_time):
            if weight is not None:
                nn.init.normal_(weight, std=0.02)

    def project(self, x: Tensor) -> tuple[Tensor, ...]:
        """u, v, q, k, each [rows, dim]"""
        return F.silu(self.normalise(x) @ self.uvqk.weight).split(self.config.dim, 1)

    def gate(self, u: Tensor, attended: Tensor) -> Tensor:
        return u * self.normalise(attended)

    def output(self, gated: Tensor) -> Tensor:
        return torch.addmm(self.out.bias, gated, self.out.weight)

    def normalise(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], eps=self.config.ln_eps)

    def attend(self, v: Tensor, q: Tensor, k: Tensor, times: Tensor) -> Tensor:
        """One user's attention, densely: all pairs, then the band. [events, dim]"""
        heads, events = self.config.heads, len(q)
        by_head = [x.view(events, heads, -1).transpose(0, 1) for x in (v, q, k)]
        values, queries, keys = by_head
        offsets = torch.arange(events)[:, None] - torch.arange(events)[None, :]
        scores = queries @ keys.transpose(1, 2) + self.bias_pos[:, offsets.clamp(0, self.config.window - 1)]
        if self.bias_time is not None:
            scores = scores + self.bias_time[:, time_bucket(times[:, None] - times[None, :])]
        in_band = (offsets >= 0) & (offsets < self.config.window)
        weights = F.silu(scores).masked_fill(~in_band, 0) / self.config.scale
        return (weights @ values).transpose(0, 1).reshape(events, -1)

    def attend_packed(self, v: Tensor, q: Tensor, k: Tensor, packed: Packed) -> Tensor:
        """The same for a batch of users. [rows, dim]"""
        bias_time = (
            self.bias_pos.new_zeros(self.config.heads, TIME_BUCKETS) if self.bias_time is None else self.bias_time
        )
        return banded_attention(q, k, v, self.bias_pos, bias_time, packed) / self.config.scale


class Hstu(nn.Module):
    """The model. Its state_dict holds exactly the tensors of model.safetensors."""

    def __init__(self, config: ModelConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.dropout = dropout
        self.item_embedding = Table(config.items, config.dim)
        self.type_embedding = Table(config.event_types, config.dim)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        nn.init.trunc_normal_(self.item_embedding.weight, std=0.02)
        nn.init.normal_(self.type_embedding.weight, std=0.02)
        with torch.no_grad():
            self.item_embedding.weight[0] = 0
            self.type_embedding.weight[0] = 0

    def forward(self, items: Tensor, types: Tensor, times: Tensor) -> Tensor:
        """Normalised outputs [events, dim] of one user's events, oldest first; int64 [events] each, times in s."""
        x = self.embed(items, types)
        for layer in self.blocks():
            u, v, q, k = layer.project(x)
            x = x + layer.output(layer.gate(u, layer.attend(v, q, k, times)))
        return self.normalise(x)

    def forward_packed(self, packed: Packed) -> Tensor:
        """The same, with dropout, for a batch of users: [rows, dim], rows as packed, before normalise()."""
        x = self.drop(self.embed(packed.items, packed.types))
        for layer in self.blocks():
            u, v, q, k = layer.project(x)
            x = x + layer.output(self.drop(layer.gate(u, layer.attend_packed(v, q, k, packed))))
        return x

    def blocks(self) -> Iterable[Layer]:
        return cast(Iterable[Layer], self.layers)

    def embed(self, items: Tensor, types: Tensor) -> Tensor:
        scaled = F.embedding(items, self.item_embedding.weight) * math.sqrt(self.config.dim)
        return scaled + F.embedding(types, self.type_embedding.weight)

    def drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def normalise(self, x: Tensor) -> Tensor:
        """User vectors of outputs [rows, dim]."""
        if self.config.similarity == "dot":
            return F.layer_norm(x, x.shape[-1:], eps=self.config.ln_eps)
        return F.normalize(x, dim=1, eps=self.config.norm_eps)

    def candidates(self) -> Tensor:
        """What user vectors are multiplied with to score items: [items, dim], temperature included."""
        table = self.item_embedding.weight
        if self.config.similarity == "dot":
            return table
        return F.normalize(table, dim=1, eps=self.config.norm_eps) / self.config.temperature
