"""Trains a model on an export."""

import argparse
from typing import Any

from ..train import train
from . import training
from .arguments import device, export_command


def add(commands: Any) -> None:
    parser = export_command(commands, "train", "train a model on an export", _run)
    training.add_training_options(parser)
    training.add_model_options(parser)


def _run(arguments: argparse.Namespace) -> None:
    data = training.load(arguments)
    train(
        data,
        training.model_config(arguments, data),
        training.train_options(arguments),
        training.saving(arguments),
        **training.reports(arguments),
        device=device(arguments.device),
    )
