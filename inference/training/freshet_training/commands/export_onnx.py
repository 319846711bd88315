"""Writes a model for ONNX Runtime."""

import argparse
from pathlib import Path
from typing import Any

from .. import model_directory, onnx
from .arguments import command


def add(commands: Any) -> None:
    parser = command(commands, "export-onnx", "write a model as ONNX, for other runtimes", _run)
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="a model directory")
    add("--output", type=Path, required=True, metavar="FILE", help="the .onnx file to write")


def _run(arguments: argparse.Namespace) -> None:
    onnx.export(model_directory.load(arguments.model), arguments.output)
