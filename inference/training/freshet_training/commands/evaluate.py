"""Leave-one-out accuracy of a model directory."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from .. import model_directory, sequences
from ..evaluation import evaluate, held_out_cases
from .arguments import export_command


def add(parser: argparse.ArgumentParser) -> None:
    export_command(parser, _run)
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="a model directory")


def _run(arguments: argparse.Namespace) -> None:
    model = model_directory.load(arguments.model)
    vocabulary = model_directory.load_vocabulary(arguments.model, model.config)
    cases = held_out_cases(sequences.load(arguments.data).translated(vocabulary), back=1)
    print(json.dumps(asdict(evaluate(model, cases))))
