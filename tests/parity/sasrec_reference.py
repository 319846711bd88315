"""SASRec as its two well-known PyTorch versions compute it, for the test of `freshet model convert`: modules with the names and
shapes that their checkpoints have, and one forward pass for all forms, over a window that is padded on its left.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class FeedForward(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(dim, dim, 1), nn.Conv1d(dim, dim, 1)


class Pmixer(nn.Module):
    """pmixer/SASRec.pytorch. `from_one`: positions count from 1 and row 0 is the padding's."""

    def __init__(self, items: int, dim: int, heads: int, layers: int, maxlen: int, *, from_one: bool, norm: str = "query",
                 relu: bool = True) -> None:  # fmt: skip
        super().__init__()
        self.from_one, self.norm, self.relu, self.maxlen = from_one, norm, relu, maxlen
        self.item_emb = nn.Embedding(items + 1, dim)
        self.pos_emb = nn.Embedding(maxlen + from_one, dim)
        self.attention_layernorms = nn.ModuleList(nn.LayerNorm(dim, eps=1e-8) for _ in range(layers))
        self.attention_layers = nn.ModuleList(nn.MultiheadAttention(dim, heads) for _ in range(layers))
        self.forward_layernorms = nn.ModuleList(nn.LayerNorm(dim, eps=1e-8) for _ in range(layers))
        self.forward_layers = nn.ModuleList(FeedForward(dim) for _ in range(layers))
        self.last_layernorm = nn.LayerNorm(dim, eps=1e-8)

    def randomise(self) -> None:
        _randomise(self)
        with torch.no_grad():
            if self.from_one:
                self.item_emb.weight[0] = self.pos_emb.weight[0] = 0

    def scored(self) -> Tensor:
        return self.item_emb.weight

    def forward(self, history: list[int]) -> Tensor:
        items = torch.zeros(self.maxlen, dtype=torch.long)
        recent = torch.tensor(history[-self.maxlen :])
        items[-len(recent) :] = recent
        real = (items != 0).unsqueeze(1)
        positions = torch.arange(self.maxlen)
        if self.from_one:
            positions = (positions + 1) * real.squeeze(1)
        x = self.item_emb(items) * math.sqrt(self.item_emb.embedding_dim) + self.pos_emb(positions)
        keep = torch.ones_like(real) if self.from_one else real
        x = x * keep
        future = torch.ones(self.maxlen, self.maxlen).triu(1).bool()
        for layer in range(len(self.attention_layers)):
            x = self._layer(layer, x, future) * keep
        return self.last_layernorm(x)[-1]

    def _layer(self, layer: int, x: Tensor, future: Tensor) -> Tensor:
        def attend(query: Tensor, keys: Tensor) -> Tensor:
            query, keys = query.unsqueeze(1), keys.unsqueeze(1)
            return self.attention_layers[layer](query, keys, keys, attn_mask=future)[0].squeeze(1)

        def feed_forward(y: Tensor) -> Tensor:
            part = self.forward_layers[layer]
            hidden = part.conv1(y.T.unsqueeze(0))
            return part.conv2(functional.relu(hidden) if self.relu else hidden).squeeze(0).T

        first, second = self.attention_layernorms[layer], self.forward_layernorms[layer]
        if self.norm == "post":
            x = first(x + attend(x, x))
            return second(x + feed_forward(x))
        if self.norm == "pre":
            x = x + attend(first(x), first(x))
            return x + feed_forward(second(x))
        x = second(first(x) + attend(first(x), x))
        return x + feed_forward(x)


class Heads(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query_proj, self.key_proj, self.val_proj = (nn.Linear(dim, dim) for _ in range(3))


class Block(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first_norm, self.second_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.multihead_attention = Heads(dim)
        self.dense1, self.dense2 = nn.Linear(dim, dim), nn.Linear(dim, dim)


class Gsasrec(nn.Module):
    """asash/gSASRec-pytorch. `tied`: items are scored by the table that events come from."""

    def __init__(self, items: int, dim: int, heads: int, layers: int, maxlen: int, *, tied: bool, relu: bool = True) -> None:
        super().__init__()
        self.items, self.heads, self.maxlen, self.relu = items, heads, maxlen, relu
        self.item_embedding = nn.Embedding(items + 2, dim)
        self.position_embedding = nn.Embedding(maxlen, dim)
        self.transformer_blocks = nn.ModuleList(Block(dim) for _ in range(layers))
        self.seq_norm = nn.LayerNorm(dim)
        self.output_embedding = None if tied else nn.Embedding(items + 2, dim)

    def randomise(self) -> None:
        _randomise(self)

    def scored(self) -> Tensor:
        return (self.item_embedding if self.output_embedding is None else self.output_embedding).weight[:-1]

    def forward(self, history: list[int]) -> Tensor:
        items = torch.full((self.maxlen,), self.items + 1)
        recent = torch.tensor(history[-self.maxlen :])
        items[-len(recent) :] = recent
        real = items != self.items + 1
        x = (self.item_embedding(items) + self.position_embedding.weight) * real.unsqueeze(1)
        visible = torch.ones(self.maxlen, self.maxlen).tril().bool() & real
        for block in self.transformer_blocks:
            x = self._block(block, x, visible) * real.unsqueeze(1)
        return self.seq_norm(x)[-1]

    def _block(self, block: Block, x: Tensor, visible: Tensor) -> Tensor:
        query, part = block.first_norm(x), block.multihead_attention
        q, k, v = (
            y.view(self.maxlen, self.heads, -1).transpose(0, 1)
            for y in (part.query_proj(query), part.key_proj(x), part.val_proj(x))
        )
        scores = (q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])).masked_fill(~visible, -math.inf)
        attended = torch.nan_to_num(scores.softmax(-1)) @ v
        y = block.second_norm(query + attended.transpose(0, 1).reshape(self.maxlen, -1))
        hidden = block.dense1(y)
        return y + block.dense2(functional.relu(hidden) if self.relu else hidden)


def _randomise(model: nn.Module) -> None:
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.3)
