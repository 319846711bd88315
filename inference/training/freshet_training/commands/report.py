"""Pictures of training and of evaluations."""

import argparse
from pathlib import Path
from typing import Any

from .. import report
from .arguments import command


def add(commands: Any) -> None:
    parser = command(commands, "report", "draw learning curves, or what `freshet evaluate` found", _run)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--metrics", type=Path, nargs="+", metavar="FILE", help="of train: one curve each")
    source.add_argument("--evaluation", type=Path, metavar="FILE", help="of freshet evaluate --json")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the picture: .png, .svg, .pdf")


def _run(arguments: argparse.Namespace) -> None:
    if arguments.metrics:
        report.draw_curves(arguments.metrics, arguments.output)
    else:
        report.draw_evaluation(arguments.evaluation, arguments.output)
