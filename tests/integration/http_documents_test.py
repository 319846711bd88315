"""The commands of http.md, forgetting.md, serve.md and of the playground in operations.md, as they stand there; what they print has the
fields that the documents show.

The broker is the program's own. The command for several instances is run by owner_kafka_test.py, those for containers by none.
"""

import contextlib
import json
import pathlib
import re
import shlex
import subprocess
import time

from playground_test import PlaygroundCase
from support import PROGRAM, main

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
STREAM_S = 3


def examples(document):
    """(command, what the document shows of its output)"""
    for block in re.findall(r"```\w*\n(.*?)```", (DOCS / document).read_text(), re.DOTALL):
        for command, shown in re.findall(r"(?m)^(?:\$ )?((?:curl|kcat|freshet) .*)\n((?:(?!\$ |curl |kcat |freshet ).*\n)*)", block):
            yield command, shown


class HttpDocuments(PlaygroundCase):
    def setUp(self):
        super().setUp()
        self.ran = []

    def shell(self, line):
        """What it prints; a stream is cut after some seconds."""
        self.ran.append(line)
        line = line.replace("localhost:8080", f"127.0.0.1:{self.port}").replace("localhost:8081", f"127.0.0.1:{self.served}")
        words = shlex.split(line)
        streams = words[0] == "curl" and "/stream" in line
        words[1:1] = ["--max-time", str(STREAM_S)] if streams else []
        done = subprocess.run(words, capture_output=True, text=True, cwd=self.directory, timeout=60, check=False)
        self.assertEqual(done.returncode, 28 if streams else 0, f"{line}\n{done.stdout}{done.stderr}")
        return done.stdout

    def assert_has_fields(self, found, shown, where):
        """Of all that is shown; `…` stands for more."""
        self.assertIs(type(found) is dict, type(shown) is dict, where)
        if isinstance(shown, dict):
            self.assertLessEqual(set(shown), set(found), where)
            for name, value in shown.items():
                self.assert_has_fields(found[name], value, f"{where}: {name}")
        elif isinstance(shown, list) and shown:
            self.assertTrue(found, where)
            self.assert_has_fields(found[0], shown[0], where)

    def answer(self, printed, shown, command):
        found = json.loads(printed)
        example = json.loads(re.sub(r",?…(?=[}\]])", "", shown))
        self.assert_has_fields(found, example, command)
        self.assertEqual(set(found), set(example), command)
        return found

    def click(self):
        event = {"user_id": "u1", "item_id": "i7", "timestamp": int(time.time() * 1000)}
        self.wait_for(lambda: self.ask("POST", "/v1/events", event)[0] == 202, self.process)

    def known(self):
        return self.ask("GET", "/v1/users/u1")[0] == 200

    @contextlib.contextmanager
    def serve(self):
        """The document's command, on a free port and the playground's broker."""
        (command,) = [line for line, _ in examples("serve.md") if line.startswith("freshet serve")]
        self.ran.append(command)
        self.write("freshet.yaml", f"kafka: {{bootstrap_servers: '{self.broker}'}}\n")
        words = shlex.split(command.replace("8081", "0"))
        with self.path("serve-log").open("wb") as log:
            process = subprocess.Popen([PROGRAM, *words[1:]], stderr=log, cwd=self.directory, env=self.environment)
            try:
                said = self.path("serve-log").read_text
                self.served = int(self.wait_for(lambda: re.search(r" on port (\d+)", said()), process)[1])
                yield
            finally:
                process.terminate()
                code = process.wait(60)
        self.assertEqual(code, 0, said())

    def test_each_command(self):
        (command,) = [line for line, _ in examples("operations.md") if line.startswith("freshet run --embedded-broker")]
        self.ran.append(command)
        self.served = None
        self.process = self.start(*shlex.split(command)[3:])
        self.click()
        self.wait_for(self.known, self.process)
        for line, shown in examples("http.md"):
            if "localhost:8080" in line:
                self.answer(self.shell(line), shown, line)
        (line,) = [line for line, _ in examples("operations.md") if "freshet.recommendations" in line and line.startswith("kcat")]
        self.assertIn('"items":', self.shell(f"{line.replace('127.0.0.1:PORT', self.broker)} -c 20 -q"))
        with self.serve():
            self.look_up_and_stream()
        for line, _ in examples("forgetting.md"):
            if line.startswith("curl "):
                self.assertEqual(set(json.loads(self.shell(line))), {"topic", "partition", "offset"})
        self.wait_for(lambda: not self.known(), self.process)
        self.assertEqual(len(self.ran), 10)
        self.stop(self.process)

    def test_the_command_with_a_token_over_tls(self):
        (line,) = [line for line, _ in examples("http.md") if "--cacert" in line]
        host = re.search(r"https://([\w.]+):8080", line)[1]
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={host}",
             "-addext", f"subjectAltName=DNS:{host}", "-keyout", "key.pem", "-out", "ca.pem"],
            check=True, capture_output=True, cwd=self.directory,
        )  # fmt: skip
        self.path("key.pem").chmod(0o600)
        self.write("tokens", f"read {'r' * 32}\n").chmod(0o600)
        process = self.launch(
            **{"http.tls.certificate": "ca.pem", "http.tls.key": "key.pem", "http.tokens_file": "tokens", "http.listen": "127.0.0.1:0"}
        )
        line = line.replace("curl ", f"curl --connect-to {host}:8080:127.0.0.1:{self.port} ", 1)
        asked = lambda: subprocess.run(
            ["bash", "-c", line], capture_output=True, text=True, cwd=self.directory, env={**self.environment, "TOKEN": "r" * 32}, check=True
        ).stdout
        self.wait_for(lambda: json.loads(asked())["ready"], process)
        self.stop(process)

    def look_up_and_stream(self):
        lines = [(line, shown) for line, shown in examples("serve.md") if line.startswith("curl")]
        (look_up, _), (stream, shown) = lines
        self.wait_for(lambda: self.ask("GET", "/v1/recommendations/u1", port=self.served)[0] == 200, self.process)
        record = json.loads(self.shell(look_up))
        self.assertEqual((record["user_id"], len(record["items"])), ("u1", 10))
        fields = dict(line.split(": ", 1) for line in self.shell(stream).split("\n\n")[0].splitlines())
        self.assertEqual(list(fields), [line.split(": ")[0] for line in shown.splitlines() if line])
        self.assertEqual((fields["event"], len(json.loads(fields["data"])["items"])), ("recommendations", 2))


if __name__ == "__main__":
    main()
