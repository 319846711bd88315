"""Trains one model of several exports by federated averaging."""

import argparse
import sys
from pathlib import Path
from typing import Any

from .. import sequences
from ..federated import common_vocabulary, train_federated
from ..files import MODEL, RECORDS
from ..progress import ProgressLine
from . import training
from .arguments import command


def add(commands: Any) -> None:
    text = "train one model of several exports that stay apart"
    parser = command(commands, "fedavg", text, _run, ("--data",), {"--output": MODEL, "--metrics": RECORDS})
    add = parser.add_argument
    add("--data", type=Path, required=True, action="append", metavar="DIR", help="an export; once for each log")
    add("--rounds", type=int, default=16, help="how often the models of all logs are averaged")
    add("--threads", type=int, default=0, metavar="N", help="CPU threads; 0: PyTorch's choice")
    training.add_output_options(parser)
    training.add_recipe_options(parser)
    training.add_model_options(parser)
    parser.set_defaults(epochs=1)


def _run(arguments: argparse.Namespace) -> None:
    if arguments.rounds < 1 or arguments.epochs < 1 or arguments.patience:
        raise ValueError("expected --rounds and --epochs of 1 or more, and no --patience: all rounds are run")
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
