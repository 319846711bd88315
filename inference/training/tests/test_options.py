"""Options of every command that are no numbers, or out of range; libraries that are not there; memory that is short."""

import argparse
import importlib
import io
import resource
import subprocess
import sys
import unittest
from contextlib import redirect_stderr
from pathlib import Path
from unittest import mock

from freshet_training.__main__ import _parser
from freshet_training.commands import COMMANDS, train
from freshet_training.commands.arguments import Number, Whole
from tests.command_line import CommandLine, run

BAD = ("nan", "inf", "-1", "1e400", "x")
# Numbers within a text, by option; {} stands for one. A time may be before 1970.
IN_TEXT = {
    "--not-before": ("{}",),
    "--not-after": ("{}",),
    "--max-rate": ("{}/60", "60/{}"),
    "--keep": ("old:{}",),
    "--type-weight": ("view={}",),
    "--augment": ("crop={}", "crop=0.1:{}", "noise=0.1:0.1:{}", "windows=0.1:{}", "windows=0.1:50:{}"),
}
LEGAL = {("--not-before", "-1"), ("--not-after", "-1")}
OTHERS = {"-h", "--help", "--loss", "--sampler", "--block", "--attention", "--similarity", "--device"}


def options(command: str) -> list[argparse.Action]:
    parser = _parser([command])
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return [action for action in commands.choices[command]._actions if action.option_strings]


class Ranges(unittest.TestCase):
    def refused(self, parser: argparse.ArgumentParser, command: str, option: str, text: str) -> None:
        with self.subTest(command, option=option, text=text), redirect_stderr(io.StringIO()) as said:
            with self.assertRaises(SystemExit) as ended:
                parser.parse_args([command, f"{option}={text}"])
            self.assertEqual(ended.exception.code, 2)
            errors = said.getvalue()
            line = rf"^freshet_training {command}: argument {option}: {text}: expected .*\. See --help\n$"
            if option != "--hold-out":  # argparse's own sentence
                self.assertRegex(errors, line)

    def test_every_number_has_a_range(self) -> None:
        seen = set()
        for command in COMMANDS:
            parser = _parser([command])
            for action in options(command):
                (option,) = action.option_strings[-1:]
                if isinstance(action.type, Whole | Number) or action.type is int:
                    self.assertTrue(action.type is not int or action.choices, option)
                    texts: tuple[str, ...] = ("{}",)
                elif option in IN_TEXT:
                    texts = IN_TEXT[option]
                else:
                    self.assertTrue(action.type is Path or action.nargs == 0 or option in OTHERS, option)
                    continue
                seen.add(option)
                for text in texts:
                    for bad in BAD:
                        if (option, bad) not in LEGAL:
                            self.refused(parser, command, option, text.format(bad))
        self.assertLessEqual(IN_TEXT.keys() | {"--threads", "--checkpoint-minutes", "--gbce-calibration"}, seen)

    def test_bounds(self) -> None:
        for kind, good, bad in (
            (Whole(1, 3), ("1", "3"), ("0", "4", "1.5", "1e0", "", "9" * 5000)),
            (Number(0, 1), ("0", "1", "1e-9"), ("-1e-9", "1.1")),
            (Number(0, 1, open_least=True), ("1e-300", "1"), ("0", "-0")),
            (Number(0, 1, open_most=True), ("0", ".999"), ("1",)),
        ):
            for text in good:
                self.assertEqual(kind(text), float(text))
            for text in bad:
                with (
                    self.subTest(text[:9]),
                    self.assertRaisesRegex(argparse.ArgumentTypeError, f": expected .* {kind}$"),
                ):
                    kind(text)

    def test_defaults_are_within_theirs(self) -> None:
        for command in COMMANDS:
            for action in options(command):
                if isinstance(action.type, Whole | Number) and action.default is not None:
                    self.assertEqual(action.type(str(action.default)), action.default, action.dest)

    def test_threads(self) -> None:
        for threads in ("-1", "1025", "100000", "9" * 30):
            self.refused(_parser(["train"]), "train", "--threads", threads)

    def test_help_states_ranges(self) -> None:
        code, printed, _ = run("train", "--help")
        self.assertEqual(code, 0)
        self.assertIn("from 1 to 4,096", " ".join(printed.split()))


class NotThere(CommandLine):
    def without(self, *libraries: str, line: tuple[str, ...]) -> tuple[int, str]:
        """Of an interpreter that cannot import these."""
        blocked = f"import sys, runpy; sys.modules.update(dict.fromkeys({libraries!r}))"
        command = f"sys.argv[1:] = {line!r}; runpy.run_module('freshet_training', run_name='__main__')"
        script = f"{blocked}; {command}"
        where = Path(__file__).resolve().parent.parent
        done = subprocess.run([sys.executable, "-c", script], cwd=where, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    def test_without_torch(self) -> None:
        for command in COMMANDS:
            code, errors = self.without("torch", line=(command, "--help"))
            if command in ("prepare", "report"):
                self.assertEqual((code, errors), (0, ""))
                continue
            self.assertEqual(code, 1)
            self.assertRegex(errors, f"^freshet_training: {sys.executable} cannot import torch .*install.*\n$")
            self.assertIn("deploy/install-dependencies.sh train", errors)
        self.assertEqual(self.without("torch", line=("--help",)), (0, ""))
        more = ("--data", str(self.directory), "--output", str(self.directory / "clean"))
        self.assertEqual(self.without("torch", line=("prepare", *more))[0], 0)

    def test_without_numpy(self) -> None:
        for command in ("prepare", "train"):
            code, errors = self.without("numpy", "torch", line=(command, "--help"))
            self.assertEqual(code, 1)
            self.assertRegex(errors, f"^freshet_training: {sys.executable} cannot import (numpy|torch) .*\n$")

    def test_without_matplotlib(self) -> None:
        metrics = self.directory / "metrics.jsonl"
        metrics.write_text('{"epoch": 1, "loss": 2}\n', "utf-8")
        line = ("report", "--metrics", str(metrics), "--output", str(self.directory / "x.png"))
        code, errors = self.without("matplotlib", line=line)
        self.assertEqual(code, 1)
        self.assertRegex(errors, f"^freshet_training: {sys.executable} cannot import matplotlib .*\n$")

    def test_what_does_not_load(self) -> None:
        error = ImportError("libtorch.so: failed to map segment from shared object\nand more", name="_C")
        with mock.patch.object(train, "_run", mock.Mock(side_effect=error)):
            code, _, errors = self.run_command("train", "--output", str(self.directory / "model"))
        self.assertEqual(code, 1)
        self.assertRegex(errors, f"^freshet_training: {sys.executable} cannot load a library \\(libtorch.so: .*\n$")

    def test_a_fault_of_the_program_stays_one(self) -> None:
        with mock.patch.object(train, "_run", lambda _: importlib.import_module("freshet_training.nothing")):
            self.assertRaises(ImportError, self.run_command, "train", "--output", str(self.directory / "x"))


class Memory(CommandLine):
    def test_a_sentence_with_advice(self) -> None:
        for error in (
            MemoryError(),
            MemoryError("Unable to allocate 7.45 TiB for an array"),
            RuntimeError("[enforce fail at alloc_cpu.cpp:75] DefaultCPUAllocator: can't allocate memory: 9 bytes\nat"),
            RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        ):
            with mock.patch.object(train, "_run", mock.Mock(side_effect=error)):
                code, _, errors = self.run_command("train", "--output", str(self.directory / "x"))
            self.assertEqual(code, 1)
            self.assertRegex(errors, "^freshet_training: out of memory .*--batch-users.*\n$")
        with mock.patch.object(train, "_run", mock.Mock(side_effect=RuntimeError("another"))):
            self.assertRaises(RuntimeError, self.run_command, "train", "--output", str(self.directory / "x"))

    def test_of_a_real_shortage(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(Path("/proc/self/statm").read_text("utf-8").split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 30), hard))
        try:
            line = ("train", "--output", str(self.directory / "model"), "--loss", "sampled")
            code, _, errors = self.run_command(*line, "--negatives", "1000000000")
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        self.assertEqual(code, 1)
        self.assertRegex(errors, "freshet_training: out of memory .*--negatives.*\n$")


if __name__ == "__main__":
    unittest.main()
