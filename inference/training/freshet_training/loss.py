"""Full softmax cross-entropy over the catalogue."""

from typing import Any

import torch
from torch import Tensor

# Logits held at a time: 4 MB stay in a CPU's cache; a GPU is to be busy.
_CHUNK_ELEMENTS = {"cpu": 1 << 20, "cuda": 1 << 26}


def chunk_rows(candidates: Tensor) -> int:
    """How many rows of logits to hold at a time."""
    return max(1, _CHUNK_ELEMENTS[candidates.device.type] // len(candidates))


def softmax_loss(vectors: Tensor, candidates: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Σ over rows of weight · -log softmax(vectors · candidatesᵀ)[target]; a scalar.

    vectors [rows, dim], candidates [items, dim], targets and weights [rows]. The gradient is formed in the forward
    pass, chunk by chunk, so that the logits [rows, items] never exist as a whole.
    """
    return _SoftmaxLoss.apply(vectors, candidates, targets, weights)


class _SoftmaxLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, candidates: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        grad_vectors = torch.empty_like(vectors)
        grad_candidates = torch.zeros_like(candidates)
        total = vectors.new_zeros(())
        chunk = chunk_rows(candidates)
        for begin in range(0, len(vectors), chunk):
            part = slice(begin, begin + chunk)
            rows = (vectors[part], targets[part], weights[part], grad_vectors[part])
            total += _chunk_loss(*rows, candidates, grad_candidates)
        ctx.save_for_backward(grad_vectors, grad_candidates)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_vectors, grad_candidates = ctx.saved_tensors
        return grad_vectors * grad, grad_candidates * grad, None, None


def _chunk_loss(
    vectors: Tensor,
    targets: Tensor,
    weights: Tensor,
    grad_vectors: Tensor,
    candidates: Tensor,
    grad_candidates: Tensor,
) -> Tensor:
    """The weighted sum of the rows' losses; writes `grad_vectors`, adds to `grad_candidates`."""
    logits = vectors @ candidates.T
    logits -= logits.amax(1, keepdim=True)
    index = targets[:, None]
    hit = logits.gather(1, index)
    softmax = logits.exp_()
    total = softmax.sum(1, keepdim=True)
    softmax /= total
    softmax.scatter_add_(1, index, torch.full_like(hit, -1)).mul_(weights[:, None])
    torch.mm(softmax, candidates, out=grad_vectors)
    grad_candidates.addmm_(softmax.T, vectors)
    return ((total.log() - hit)[:, 0] * weights).sum()
