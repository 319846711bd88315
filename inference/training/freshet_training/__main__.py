"""python3 -m freshet_training COMMAND: see --help, that of each command, and docs/training.md."""

import argparse
import sys

from . import threads

if __name__ == "__main__":
    threads.prepare(sys.argv)

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
    options = _parser().parse_args()
    if getattr(options, "threads", 0):
        torch.set_num_threads(options.threads)
    try:
        options.command(options)
    except (OSError, ValueError, FloatingPointError) as error:
        print(f"freshet_training: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="freshet_training", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
