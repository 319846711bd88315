"""Fine-tuning: yesterday's model on today's log, whose items it may not know yet."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .evaluation import user_vectors
from .model import SequenceModel
from .sequences import History
from .vocabulary import Vocabulary

_NEW_ROWS_STD = 0.02  # as at the start of training
_USERS = 512  # enough to know what users have in common
_COLD = 0.1  # of the items


def grow(model: SequenceModel, vocabulary: Vocabulary, histories: Sequence[History], seed: int) -> SequenceModel:
    """`model` with as many rows as `vocabulary`, which begins with its own; what it says of known items is the same.

    New event types are small and random, as before training. For items that will not do: training has pushed
    what users do not click away from them, further than chance lies, so that new ones would crowd the top ten. They
    begin, with that noise, where the known items are that the users of `histories` (rows of `model`) like least.
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
    if items > model.config.items:
        begin = _cold_row(model, histories)
        weights["item_embedding.weight"] = _grown(weights["item_embedding.weight"], items, begin, generator)
    weights["type_embedding.weight"] = _grown(weights["type_embedding.weight"], event_types, 0, generator)
    larger.load_state_dict(weights)
    return larger.eval()


def _cold_row(model: SequenceModel, histories: Sequence[History]) -> Tensor | float:
    """The mean of the item rows that score lowest with these users, on the whole."""
    if model.config.items < 2 or not histories:
        return 0
    users = user_vectors(model, histories[:: math.ceil(len(histories) / _USERS)])
    with torch.no_grad():
        scores = model.candidates()[1:] @ users.mean(dim=0)
        coldest = 1 + scores.argsort()[: math.ceil(_COLD * len(scores))]
        return model.item_embedding.weight[coldest].mean(dim=0)


def _grown(table: Tensor, rows: int, begin: Tensor | float, generator: torch.Generator) -> Tensor:
    noise = torch.randn(rows - len(table), table.shape[1], generator=generator)
    return torch.cat([table, begin + _NEW_ROWS_STD * noise])


def draw(histories: Sequence[History], share: float, seed: int) -> list[History]:
    """So large a share of them, at random, in order."""
    if not 0 < share <= 1:
        raise ValueError(f"a share of {share} users to keep: expected more than 0 and at most 1")
    order = np.random.default_rng(seed).permutation(len(histories))
    return [histories[index] for index in sorted(order[: round(share * len(histories))])]
