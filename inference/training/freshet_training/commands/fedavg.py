"""Trains one model of several exports by federated averaging."""

import argparse
import sys
from pathlib import Path

from .. import sequences
from ..federated import common_vocabulary, train_federated
from ..files import MODEL, RECORDS
from ..progress import ProgressLine
from . import training
from .arguments import Whole, add_threads, command


def add(parser: argparse.ArgumentParser) -> None:
    command(parser, _run, ("--data",), {"--output": MODEL, "--metrics": RECORDS})
    add = parser.add_argument
    add("--data", type=Path, required=True, action="append", metavar="DIR", help="an export; once for each log")
    add("--rounds", type=Whole(1), default=16, help="how often the models of all logs are averaged")
    add_threads(parser)
    training.add_output_options(parser)
    training.add_recipe_options(parser)
    training.add_model_options(parser)
    parser.set_defaults(epochs=1)


def _run(arguments: argparse.Namespace) -> None:
    if arguments.patience:
        raise ValueError(f"--patience {arguments.patience}: expected none, all rounds are run")
    logs = [sequences.load(directory) for directory in arguments.data]
    vocabulary = common_vocabulary(logs)
    logs = [log.translated(vocabulary) for log in logs]
    for log in logs:
        training.say(f"{log.directory}: {log.users} users, {len(log.events)} events")
    training.say(f"{len(vocabulary.items) - 1} items in all")
    line = ProgressLine(sys.stderr)
    train_federated(
        logs,
        training.model_config(arguments, logs[0]),
        training.train_options(arguments, logs[0]),
        arguments.rounds,
        arguments.output,
        report=lambda record: training.report(record, arguments.metrics, line),
        progress=line.epoch,
        device=training.device(arguments),
    )
