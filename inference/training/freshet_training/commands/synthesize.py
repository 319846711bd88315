"""Adds users to an export that a model made up."""

import argparse
import sys
from pathlib import Path

import numpy as np

from .. import exports, model_directory, sequences
from ..files import EXPORT
from ..progress import ProgressLine
from ..sequences import History, Sequences
from ..synthesis import SynthesisOptions, synthesize
from . import training
from .arguments import SEED, SHARE, Number, Whole, chosen, export_command


def add(parser: argparse.ArgumentParser) -> None:
    export_command(parser, _run, ("--model",), {"--output": EXPORT})
    options = SynthesisOptions(1)
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="a model directory of the export's vocabulary")
    add("--users", type=Whole(1), required=True, metavar="N", help="how many to make")
    add("--output", type=Path, required=True, metavar="DIR", help="the export to write")
    add("--apart", action="store_true", help="write the synthetic users only")
    add(
        "--temperature", type=Number(1e-3, 1e3), default=options.temperature, help="of drawing; below 1: likelier items"
    )
    add("--top-p", type=SHARE, default=options.top_p, help="draw among the best items of this probability together")
    add("--no-repeats", action="store_true", help="no item twice in a history")
    add("--max-events", type=Whole(1), default=options.max_events, metavar="N", help="of a user")
    add("--hold-out", type=int, choices=(0, 2), default=2, help="newest events of each user not to draw from")
    add("--seed", type=SEED, default=options.seed)
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where the arithmetic runs")


def _run(arguments: argparse.Namespace) -> None:
    data = sequences.load(arguments.data)
    names = exports.names(data)
    model = model_directory.load(arguments.model).to(training.device(arguments))
    if model_directory.load_vocabulary(arguments.model, model.config) != data.vocabulary:
        raise ValueError(f"{arguments.model}: not the vocabulary of {arguments.data}; expected a model of this export")
    options = SynthesisOptions(
        repeats=not arguments.no_repeats, **chosen(arguments, "users", "temperature", "top_p", "max_events", "seed")
    )
    observed = [data.history(user, arguments.hold_out) for user in np.flatnonzero(~data.synthetic).tolist()]
    line = ProgressLine(sys.stderr)
    made = synthesize(model, observed, options, lambda done, total: line.update("synthesize", done, total, "events"))
    line.clear()
    _write(data, names, made, arguments.apart, arguments.output)
    events, items = sum(map(len, made)), len(np.unique(np.concatenate([history.items for history in made])))
    print(f"{len(made)} users, {events} events, {items} of {data.items - 1} items were made up", file=sys.stderr)


def _write(data: Sequences, names: exports.Names, made: list[History], apart: bool, output: Path) -> None:
    before = [] if apart else [data.history(user) for user in range(data.users)]
    users = [] if apart else names.users
    added = [f"synthetic-{data.users + number}" for number in range(len(made))]
    if taken := set(added) & set(names.users):
        raise ValueError(f"{data.directory}: a user is called {min(taken)} already")
    marks = np.concatenate([np.zeros(0, np.bool_) if apart else data.synthetic, np.ones(len(made), np.bool_)])
    all_names = exports.Names(names.items, names.types, users + added)
    exports.write(output, *exports.joined(before + made), all_names, marks)
