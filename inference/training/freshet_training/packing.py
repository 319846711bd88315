"""Packs whole histories end to end, so that a batch of users is one matrix and the band is a few blocks wide.

Every history begins at a multiple of `block` rows. The queries of a block see the keys of that block and of the
`reach` blocks before it: `span` = (reach + 1) · block rows, which overlap from block to block and are never copied.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from .sequences import History
from .time_bucket import TIME_BUCKETS, time_bucket

HIDDEN = TIME_BUCKETS  # in place of a time bucket: this query must not see this key


@dataclass(frozen=True)
class Packed:
    """A batch of histories. Rows of padding lie behind each history; no real row sees them."""

    items: Tensor  # [rows]
    types: Tensor  # [rows]
    targets: Tensor  # [rows] `items`, save where a history says otherwise
    real: Tensor  # [events] the rows that hold events: users in order, oldest event first
    last: Tensor  # [users] each user's newest row
    buckets: Tensor  # [blocks, block, span] time bucket of query minus key, or HIDDEN
    offsets: Tensor  # [block, span] events from key to query, cut to 0..window-1
    block: int
    reach: int

    @property
    def span(self) -> int:
        return self.block * (self.reach + 1)


def pack(histories: Sequence[History], window: int, block: int = 0, device: torch.device | str = "cpu") -> Packed:
    """`block` 0: as wide as the window, but no more than 50 rows. REQUIRES: no history is empty."""
    block = block or min(window, 50)
    lengths = np.array([len(history) for history in histories])
    blocks = -(-lengths // block)
    first_block = np.cumsum(blocks) - blocks
    begin = first_block * block
    real = np.repeat(begin - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
    rows = int(blocks.sum()) * block
    reach = -(-(window - 1) // block)
    age = np.arange(blocks.sum()) - np.repeat(first_block, blocks)  # of a block in its history, in blocks
    offsets = _offsets(block, reach).to(device)
    scatter = partial(_scatter, real=real, rows=rows, device=device)
    return Packed(
        items=scatter([history.items for history in histories]),
        types=scatter([history.types for history in histories]),
        targets=scatter([history.wanted for history in histories]),
        real=torch.from_numpy(real).to(device),
        last=torch.from_numpy(begin + lengths - 1).to(device),
        buckets=_buckets(scatter([history.times for history in histories]), offsets, age, window, reach),
        offsets=offsets.clamp(0, window - 1),
        block=block,
        reach=reach,
    )


def _scatter(parts: list[np.ndarray], real: np.ndarray, rows: int, device: torch.device | str) -> Tensor:
    values = np.zeros(rows, np.int64)
    values[real] = np.concatenate(parts)
    return torch.from_numpy(values).to(device)


def _offsets(block: int, reach: int) -> Tensor:
    """Events from key to query in a block's span; negative where the key is the later one. [block, span]"""
    return reach * block + torch.arange(block)[:, None] - torch.arange((reach + 1) * block)[None, :]


def _buckets(times: Tensor, offsets: Tensor, age: np.ndarray, window: int, reach: int) -> Tensor:
    block, span = offsets.shape
    queries = times.view(-1, block, 1)
    keys = windows(torch.cat([times.new_zeros(reach * block), times])[:, None], block, reach).view(-1, 1, span)
    in_band = (offsets >= 0) & (offsets < window)
    ages = torch.arange(reach + 1, device=times.device)[:, None, None]
    in_history = torch.arange(span, device=times.device) >= (reach - ages) * block  # [reach + 1, 1, span]
    hidden = ~(in_band & in_history)
    age_or_more = torch.from_numpy(age).to(times.device).clamp(max=reach)
    return time_bucket(queries - keys).masked_fill_(hidden[age_or_more], HIDDEN)


def windows(padded: Tensor, block: int, reach: int) -> Tensor:
    """Overlapping views [blocks, span, width] of rows [(reach + blocks) · block, width], without a copy."""
    blocks, width = padded.shape[0] // block - reach, padded.shape[1]
    return padded.as_strided((blocks, block * (reach + 1), width), (block * width, width, 1))
