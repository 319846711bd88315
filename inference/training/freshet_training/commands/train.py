"""Trains a model on an export."""

import argparse

from . import training
from .arguments import export_command


def add(parser: argparse.ArgumentParser) -> None:
    export_command(parser, _run, ("--codes-from",), training.WRITES)
    training.add_training_options(parser)
    training.add_model_options(parser)
    training.add_code_options(parser)


def _run(arguments: argparse.Namespace) -> None:
    data = training.load(arguments)
    training.run(arguments, data, training.model_config(arguments, data), codes=training.item_codes(arguments))
