"""Small models and histories for the tests."""

import numpy as np
import torch

from freshet_training.model import ModelConfig, SequenceModel
from freshet_training.objective import Objective, ObjectiveOptions
from freshet_training.sequences import History


def random_model(seed: int, **changes: object) -> SequenceModel:
    """Weights large enough that every term of the arithmetic shows in the result."""
    shape = {"items": 30, "event_types": 3, "dim": 8, "layers": 2, "heads": 2, "window": 5}
    model = SequenceModel(ModelConfig(**{**shape, **changes})).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
        with torch.no_grad():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model.eval()


def random_history(random: np.random.Generator, events: int, items: int = 30) -> History:
    """Times stand still, jump by up to years, and run backwards."""
    steps = np.exp(random.uniform(-2, 18, events)).astype(np.int64) * random.choice([1, 1, 1, -1], events)
    return History(
        random.integers(0, items, events).astype(np.int32),
        random.integers(0, 3, events).astype(np.int32),
        1_500_000_000 + np.cumsum(steps),
    )


def columns(history: History) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(column).long() for column in (history.items, history.types, history.times))


def objective(model: SequenceModel, histories: list[History], **options: object) -> Objective:
    return Objective(ObjectiveOptions(**options), histories, model.config.items)
