"""What the commands' arguments have in common."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[[argparse.Namespace], None]


def command(commands: Any, name: str, text: str, run: Run) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.set_defaults(command=run)
    return parser


def export_command(commands: Any, name: str, text: str, run: Run) -> argparse.ArgumentParser:
    """A command that reads an export."""
    parser = command(commands, name, text, run)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="what `freshet export` wrote")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads; 0: PyTorch's choice")
    return parser


def chosen(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in names}
