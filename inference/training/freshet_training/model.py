"""The models in PyTorch. docs/model-format.md states the arithmetic; `forward` is that text, by the book."""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import UnionType
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import additive_attention, silu_attention, softmax_attention
from .item_codes import CodedTable
from .packing import Packed
from .time_bucket import TIME_BUCKETS, time_bucket

BLOCKS = ("hstu", "transformer")
ATTENTIONS = ("softmax", "additive")
SIMILARITIES = ("cosine", "dot")
# What docs/model-format.md allows, and the engine loads.
SIZES = {
    "items": (1, 1 << 30),
    "event_types": (1, 1 << 20),
    "dim": (1, 4096),
    "layers": (1, 64),
    "heads": (1, 4096),
    "window": (1, 1 << 16),
    "ffn_dim": (0, 1 << 14),
}
NUMBERS = (1e-30, 1e30)


@dataclass(frozen=True)
class ModelConfig:
    """The keys of config.json that say what is computed, and how items are stored."""

    items: int  # rows of the item table, row 0 included
    event_types: int
    dim: int = 64
    layers: int = 4
    heads: int = 2
    window: int = 50  # events that a row attends to, itself included
    time_bias: bool = True
    block: str = "hstu"  # or "transformer"
    attention: str = "softmax"  # or "additive": of transformer
    ffn_dim: int = 0  # width of the gated feed-forward part of transformer; 0: 2 · dim
    attention_scale: float | None = None  # None: window; of hstu
    ln_eps: float = 1e-6
    similarity: str = "cosine"  # or "dot"
    temperature: float = 0.05
    norm_eps: float = 1e-6
    item_codes: int | None = (
        None  # bytes that stand for an item in model.safetensors, not in config.json; None: its row
    )

    def __post_init__(self) -> None:
        """Raises ValueError, in the engine's words, for what it would not load."""
        for name, (least, most) in SIZES.items():
            size = getattr(self, name)
            if not _is_number(size, int) or not least <= size <= most:
                raise wrong(name, size, f"a whole number from {least} to {most}")
        for name in ("attention_scale", "ln_eps", "temperature", "norm_eps"):
            number = getattr(self, name)
            if name == "attention_scale" and number is None:
                continue
            if not _is_number(number, int | float) or not NUMBERS[0] <= number <= NUMBERS[1]:
                raise wrong(name, number, "a number from 1e-30 to 1e30")
        if not isinstance(self.time_bias, bool):
            raise wrong("time_bias", self.time_bias, "true or false")
        for name, known in (("similarity", SIMILARITIES), ("block", BLOCKS), ("attention", ATTENTIONS)):
            if getattr(self, name) not in known:
                raise wrong(name, getattr(self, name), " or ".join(f'"{choice}"' for choice in known))
        if self.dim % self.heads:
            raise wrong("heads", self.heads, f"a divisor of dim {self.dim}")
        if self.item_codes is not None and (self.item_codes < 1 or self.dim % self.item_codes):
            raise ValueError(f"item_codes ({self.item_codes}) must divide dim ({self.dim})")

    @property
    def ffn(self) -> int:
        return self.ffn_dim or 2 * self.dim

    @property
    def scale(self) -> float:
        return float(self.window if self.attention_scale is None else self.attention_scale)

    @property
    def exact_history(self) -> int:
        """Newest events that the newest output depends on."""
        return self.layers * (self.window - 1) + 1


def wrong(name: str, value: object, expected: str) -> ValueError:
    return ValueError(f"{name}: {json.dumps(value, default=repr)}, expected {expected}")


def _is_number(value: object, kind: type | UnionType) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


class Table(nn.Module):
    """A matrix named `weight`, used as x · W; with `bias`, a row to add."""

    def __init__(self, rows: int, columns: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns))
        if bias:
            self.bias = nn.Parameter(torch.zeros(columns))


Drop = Callable[[Tensor], Tensor]


class Layer(nn.Module):
    """One block: what both kinds share. Its parameters are the tensors `layers.{l}.*` of the model file."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.bias_pos = nn.Parameter(torch.empty(config.heads, config.window))
        self.bias_time = nn.Parameter(torch.empty(config.heads, TIME_BUCKETS)) if config.time_bias else None

    def init_biases(self) -> None:
        for weight in (self.bias_pos, self.bias_time):
            if weight is not None:
                nn.init.normal_(weight, std=0.02)

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        """One user's rows [events, dim], times [events] in s: the rows behind this block."""
        raise NotImplementedError

    def forward_packed(self, x: Tensor, packed: Packed, drop: Drop) -> Tensor:
        """The same for a batch of users: [rows, dim]."""
        raise NotImplementedError

    def normalise(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (self.config.dim,), eps=self.config.ln_eps)

    def by_head(self, x: Tensor) -> Tensor:
        """[events, dim] to [heads, events, head_dim]"""
        return x.view(-1, self.config.heads, self.config.dim // self.config.heads).transpose(0, 1)

    def biases(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Of all pairs of one user's events: their sum [heads, events, events], and whether a pair is in the band."""
        index = torch.arange(times.shape[0], device=times.device)
        offsets = index[:, None] - index[None, :]
        bias = self.bias_pos[:, offsets.clamp(0, self.config.window - 1)]
        if self.bias_time is not None:
            bias = bias + self.bias_time[:, time_bucket(times[:, None] - times[None, :])]
        return bias, (offsets >= 0) & (offsets < self.config.window)

    def time_biases(self) -> Tensor:
        """bias_time, or zeros."""
        zeros = self.bias_pos.new_zeros(self.config.heads, TIME_BUCKETS)
        return zeros if self.bias_time is None else self.bias_time


class HstuLayer(Layer):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.uvqk = Table(config.dim, 4 * config.dim)
        self.out = Table(config.dim, config.dim, bias=True)
        nn.init.xavier_uniform_(self.out.weight)
        nn.init.normal_(self.uvqk.weight, std=0.02)
        self.init_biases()

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        u, v, q, k = self.project(x)
        return x + self.output(self.gate(u, self.attend(v, q, k, times)))

    def forward_packed(self, x: Tensor, packed: Packed, drop: Drop) -> Tensor:
        u, v, q, k = self.project(x)
        attended = silu_attention(q, k, v, self.bias_pos, self.time_biases(), packed) / self.config.scale
        return x + self.output(drop(self.gate(u, attended)))

    def project(self, x: Tensor) -> tuple[Tensor, ...]:
        """u, v, q, k, each [rows, dim]"""
        return F.silu(self.normalise(x) @ self.uvqk.weight).split(self.config.dim, 1)

    def gate(self, u: Tensor, attended: Tensor) -> Tensor:
        return u * self.normalise(attended)

    def output(self, gated: Tensor) -> Tensor:
        return torch.addmm(self.out.bias, gated, self.out.weight)

    def attend(self, v: Tensor, q: Tensor, k: Tensor, times: Tensor) -> Tensor:
        """All pairs, then the band. [events, dim]"""
        values, queries, keys = (self.by_head(x) for x in (v, q, k))
        bias, in_band = self.biases(times)
        weights = F.silu(queries @ keys.transpose(1, 2) + bias).masked_fill(~in_band, 0) / self.config.scale
        return (weights @ values).transpose(0, 1).flatten(1)


class TransformerLayer(Layer):
    """Pre-norm attention with softmax, then a gated feed-forward part (SwiGLU), as in LiGR and eSASRec."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.qkv = Table(config.dim, 3 * config.dim)
        self.out = Table(config.dim, config.dim, bias=True)
        self.ffn_in = Table(config.dim, 2 * config.ffn)
        self.ffn_out = Table(config.ffn, config.dim, bias=True)
        for table in (self.qkv, self.out, self.ffn_in, self.ffn_out):
            nn.init.xavier_uniform_(table.weight)
        if config.attention == "additive":
            self.score = Table(config.heads, config.dim // config.heads)
            nn.init.xavier_uniform_(self.score.weight)
        self.init_biases()

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        q, k, v = self.project(x)
        x = x + torch.addmm(self.out.bias, self.attend(q, k, v, times), self.out.weight)
        return x + self.feed_forward(x)

    def forward_packed(self, x: Tensor, packed: Packed, drop: Drop) -> Tensor:
        q, k, v = self.project(x)
        if self.config.attention == "additive":
            attended = additive_attention(q, k, v, self.score.weight, self.bias_pos, self.time_biases(), packed)
        else:
            attended = softmax_attention(q, k, v, self.bias_pos, self.time_biases(), packed)
        x = x + drop(torch.addmm(self.out.bias, attended, self.out.weight))
        return x + drop(self.feed_forward(x))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q (scaled, where scores are products), k, v, each [rows, dim]"""
        q, k, v = (self.normalise(x) @ self.qkv.weight).split(self.config.dim, 1)
        if self.config.attention == "softmax":
            q = q / math.sqrt(self.config.dim // self.config.heads)
        return q, k, v

    def feed_forward(self, x: Tensor) -> Tensor:
        gate, up = (self.normalise(x) @ self.ffn_in.weight).split(self.config.ffn, 1)
        return torch.addmm(self.ffn_out.bias, F.silu(gate) * up, self.ffn_out.weight)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, times: Tensor) -> Tensor:
        """All pairs, then the band. [events, dim]"""
        queries, keys, values = (self.by_head(x) for x in (q, k, v))
        if self.config.attention == "additive":
            pairs = torch.tanh(queries[:, :, None] + keys[:, None])
            scores = (pairs * self.score.weight[:, None, None]).sum(3)
        else:
            scores = queries @ keys.transpose(1, 2)
        bias, in_band = self.biases(times)
        weights = torch.softmax((scores + bias).masked_fill(~in_band, -math.inf), 2)
        return (weights @ values).transpose(0, 1).flatten(1)


class SequenceModel(nn.Module):
    """The model. Its state_dict holds exactly the tensors of model.safetensors."""

    def __init__(self, config: ModelConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.dropout = dropout
        coded = CodedTable(config.items, config.dim, config.item_codes) if config.item_codes else None
        self.item_embedding = coded or Table(config.items, config.dim)
        self.type_embedding = Table(config.event_types, config.dim)
        layer = HstuLayer if config.block == "hstu" else TransformerLayer
        self.layers = nn.ModuleList(layer(config) for _ in range(config.layers))
        nn.init.trunc_normal_(coded.centroids if coded else self.item_embedding.weight, std=0.02)
        nn.init.normal_(self.type_embedding.weight, std=0.02)
        with torch.no_grad():
            if coded:
                coded.centroids[:, 0] = 0
            else:
                self.item_embedding.weight[0] = 0
            self.type_embedding.weight[0] = 0

    def forward(self, items: Tensor, types: Tensor, times: Tensor) -> Tensor:
        """Normalised outputs [events, dim] of one user's events, oldest first; int64 [events] each, times in s."""
        x = self.embed(items, types)
        for layer in self.blocks():
            x = layer(x, times)
        return self.normalise(x)

    def forward_packed(self, packed: Packed) -> Tensor:
        """The same, with dropout, for a batch of users: [rows, dim], rows as packed, before normalise()."""
        x = self.drop(self.embed(packed.items, packed.types))
        for layer in self.blocks():
            x = layer.forward_packed(x, packed, self.drop)
        return x

    @property
    def device(self) -> torch.device:
        return self.type_embedding.weight.device

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
            return F.layer_norm(x, (self.config.dim,), eps=self.config.ln_eps)
        return F.normalize(x, dim=1, eps=self.config.norm_eps)

    def candidates(self) -> Tensor:
        """What user vectors are multiplied with to score items: [items, dim], temperature included."""
        table = self.item_embedding.weight
        if self.config.similarity == "dot":
            return table
        return F.normalize(table, dim=1, eps=self.config.norm_eps) / self.config.temperature
