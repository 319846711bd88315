"""What a model says of some users, to hold the engine against."""

import argparse
from pathlib import Path

from .. import model_directory, parity, sequences
from ..files import FILE
from .arguments import Whole, export_command


def add(parser: argparse.ArgumentParser) -> None:
    export_command(parser, _run, ("--model",), {"--output": FILE})
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="a model directory")
    add("--output", type=Path, required=True, metavar="FILE", help="JSON to write")
    add("--users", type=Whole(1), default=20, metavar="N", help="the first N users")


def _run(arguments: argparse.Namespace) -> None:
    model = model_directory.load(arguments.model)
    data = sequences.load(arguments.data).translated(model_directory.load_vocabulary(arguments.model, model.config))
    parity.write(model, data, arguments.users, arguments.output)
