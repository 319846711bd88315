"""Writes a model for ONNX Runtime."""

import argparse
from pathlib import Path

import torch

from .. import model_directory, onnx
from ..files import FILE
from .arguments import command


def add(parser: argparse.ArgumentParser) -> None:
    command(parser, _run, ("--model",), {"--output": FILE})
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="a model directory")
    add("--output", type=Path, required=True, metavar="FILE", help="the .onnx file to write")


def _run(arguments: argparse.Namespace) -> None:
    model = model_directory.load(arguments.model)
    try:
        onnx.export(model, arguments.output)
    except torch.onnx.errors.OnnxExporterError as error:
        raise ValueError(f"{arguments.output}: {error} (newer PyTorch needs the package onnx)") from error
