"""Trains a model on an export."""

import argparse
from typing import Any

from . import training
from .arguments import export_command


def add(commands: Any) -> None:
    parser = export_command(commands, "train", "train a model on an export", _run, ("--codes-from",), training.WRITES)
    training.add_training_options(parser)
    training.add_model_options(parser)
    training.add_code_options(parser)


def _run(arguments: argparse.Namespace) -> None:
    data = training.load(arguments)
    training.run(arguments, data, training.model_config(arguments, data), codes=training.item_codes(arguments))
