"""docs/openapi.yaml and docs/openapi-serve.yaml against running instances by Schemathesis, which makes up requests, good and bad: all
of its checks.

It comes from PyPI into $FRESHET_SCHEMATHESIS, a virtual environment that this makes when it is not there. The broker is the
program's own.
"""

import os
import pathlib
import re
import subprocess
import sys

from playground_test import WAIT_S, PlaygroundCase
from support import SEED, main

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = pathlib.Path(os.environ.get("FRESHET_SCHEMATHESIS", "schemathesis"))
PACKAGE = "schemathesis==4.32.5"


class Schemathesis(PlaygroundCase):
    def check(self, file, port, *more):
        command = [TOOLS / "bin" / "st", "run", ROOT / "docs" / file, "--url", f"http://127.0.0.1:{port}", "--checks", "all",
                   "--continue-on-failure", "--seed", str(SEED), "--no-color", "--request-retries", "3", *more]  # fmt: skip
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=self.directory, timeout=800, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        found = re.search(r"(?m)^ *Tested: (\d+)$.*^ *([\d,]+) generated, (.*)$", done.stdout, re.DOTALL)
        self.assertIsNotNone(found, done.stdout)
        print(f"{file}: {found[1]} operations, {found[2]} requests: {found[3]}")
        return int(found[1])

    def test_run(self):
        process = self.start("--shoppers", "20")
        self.check("openapi.yaml", self.port)
        self.assertEqual(self.ask("GET", "/readyz")[0], 200)
        self.stop(process)

    def test_serve(self):
        playground = self.start("--shoppers", "20")
        settings = {"kafka.bootstrap_servers": self.broker, "serve.directory": self.path("served"), "http.listen": "127.0.0.1:0"}
        with self.path("serve-log").open("w+") as log:
            serve = subprocess.Popen(self.command(["serve"], settings), stderr=log, cwd=self.directory, env=self.environment)
            self.addCleanup(serve.wait)
            self.addCleanup(serve.kill)
            said = self.path("serve-log").read_text
            self.port = int(self.wait_for(lambda: re.search(r" on port (\d+)", said()), serve)[1])
            self.wait_for(lambda: self.ask("GET", "/readyz")[0] == 200, serve)
            # A stream has no end for Schemathesis to wait for; serve_kafka_test.py has it.
            self.assertEqual(self.check("openapi-serve.yaml", self.port, "--exclude-operation-id", "stream"), 5)
            self.assertGreater(self.ask("GET", "/v1/status")[1]["records"], 0)
            self.assertEqual(self.ask("GET", "/readyz")[0], 200)
            serve.terminate()
            self.assertEqual(serve.wait(WAIT_S), 0, said())
        self.stop(playground)


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
