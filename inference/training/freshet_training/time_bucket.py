"""B(Δ) = min(128, floor(ln(max(|Δ|, 1)) / 0.301)) of whole seconds Δ, exact for every int64."""

from decimal import ROUND_CEILING, Decimal, localcontext

import torch
from torch import Tensor

TIME_BUCKETS = 129


def _thresholds() -> list[int]:
    """The least |Δ| of each bucket: 0, then ceil(exp(0.301 b))."""
    with localcontext() as context:
        context.prec = 60
        exact = [(Decimal("0.301") * b).exp() for b in range(1, TIME_BUCKETS)]
        return [0] + [int(value.to_integral_value(ROUND_CEILING)) for value in exact]


THRESHOLDS = torch.tensor(_thresholds(), dtype=torch.int64)


def time_bucket(delta: Tensor) -> Tensor:
    """Buckets of int64 differences in seconds, as int64, of the same shape."""
    distance = delta.clamp(min=-(2**63 - 1)).abs()  # -2^63 has no opposite; both are of the last bucket
    return torch.bucketize(distance, THRESHOLDS.to(delta.device), right=True) - 1
