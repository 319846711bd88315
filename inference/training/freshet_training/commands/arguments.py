"""What the commands' arguments have in common."""

import argparse
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from .. import files

Run = Callable[[argparse.Namespace], None]

_DESTINATIONS = {"--from": "start"}  # of options whose name says no other


def command(
    commands: Any,
    name: str,
    text: str,
    run: Run,
    reads: tuple[str, ...] = (),
    writes: Mapping[str, files.Kind] | None = None,
) -> argparse.ArgumentParser:
    """`reads` and `writes`: the options that name files and directories."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.set_defaults(command=run, reads=reads, writes=writes or {})
    return parser


def export_command(
    commands: Any,
    name: str,
    text: str,
    run: Run,
    reads: tuple[str, ...] = (),
    writes: Mapping[str, files.Kind] | None = None,
) -> argparse.ArgumentParser:
    """A command that reads an export."""
    parser = command(commands, name, text, run, ("--data", *reads), writes)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="what `freshet export` wrote")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads; 0: PyTorch's choice")
    return parser


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
    # The others are EXPORT:SHARE.
    return [path if isinstance(path, Path) else Path(path.rpartition(":")[0]) for path in values]


def _followed(path: Path) -> Path:
    """What a link to a file leads to: it would be replaced itself."""
    return path.resolve() if path.is_symlink() and (path.is_file() or not path.exists()) else path


def _destination(option: str) -> str:
    return _DESTINATIONS.get(option, option.removeprefix("--").replace("-", "_"))


def chosen(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in names}
