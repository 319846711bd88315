"""Fine-tuning: yesterday's model on today's log, whose items it may not know yet."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .model import SequenceModel
from .sequences import History
from .vocabulary import Vocabulary

_NEW_ROWS_STD = 0.02  # as at the start of training


def grow(model: SequenceModel, vocabulary: Vocabulary, seed: int) -> SequenceModel:
    """`model` with as many rows as `vocabulary`, which begins with its own; what it says of known items is the same.

    New rows are small and random, as before training. The mean of the known rows would not do: it resembles every user
    a little, so that items which nobody has clicked yet outrank the others.
    """
    generator = torch.Generator().manual_seed(seed)
    items, event_types = len(vocabulary.items), len(vocabulary.event_types)
    if model.config.item_codes and items > model.config.items:
        raise ValueError(
            f"{items - model.config.items} new items: a model with item_codes has none for them. Train anew, or "
            "fine-tune one without"
        )
    larger = SequenceModel(replace(model.config, items=items, event_types=event_types))
    weights = model.state_dict()
    for name, rows in (("item_embedding.weight", items), ("type_embedding.weight", event_types)):
        if name in weights:
            weights[name] = _grown(weights[name], rows, generator)
    larger.load_state_dict(weights)
    return larger.eval()


def _grown(table: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    new = torch.randn(rows - len(table), table.shape[1], generator=generator)
    return torch.cat([table, _NEW_ROWS_STD * new])


def draw(histories: Sequence[History], share: float, seed: int) -> list[History]:
    """So large a share of them, at random, in order."""
    if not 0 < share <= 1:
        raise ValueError(f"a share of {share} users to keep: expected more than 0 and at most 1")
    order = np.random.default_rng(seed).permutation(len(histories))
    return [histories[index] for index in sorted(order[: round(share * len(histories))])]
