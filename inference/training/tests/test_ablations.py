"""ablations.sh: what it runs, that it does not run it twice, and what it says when a run fails."""

import os
import subprocess
import sys
from pathlib import Path

from tests.command_line import CommandLine

SCRIPT = Path(__file__).parents[1] / "ablations.sh"


class Ablations(CommandLine):
    def ablations(self, output: str, *arguments: str) -> tuple[int, str, str]:
        flags = ["--jobs", "2", "--seeds", "3", "--only", "baseline crop"]
        line = [str(SCRIPT), *flags, str(self.directory), str(self.directory / output), "--", *arguments]
        done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, "PYTHON": sys.executable})
        return done.returncode, done.stdout, done.stderr

    def test_a_run_for_each_recipe_and_seed_once(self) -> None:
        flags = ["--epochs", "1", "--dim", "8", "--layers", "1", "--threads", "1"]
        code, table, errors = self.ablations("two words", *flags)
        self.assertEqual(code, 0, errors)
        self.assertEqual([line.split()[:2] for line in table.splitlines()[1:]], [["baseline", "1"], ["crop", "1"]])
        self.assertEqual(sorted(errors.splitlines()), ["begin baseline-3", "begin crop-3"])
        self.assertIn('"augmentations": [{"name": "crop"', (self.directory / "two words/crop-3.jsonl").read_text())
        self.assertEqual(self.ablations("two words", *flags), (0, table, ""))

    def test_a_run_that_fails_is_named(self) -> None:
        code, _, errors = self.ablations("output", "--epochs", "many")
        self.assertEqual(code, 2)
        self.assertRegex(errors, "crop-3 failed: .*--epochs: many: expected a whole number")

    def test_options_out_of_range(self) -> None:
        for option in ("--jobs", "--seeds"):
            for value in ("nan", "-1", "1e400", "9" * 30):
                line = [str(SCRIPT), option, value, str(self.directory), str(self.directory / "output")]
                done = subprocess.run(line, capture_output=True, text=True, check=False)
                self.assertEqual(done.returncode, 2)
                self.assertRegex(done.stderr, rf"^ablations.sh: {option} {value}: expected .*\n$")
