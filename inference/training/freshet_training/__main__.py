"""python3 -m freshet_training COMMAND: see --help, that of each command, and docs/training.md."""

import argparse
import sys

from . import interrupts, threads

if __name__ == "__main__":
    threads.prepare(sys.argv)
    interrupts.end_at_once()

import torch

from .commands import (
    distill,
    evaluate,
    export_onnx,
    fedavg,
    finetune,
    parity,
    prepare,
    prune,
    report,
    synthesize,
    train,
)
from .commands.arguments import outputs
from .files import UsageError

_COMMANDS = (
    prepare,
    synthesize,
    train,
    finetune,
    fedavg,
    distill,
    prune,
    evaluate,
    report,
    parity,
    export_onnx,
)


def main() -> int:
    """The exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    try:
        options = _parser().parse_args()
        if getattr(options, "threads", 0):
            torch.set_num_threads(options.threads)
        with outputs(options):
            options.command(options)
    except KeyboardInterrupt as interrupt:
        return _ended(interrupts.STATUS, "; ".join(["interrupted", *interrupt.args]))
    except UsageError as error:
        return _ended(2, error)
    except (OSError, ValueError, FloatingPointError) as error:
        return _ended(1, error)
    return 0


def _ended(status: int, why: object) -> int:
    start_of_line = "\r\x1b[K" if sys.stderr.isatty() else ""  # where progress may stand
    print(f"{start_of_line}freshet_training: {why}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="freshet_training", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    interrupts.raise_keyboard_interrupt()
    sys.exit(main())
