"""The Dockerfile and the compose file, as far as that goes without an engine that builds images.

$FRESHET names the program. hadolint and docker-compose have their say where they are installed. The Dockerfile's RUN
lines are run in bare Debian trees by deploy/fresh-package.sh.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import textwrap
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "deploy/compose.yaml").read_text()
WAIT_S = 120


class Image(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="freshet-image-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("FRESHET_")}

    def check(self, *words, **options):
        done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=WAIT_S, **options)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def service(self, name):
        """Its lines in the compose file."""
        return re.search(rf"(?ms)^  {name}:\n(.*?)(?=^  \w|^\w|\Z)", COMPOSE)[1]

    def test_the_health_check_tells_whether_it_serves(self):
        words = json.loads(re.search(r"HEALTHCHECK .* CMD (\[.*\])", DOCKERFILE)[1])
        self.assertIn("/8080 ", words[2])
        settings = {"http.listen": "127.0.0.1:0", "state.directory": "state", "kafka.bootstrap_servers": "127.0.0.1:1",
                    "model.directory": ROOT / "models/demo"}  # fmt: skip
        command = [os.environ["FRESHET"], "run", *(f"--set={key}={value}" for key, value in settings.items())]
        with open(self.directory / "log", "w+") as log:
            process = subprocess.Popen(command, stderr=log, cwd=self.directory, env=self.environment)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        deadline, port = time.monotonic() + WAIT_S, None
        while not port:
            self.assertLess(time.monotonic(), deadline)
            self.assertIsNone(process.poll(), (self.directory / "log").read_text())
            time.sleep(0.1)
            port = re.search(r"on port (\d+)", (self.directory / "log").read_text())
        words[2] = words[2].replace("/8080 ", f"/{port[1]} ")
        self.check(*words)
        for other in ("/readyz", "/nothing"):  # 503, as there is no broker; 404
            done = subprocess.run([*words[:2], words[2].replace("/healthz", other)], capture_output=True, timeout=WAIT_S)
            self.assertEqual(done.returncode, 1, other)

    def test_settings_of_the_compose_file_are_freshets(self):
        given = dict(re.findall(r'(?m)^      (FRESHET_\w+): "?([^"\s]+)', self.service("freshet")))
        self.assertTrue(given)
        printed = self.check(os.environ["FRESHET"], "config", "print", cwd=ROOT, env={**self.environment, **given})
        for value in given.values():
            self.assertIn(value, printed)
        made = re.search(r"for topic in (.*); do", self.service("topics"))[1].split()
        needed = re.findall(r"(?m)^(?:source|sink|dead_letters):\n  topic: (\S+)", printed)
        self.assertEqual(sorted(made), sorted(needed))

    def test_prometheus_of_the_compose_file_takes_its_configuration(self):
        config = re.search(r"(?ms)^  prometheus:\n    content: \|\n(.*?)^\w", COMPOSE[COMPOSE.index("\nconfigs:") :])[1]
        (self.directory / "prometheus.yaml").write_text(textwrap.dedent(config))
        shutil.copy(ROOT / "deploy/prometheus/alerts.yaml", self.directory)
        self.check("promtool", "check", "config", self.directory / "prometheus.yaml")

    @unittest.skipUnless(shutil.which("hadolint"), "hadolint is not installed")
    def test_hadolint(self):
        self.check("hadolint", ROOT / "Dockerfile")

    @unittest.skipUnless(shutil.which("docker-compose"), "docker-compose is not installed")
    def test_compose(self):
        self.check("docker-compose", "-f", ROOT / "deploy/compose.yaml", "config", "--quiet")


if __name__ == "__main__":
    unittest.main(verbosity=2)
