"""Trains a student on an export and on what larger models think of it."""

import argparse
from pathlib import Path

from ..distillation import DistillationOptions, Teachers
from . import training
from .arguments import SHARE, Number, export_command


def add(parser: argparse.ArgumentParser) -> None:
    export_command(parser, _run, ("--teacher", "--codes-from"), training.WRITES)
    options = DistillationOptions(())
    add = parser.add_argument
    add(
        "--teacher",
        type=Path,
        required=True,
        action="append",
        metavar="DIR",
        help="a model directory; of several, the mean of their probabilities",
    )
    add("--teacher-weight", type=SHARE, default=options.weight, help="of the teachers in the loss")
    add(
        "--teacher-temperature",
        type=Number(1e-3, 1e3),
        default=options.temperature,
        help="softens both sides' probabilities",
    )
    training.add_training_options(parser)
    training.add_model_options(parser)
    training.add_code_options(parser)


def _run(arguments: argparse.Namespace) -> None:
    data = training.load(arguments)
    teachers = Teachers.load(
        arguments.teacher,
        arguments.data,
        arguments.teacher_weight,
        arguments.teacher_temperature,
        training.device(arguments),
    )
    config = training.model_config(arguments, data)
    training.run(arguments, data, config, teachers=teachers, codes=training.item_codes(arguments))
