"""What the commands' arguments have in common."""

import argparse
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from .. import files, threads

Run = Callable[[argparse.Namespace], None]
Writes = Mapping[str, files.Kind]

MANY = 1_000_000_000  # of whatever an option counts
_DESTINATIONS = {"--from": "start"}  # of options whose name says no other


@dataclass(frozen=True)
class Whole:
    """For argparse: a whole number within these bounds. Else it ends the program with status 2, saying so."""

    least: int
    most: int = MANY

    def __call__(self, text: str) -> int:
        try:
            if self.least <= (value := int(text)) <= self.most:
                return value
        except ValueError:  # no number, or one of thousands of digits
            pass
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number {self}")

    def __str__(self) -> str:
        return f"from {self.least:,} to {self.most:,}"


@dataclass(frozen=True)
class Number:
    """The same with a fraction. `open_least`, `open_most`: all but this bound."""

    least: float
    most: float
    open_least: bool = False
    open_most: bool = False

    def __call__(self, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        above = self.least < value or (value == self.least and not self.open_least)
        if above and (value < self.most or (value == self.most and not self.open_most)):
            return value
        raise argparse.ArgumentTypeError(f"{text}: expected a number {self}")

    def __str__(self) -> str:
        least = f"above {self.least:g}" if self.open_least else f"from {self.least:g}"
        return f"{least}, below {self.most:g}" if self.open_most else f"{least} to {self.most:g}"


SHARE = Number(0, 1, open_least=True)
SEED = Whole(0, 2**63 - 1)


class Parser(argparse.ArgumentParser):
    """Whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}. See --help\n")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, and bounds of numbers."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = super()._get_help_string(action)
        return f"{text} ({action.type})" if isinstance(action.type, Whole | Number) else text


def command(
    parser: argparse.ArgumentParser, run: Run, reads: tuple[str, ...] = (), writes: Writes = MappingProxyType({})
) -> None:
    """`reads` and `writes`: the options that name files and directories."""
    parser.set_defaults(command=run, reads=reads, writes=writes)


def export_command(
    parser: argparse.ArgumentParser, run: Run, reads: tuple[str, ...] = (), writes: Writes = MappingProxyType({})
) -> None:
    """A command that computes on an export."""
    command(parser, run, ("--data", *reads), writes)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="what `freshet export` wrote")
    add_threads(parser)


def add_threads(parser: argparse.ArgumentParser) -> None:
    kind, text = Whole(0, threads.MOST), "CPU threads; 0: PyTorch's choice"
    parser.add_argument("--threads", type=kind, default=0, metavar="N", help=text)


def outputs(arguments: argparse.Namespace) -> AbstractContextManager[None]:
    """files.outputs() of what the command reads and writes. An output file that is a link becomes what it leads to."""
    if "--checkpoint" in arguments.writes and arguments.checkpoint is None:
        output = arguments.output if arguments.output.name else arguments.output.resolve()
        arguments.checkpoint = Path(f"{output}.checkpoint")
    reads = [(option, path) for option in arguments.reads for path in _paths(arguments, option)]
    writes = []
    for option, kind in arguments.writes.items():
        for path in _paths(arguments, option):
            writes.append((option, _followed(path) if kind.replaced else path, kind))
            setattr(arguments, _destination(option), writes[-1][1])
    return files.outputs(reads, writes)


def _paths(arguments: argparse.Namespace, option: str) -> list[Path]:
    value = getattr(arguments, _destination(option))
    values = value if isinstance(value, list) else [] if value is None else [value]
    return [value if isinstance(value, Path) else value[0] for value in values]  # the others have a share besides


def _followed(path: Path) -> Path:
    """What a link to a file leads to: it would be replaced itself."""
    return path.resolve() if path.is_symlink() and (path.is_file() or not path.exists()) else path


def _destination(option: str) -> str:
    return _DESTINATIONS.get(option, option.removeprefix("--").replace("-", "_"))


def chosen(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in names}
