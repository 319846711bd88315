"""docs/openapi.yaml against a running instance by Schemathesis, which makes up requests, good and bad: all of its checks.

It comes from PyPI into $FRESHET_SCHEMATHESIS, a virtual environment that this makes when it is not there. The broker is the
program's own.
"""

import os
import pathlib
import re
import subprocess
import sys

from playground_test import PlaygroundCase
from support import SEED, main

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = pathlib.Path(os.environ.get("FRESHET_SCHEMATHESIS", "schemathesis"))
PACKAGE = "schemathesis==4.32.5"


class Schemathesis(PlaygroundCase):
    def test_every_check(self):
        process = self.start("--shoppers", "20")
        command = [TOOLS / "bin" / "st", "run", ROOT / "docs/openapi.yaml", "--url", f"http://127.0.0.1:{self.port}", "--checks", "all",
                   "--continue-on-failure", "--seed", str(SEED), "--no-color", "--request-retries", "3"]  # fmt: skip
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=self.directory, timeout=800, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        found = re.search(r"(?m)^ *Tested: (\d+)$.*^ *([\d,]+) generated, (.*)$", done.stdout, re.DOTALL)
        self.assertIsNotNone(found, done.stdout)
        print(f"{found[1]} operations, {found[2]} requests: {found[3]}")
        self.assertEqual(self.ask("GET", "/readyz")[0], 200)
        self.stop(process)


def missing_tools():
    """Makes $FRESHET_SCHEMATHESIS where it is not there; what is missing all the same."""
    installed = TOOLS / "installed"
    if installed.exists() and installed.read_text() == PACKAGE:
        return None
    python = str(TOOLS / "bin" / "python")
    for command in ([sys.executable, "-m", "venv", "--clear", str(TOOLS)], [python, "-m", "pip", "install", "--quiet", PACKAGE]):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            return f"{' '.join(command)}: {done.stdout}{done.stderr}"
    installed.write_text(PACKAGE)
    return None


if __name__ == "__main__":
    if missing := missing_tools():
        print(f"skipped: {missing}")
        sys.exit(1 if os.environ.get("FRESHET_TEST_NO_SKIP") else 77)
    main()
