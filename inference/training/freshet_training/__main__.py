"""python3 -m freshet_training COMMAND: see --help, that of each command, and docs/training.md."""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence

from . import interrupts, missing, threads
from .commands import COMMANDS
from .commands.arguments import HelpFormatter, Parser, outputs
from .files import UsageError

# What PyTorch says in a RuntimeError where memory is short; NumPy raises a MemoryError.
_NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "bad_alloc")


def main(loaded: Callable[[], object] = lambda: None) -> int:
    """The exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted. Calls `loaded` before the command begins."""
    try:
        options = _parser(sys.argv[1:]).parse_args()
        if getattr(options, "threads", 0):
            importlib.import_module("torch").set_num_threads(options.threads)
        loaded()
        with outputs(options):
            options.command(options)
    except KeyboardInterrupt as interrupt:
        return _ended(interrupts.STATUS, "; ".join(["interrupted", *interrupt.args]))
    except UsageError as error:
        return _ended(2, error)
    except ImportError as error:
        return _ended(1, missing.message(error))
    except MemoryError as error:
        return _ended(1, _no_memory(error))
    except RuntimeError as error:
        if not any(text in str(error) for text in _NO_MEMORY):
            raise
        return _ended(1, _no_memory(error))
    except (OSError, ValueError, FloatingPointError) as error:
        return _ended(1, error)
    return 0


def _ended(status: int, why: object) -> int:
    start_of_line = "\r\x1b[K" if sys.stderr.isatty() else ""  # where progress may stand
    print(f"{start_of_line}freshet_training: {why}", file=sys.stderr)
    return status


def _no_memory(error: BaseException) -> str:
    said = str(error).strip().partition("\n")[0]
    advice = "Expected more free memory, or less to hold: a smaller --batch-users, --window, --dim or --negatives"
    return f"out of memory ({said or type(error).__name__}). {advice}, or histories cut short by prepare"


def _parser(line: Sequence[str]) -> argparse.ArgumentParser:
    parser = Parser(prog="freshet_training", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text, formatter_class=HelpFormatter)
        if line[:1] == [name]:  # the others may need more than this machine has
            importlib.import_module(f".commands.{name.replace('-', '_')}", __package__).add(command)
    return parser


if __name__ == "__main__":
    threads.prepare(sys.argv)
    interrupts.end_at_once()
    sys.exit(main(interrupts.raise_keyboard_interrupt))
