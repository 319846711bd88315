"""Banded attention over packed histories: SiLU and softmax with their gradients, additive by PyTorch's."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .packing import HIDDEN, Packed, windows

_NEVER = -1e4  # a score whose SiLU, exponential and derivative are exactly 0
_CHUNK_ELEMENTS = 1 << 22  # of what additive scores sum over, held at a time


def silu_attention(q: Tensor, k: Tensor, v: Tensor, bias_pos: Tensor, bias_time: Tensor, packed: Packed) -> Tensor:
    """Σ_j SiLU(q_i · k_j + bias_pos[i-j] + bias_time[bucket]) · v_j for each head.

    q, k, v, result [rows, dim], heads side by side; bias_pos [heads, window]; bias_time [heads, buckets].
    """
    return _BandedAttention.apply(q, k, v, bias_pos, _hiding(bias_time), packed, False)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, bias_pos: Tensor, bias_time: Tensor, packed: Packed) -> Tensor:
    """The same with softmax over j in place of SiLU. Nothing scales q · k."""
    return _BandedAttention.apply(q, k, v, bias_pos, _hiding(bias_time), packed, True)


def additive_attention(
    q: Tensor, k: Tensor, v: Tensor, weight: Tensor, bias_pos: Tensor, bias_time: Tensor, packed: Packed
) -> Tensor:
    """softmax_attention() with the score weight · tanh(q_i + k_j) (Bahdanau et al. 2015); weight [heads, head_dim]."""
    heads, rows = len(weight), len(q)
    blocks = (heads, rows // packed.block, packed.block, -1)
    queries, keys, values = (x.view(rows, heads, -1).transpose(0, 1).reshape(blocks) for x in (q, k, v))
    keys, values = _span(keys, packed.reach), _span(values, packed.reach)
    chunk = max(1, _CHUNK_ELEMENTS // (heads * packed.block * keys.shape[2] * keys.shape[3]))
    scores = [
        checkpoint(_additive_scores, queries[:, part], keys[:, part], weight, use_reentrant=False)
        for part in (slice(begin, begin + chunk) for begin in range(0, queries.shape[1], chunk))
    ]
    bias = _hiding(bias_time)[:, packed.buckets] + bias_pos[:, packed.offsets].unsqueeze(1)
    weights = torch.softmax(torch.cat(scores, 1) + bias, 3)
    return (weights @ values).reshape(heads, rows, -1).transpose(0, 1).reshape(rows, -1)


def _additive_scores(queries: Tensor, keys: Tensor, weight: Tensor) -> Tensor:
    """[heads, blocks, block, span]"""
    return torch.einsum("abqsw,aw->abqs", torch.tanh(queries.unsqueeze(3) + keys.unsqueeze(2)), weight)


def _span(x: Tensor, reach: int) -> Tensor:
    """[heads, blocks, block, width] to [heads, blocks, span, width]: each block behind the `reach` before it."""
    padded = torch.cat([x.new_zeros(len(x), reach, *x.shape[2:]), x], 1)
    return torch.cat([padded[:, step : step + x.shape[1]] for step in range(reach + 1)], 2)


def _hiding(bias_time: Tensor) -> Tensor:
    return torch.cat([bias_time, bias_time.new_full((bias_time.shape[0], 1), _NEVER)], 1)


class _BandedAttention(torch.autograd.Function):
    """Heads follow one another as if they were more histories: [heads · blocks, block or span, head_dim]."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias_pos: Tensor, bias_time: Tensor, packed: Packed, softmax: bool
    ) -> Tensor:
        heads = bias_pos.shape[0]
        queries = _by_head(q, heads, 0).view(-1, packed.block, q.shape[1] // heads)
        keys, values = (_by_head(x, heads, packed.reach * packed.block) for x in (k, v))
        scores = torch.baddbmm(
            _bias(bias_pos, bias_time, packed), queries, windows(keys, packed.block, packed.reach).transpose(1, 2)
        )
        gate = scores.new_zeros(0) if softmax else torch.sigmoid(scores)
        weights = torch.softmax(scores, 2) if softmax else scores.mul_(gate)
        out = torch.bmm(weights, windows(values, packed.block, packed.reach))
        ctx.packed, ctx.heads, ctx.window = packed, heads, bias_pos.shape[1]
        ctx.save_for_backward(queries, keys, values, gate, weights)
        return _side_by_side(out, heads)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, gate, weights = ctx.saved_tensors
        packed: Packed = ctx.packed
        heads: int = ctx.heads
        grad_out = _by_head(grad, heads, 0).view_as(queries)
        grad_values = _fold(torch.bmm(weights.transpose(1, 2), grad_out), packed.reach)
        grad_scores = torch.bmm(grad_out, windows(values, packed.block, packed.reach).transpose(1, 2))
        if len(gate):  # SiLU'(s) = gate + SiLU(s) · (1 - gate)
            grad_scores.mul_(torch.addcmul(gate + weights, gate, weights, value=-1))
        else:
            grad_scores.sub_((grad_scores * weights).sum(2, keepdim=True)).mul_(weights)
        grad_queries = torch.bmm(grad_scores, windows(keys, packed.block, packed.reach))
        grad_keys = _fold(torch.bmm(grad_scores.transpose(1, 2), queries), packed.reach)
        return (
            *(_side_by_side(x, heads) for x in (grad_queries, grad_keys, grad_values)),
            _grad_bias_pos(grad_scores, heads, packed, ctx.window),
            _grad_bias_time(grad_scores, heads, packed) if ctx.needs_input_grad[4] else None,
            None,
            None,
        )


def _by_head(x: Tensor, heads: int, padding: int) -> Tensor:
    """[rows, dim] to [padding + heads · rows, head_dim], `padding` rows of zeros in front."""
    rows, dim = x.shape
    out = x.new_zeros(padding + heads * rows, dim // heads)
    out[padding:].view(heads, rows, -1).copy_(x.view(rows, heads, -1).transpose(0, 1))
    return out


def _side_by_side(x: Tensor, heads: int) -> Tensor:
    """The inverse of _by_head without padding, from any shape [.., head_dim]."""
    return x.reshape(heads, -1, x.shape[-1]).transpose(0, 1).reshape(-1, heads * x.shape[-1])


def _bias(bias_pos: Tensor, bias_time: Tensor, packed: Packed) -> Tensor:
    """[heads · blocks, block, span]"""
    bias = bias_time.index_select(1, packed.buckets.view(-1)).view(bias_pos.shape[0], -1, packed.block, packed.span)
    return bias.add_(bias_pos[:, packed.offsets].unsqueeze(1)).view(-1, packed.block, packed.span)


def _fold(x: Tensor, reach: int) -> Tensor:
    """Adds up what overlapping windows [blocks, span, width] hold for one row: [blocks, block, width]."""
    blocks, span, width = x.shape
    block = span // (reach + 1)
    out = x.new_zeros((reach + blocks), block, width)
    for step in range(reach + 1):
        out[step : step + blocks] += x[:, step * block : (step + 1) * block]
    return out[reach:]


def _grad_bias_pos(grad_scores: Tensor, heads: int, packed: Packed, window: int) -> Tensor:
    by_offset = grad_scores.view(heads, -1, packed.block * packed.span).sum(1)
    return grad_scores.new_zeros(heads, window).index_add_(1, packed.offsets.view(-1), by_offset)


def _grad_bias_time(grad_scores: Tensor, heads: int, packed: Packed) -> Tensor:
    buckets = packed.buckets.view(-1)
    if grad_scores.is_cuda:  # where bincount would wait for the device, once a head
        return grad_scores.new_zeros(heads, HIDDEN + 1).index_add_(1, buckets, grad_scores.view(heads, -1))
    sums = [torch.bincount(buckets, head.reshape(-1), minlength=HIDDEN + 1) for head in grad_scores.chunk(heads)]
    return torch.stack(sums).to(grad_scores.dtype)
