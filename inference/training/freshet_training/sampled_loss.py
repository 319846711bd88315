"""Losses that compare the target with some items instead of all: for catalogues that a full softmax is too dear for."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def sampled_softmax_loss(
    vectors: Tensor, candidates: Tensor, targets: Tensor, weights: Tensor, negatives: Tensor, log_expected: Tensor
) -> Tensor:
    """Σ over rows of weight · -log softmax over the target and `negatives`; a scalar.

    vectors [rows, dim], candidates [items, dim], targets and weights [rows]. negatives [n], rows of `candidates` that
    all rows share, and log_expected [n], the logarithm of how often each was to be expected among them: subtracted from
    its logit, it makes the sum over negatives an unbiased estimate of that over all items (Bengio and Senecal 2008).
    """
    wanted = (vectors * candidates[targets]).sum(1, keepdim=True)
    others = vectors @ candidates[negatives].T - log_expected
    others = others.masked_fill(negatives[None, :] == targets[:, None], -math.inf)
    return -(F.log_softmax(torch.cat([wanted, others], 1), 1)[:, 0] * weights).sum()


def gbce_loss(
    vectors: Tensor, candidates: Tensor, targets: Tensor, weights: Tensor, negatives: Tensor, beta: float
) -> Tensor:
    """Generalised binary cross-entropy (Petrov and Macdonald, RecSys 2023): Σ over rows of weight · loss; a scalar.

    -(β · log σ(target) + Σ over negatives of log(1 - σ(negative))) / (n + 1); shapes as above.
    """
    wanted = (vectors * candidates[targets]).sum(1)
    others = vectors @ candidates[negatives].T
    hits = negatives[None, :] == targets[:, None]
    push = F.softplus(others).masked_fill(hits, 0).sum(1)
    return ((beta * F.softplus(-wanted) + push) * weights).sum() / (len(negatives) + 1)


def gbce_beta(items: int, negatives: int, calibration: float) -> float:
    """β of a sampling rate α = negatives / (items - 1): α · (t · (1 - 1/α) + 1/α). t = 0 is plain cross-entropy."""
    rate = min(1.0, negatives / max(1, items - 1))
    return rate * (calibration * (1 - 1 / rate) + 1 / rate)
