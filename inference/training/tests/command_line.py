"""Runs commands on an export with a pattern that a model must find."""

import io
import sys
import tempfile
import unittest
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import numpy as np

from freshet_training import safetensors
from freshet_training.__main__ import main

ITEMS = 20
SHAPE = ("--dim", "16", "--layers", "2", "--window", "6", "--epochs", "12", "--batch-users", "8", "--lr", ".02")


class Killed(BaseException):
    """As by SIGKILL: nothing of the program catches it."""


def write_export(directory: Path, users: int = 60, events: int = 12, step: int = 3, items: int = ITEMS) -> None:
    """After item i comes item i + step, around a circle: no item returns within a history."""
    starts = np.random.default_rng(5).integers(0, items, users)
    rows = 1 + (starts[:, None] + step * np.arange(events)) % items
    tensors = {
        "offsets": np.arange(users + 1) * events,
        "items": rows.ravel().astype(np.int32),
        "types": np.ones(users * events, np.int32),
        "times": np.arange(users * events),
    }
    directory.mkdir(exist_ok=True)
    safetensors.save(directory / "sequences.safetensors", tensors)
    write_vocabulary(directory / "items.tsv", [f"i{row}" for row in range(1, items + 1)])
    write_vocabulary(directory / "event_types.tsv", ["view"])


def write_vocabulary(path: Path, names: list[str]) -> None:
    path.write_bytes("".join(f"{row}\t{name}\n" for row, name in enumerate(["[unknown]", *names])).encode())


def forget_digests(model: Path) -> None:
    """As another writer has it: a file beside the weights may be changed."""
    path = model / "model.safetensors"
    safetensors.save(path, safetensors.load(path))


def run(*line: str) -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    with mock.patch.object(sys, "argv", ["freshet_training", *line]), redirect_stdout(out), redirect_stderr(err):
        try:
            code = main()
        except SystemExit as ended:  # argparse's
            code = int(ended.code or 0)
    return code, out.getvalue(), err.getvalue()


class CommandLine(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        write_export(self.directory)

    def run_command(self, command: str, *arguments: str, data: Path | None = None) -> tuple[int, str, str]:
        return run(command, "--threads", "1", "--data", str(data or self.directory), *arguments)

    def refused(self, command: str, *arguments: str, data: Path | None = None, status: int = 1) -> str:
        """What it says. Status 2: of the command line."""
        code, _, errors = self.run_command(command, "--output", str(self.directory / "refused"), *arguments, data=data)
        self.assertEqual(code, status, errors)
        self.assertFalse((self.directory / "refused").exists())
        return errors

    def train(self, name: str, *arguments: str, command: str = "train", data: Path | None = None) -> Path:
        output = self.directory / name
        code, _, errors = self.run_command(command, "--output", str(output), *SHAPE, *arguments, data=data)
        self.assertEqual(code, 0, errors)
        return output

    def weights(self, model: Path) -> bytes:
        return (model / "model.safetensors").read_bytes()
