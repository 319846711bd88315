"""Product-quantised item embeddings, trained as such (RecJPQ, Petrov and Macdonald 2024).

A row of the table is `parts` sub-vectors side by side, each one of 256 that all items choose from. Which ones an item
has is settled before training and stays; the sub-vectors are trained. RecJPQ takes the codes from the singular vectors
of users and items; those of a model that was trained before lose far less (docs/decisions.md).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CENTROIDS = 256  # of a part: its code is a byte
_ITERATIONS = 40
_SAMPLE = 1 << 16  # rows that the means are found with


class CodedTable(nn.Module):
    """A matrix whose rows are put together from `centroids`: part m of row r is centroids[m, codes[r, m]]."""

    codes: Tensor

    def __init__(self, rows: int, columns: int, parts: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(rows, parts, dtype=torch.uint8))
        self.centroids = nn.Parameter(torch.empty(parts, CENTROIDS, columns // parts))

    @property
    def weight(self) -> Tensor:
        """[rows, columns]"""
        parts = torch.arange(len(self.centroids), device=self.codes.device)
        return self.centroids[parts, self.codes.long()].flatten(1)


def assign(table: Tensor, parts: int, seed: int) -> Tensor:
    """Codes [rows, parts] for rows like those of `table`, whatever their lengths: k-means of each part by itself.

    Code 0 is that of row 0, unknown, alone. Raises ValueError where `parts` does not divide the columns.
    """
    if table.shape[1] % parts:
        raise ValueError(f"item_codes ({parts}) must divide dim ({table.shape[1]}) of the model that they come from")
    generator = torch.Generator().manual_seed(seed)
    if not bool(torch.isfinite(table.norm(dim=1)).all()):
        raise FloatingPointError("the model that item_codes come from has rows of items without a finite length")
    rows = F.normalize(table[1:], dim=1)
    codes = torch.zeros(len(table), parts, dtype=torch.uint8)
    for part, vectors in enumerate(rows.chunk(parts, 1)):
        codes[1:, part] = 1 + _nearest(vectors, _means(vectors, generator)).to(torch.uint8)
    return codes


def _means(vectors: Tensor, generator: torch.Generator) -> Tensor:
    """Lloyd's algorithm. At most CENTROIDS - 1 of them."""
    sample = vectors[torch.randperm(len(vectors), generator=generator)[:_SAMPLE]]
    means = sample[: CENTROIDS - 1].clone()
    for _ in range(_ITERATIONS):
        nearest = _nearest(sample, means)
        counts = torch.bincount(nearest, minlength=len(means))[:, None]
        sums = torch.zeros_like(means).index_add_(0, nearest, sample)
        means = torch.where(counts > 0, sums / counts.clamp(min=1), means)
    return means


def _nearest(vectors: Tensor, means: Tensor) -> Tensor:
    """Which of `means` is nearest to each."""
    return torch.cat([torch.cdist(some, means).argmin(1) for some in vectors.split(_SAMPLE)])
