"""The programs of docs/consume.md, as they stand there, on what `freshet run` writes; and the records beside their schemas.

Needs the distribution's confluent_kafka and jsonschema. Go and Node.js: with the clients that fetch_clients.sh fetches.
"""

import contextlib
import importlib.util
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import kafka_support
import run_kafka_test
from kafka_support import ADDRESS, ROOT, WAIT_S, read
from support import main

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "freshet"
BAD = ["not an event", '{"user_id":"u1"}', "\u00fc"]
EVENTS = 300


def example(name):
    text = (ROOT / "docs/consume.md").read_text()
    return re.search(rf"```\w+\n((?:#|//) {re.escape(name)}\b.*?)```", text, re.DOTALL)[1]


def line_of(record):
    items = ",".join(item["item_id"] for item in record["items"])
    return f"{record['user_id']}\t{record['sequence_number']}\t{items}"


class ConsumersTest(run_kafka_test.KafkaCase):
    """What freshet answered, records of an aborted transaction, and repeats as a crash at least once leaves them."""

    guarantee = "exactly_once"

    def setUp(self):
        super().setUp()
        self.log = self.log[:EVENTS]
        kafka_support.produce(self.events, [*self.lines(), *BAD])
        self.stop_once_answered(self.start(), EVENTS)
        self.written = self.found()
        last = {record["user_id"]: record for record in self.written}
        self.transaction([{**record, "sequence_number": 1_000_000} for record in last.values()], commit=False)
        self.transaction([*self.written[:50], *last.values()])

    def transaction(self, records, commit=True):
        producer = confluent_kafka.Producer({
            "bootstrap.servers": ADDRESS, "transactional.id": f"{self.application}-{time.time_ns()}",
            "partitioner": "murmur2_random", "compression.type": "lz4",
        })  # fmt: skip
        producer.init_transactions(WAIT_S)
        producer.begin_transaction()
        for record in records:
            producer.produce(self.answers, json.dumps(record), record["user_id"])
        producer.flush(WAIT_S)
        if commit:
            producer.commit_transaction(WAIT_S)
        else:
            producer.abort_transaction(WAIT_S)

    def test_each(self):
        for check in (self.records, self.python, self.java, self.cpp, self.go, self.node):
            with self.subTest(check.__name__):
                check()

    def records(self):
        schema = schemas.closed(schemas.schema("recommendation"))
        for record in self.written:
            self.assertEqual(schemas.complaints(record, schema), [])
        schema = schemas.closed(schemas.schema("dead-letter"))
        letters = read(self.letters)
        self.assertEqual(sorted(letter["payload"] for letter in letters), sorted(BAD))
        for letter in letters:
            headers = dict(zip(letter["headers"][::2], letter["headers"][1::2]))
            self.assertTrue(all(name.startswith("freshet.") for name in headers), headers)
            record = {name.removeprefix("freshet."): value for name, value in headers.items()}
            record.update(partition=int(record["partition"]), offset=int(record["offset"]))
            record.update(key=letter["key"], value=letter["payload"])
            self.assertEqual(schemas.complaints(record, schema), [])

    def consume(self, command, group, lines):
        """What it prints until it has printed so many lines; then it must end by SIGTERM."""
        printed, enough = [], threading.Event()
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(open(self.path("consumer-log"), "w+b"))
            process = stack.enter_context(subprocess.Popen(
                [*command, ADDRESS, self.answers, group], cwd=self.directory, stdout=subprocess.PIPE, stderr=log, text=True,
                env={**self.environment, "KAFKAJS_NO_PARTITIONER_WARNING": "1"}))  # fmt: skip
            stack.callback(process.kill)

            def follow():
                for line in process.stdout:
                    printed.append(line.rstrip("\n"))
                    if len(printed) >= lines:
                        enough.set()

            reader = threading.Thread(target=follow)
            reader.start()
            came = enough.wait(WAIT_S)
            time.sleep(1)  # for what it should not print, and for a commit
            process.send_signal(signal.SIGTERM)
            code = process.wait(WAIT_S)
            reader.join()
            log.seek(0)
            said = log.read().decode(errors="replace")
        self.assertTrue(came, f"{len(printed)} of {lines} lines came\n{said}")
        self.assertIn(code, (0, 143), said)  # 143: Java
        return printed

    def check(self, *command):
        group = f"{self.application}-{time.time_ns()}"
        expected = [line_of(record) for record in self.written]
        printed = self.consume(command, group, len(expected))
        self.assertEqual(sorted(printed), sorted(expected))

        # Started again, it reads what has come since, and only that.
        newer = {**self.written[-1], "sequence_number": self.written[-1]["sequence_number"] + 1, "a_field_of_later": [{}]}
        self.transaction([newer])
        self.written.append(newer)
        printed = self.consume(command, group, 1)
        self.assertEqual(printed, [line_of(newer)])

    def run_to_end(self, *command, **more):
        done = subprocess.run(command, cwd=self.directory, env={**os.environ, **more}, capture_output=True, text=True,
                              timeout=WAIT_S)  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def python(self):
        self.check(sys.executable, "-u", self.write("consume.py", example("consume.py")))

    def java(self):
        version = re.search(r"^kafka_version=(\S+)", (ROOT / "deploy/local-kafka.sh").read_text(), re.MULTILINE)[1]
        jars = CACHE / f"kafka-{version}"
        program = self.write("Consume.java", example("Consume.java"))
        modules = subprocess.run(["java", "--list-modules"], capture_output=True, text=True, timeout=WAIT_S).stdout
        if "jdk.compiler" not in modules:
            self.skipTest("this Java has no compiler: openjdk-17-jdk-headless (Debian 13: openjdk-21-jdk-headless)")
        self.check("java", "-Xmx256m", "-cp", f"{jars}/*", program)

    def cpp(self):
        program = self.write("consume.cc", example("consume.cc"))
        compiler = os.environ.get("CXX") or "g++"
        self.run_to_end(compiler, "-std=c++20", "-Wall", "-Werror", str(program), "-o", "consume", "-lrdkafka++")
        self.check(self.path("consume"))

    def go(self):
        clients = CACHE / "clients/go"
        if not (clients / "go.sum").exists() or shutil.which("go") is None:
            self.skipTest("no Go, or no client: tests/integration/fetch_clients.sh")
        self.write("go/consume.go", example("consume.go"))
        for name in ("go.mod", "go.sum"):
            shutil.copy(clients / name, self.path("go"))
        self.run_to_end("go", "build", "-C", "go", "-o", "consume", ".", GOPROXY="off", GOFLAGS="-mod=mod -buildvcs=false")
        self.check(self.path("go/consume"))

    def node(self):
        clients = CACHE / "clients/node/node_modules"
        if not clients.exists() or shutil.which("node") is None:
            self.skipTest("no Node.js, or no client: tests/integration/fetch_clients.sh")
        self.path("node_modules").symlink_to(clients)
        program = self.write("consume.mjs", example("consume.mjs"))
        self.check("node", program)


if __name__ == "__main__":
    for module in ("confluent_kafka", "jsonschema"):
        if importlib.util.find_spec(module) is None:
            print(f"skipped: this Python has no {module} (deploy/install-dependencies.sh test)")
            sys.exit(1 if os.environ.get("FRESHET_TEST_NO_SKIP") else 77)
    import confluent_kafka
    import schemas

    main()
