"""Pictures of training and of evaluations, and a table of what recipes reached."""

import argparse
from pathlib import Path

from .. import recipes, report
from ..files import FILE
from .arguments import command


def add(parser: argparse.ArgumentParser) -> None:
    command(parser, _run, ("--metrics", "--recipes", "--evaluation"), {"--output": FILE})
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--metrics", type=Path, nargs="+", metavar="FILE", help="of train: one curve each")
    source.add_argument("--recipes", type=Path, nargs="+", metavar="FILE", help="of train: print a table over seeds")
    source.add_argument("--evaluation", type=Path, metavar="FILE", help="of freshet evaluate --json")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the picture: .png, .svg, .pdf")


def _run(arguments: argparse.Namespace) -> None:
    if arguments.recipes:
        print(recipes.table(arguments.recipes))
    elif arguments.output is None:
        raise ValueError("report: --output FILE is missing")
    elif arguments.metrics:
        report.draw_curves(arguments.metrics, arguments.output)
    else:
        report.draw_evaluation(arguments.evaluation, arguments.output)
