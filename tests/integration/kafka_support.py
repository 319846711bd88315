"""What the tests on a real broker share: kcat, topics, records, and the settings that lead to them.

$FRESHET names the program, $FRESHET_TEST_KAFKA the directory of a broker that deploy/local-kafka.sh started, and
$FRESHET_CREATE_TOPICS the program of tests/ingest/kafka/create_topics.cc.
"""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "commands"))

BROKER = pathlib.Path(os.environ["FRESHET_TEST_KAFKA"])
ADDRESS = (BROKER / "address").read_text().strip()
WAIT_S = 240  # for anything that takes a second on an idle machine


def kcat(*arguments, **options):
    command = ["kcat", "-b", ADDRESS, *arguments]
    return subprocess.run(command, check=True, capture_output=True, timeout=WAIT_S, **options).stdout


def new_topics(partitions, *hints):
    return subprocess.run(
        [os.environ["FRESHET_CREATE_TOPICS"], str(partitions), *hints], check=True, capture_output=True, timeout=WAIT_S
    ).stdout.decode().split()  # fmt: skip


def read(topic):
    """The committed records of a topic, each partition's in order."""
    arguments = ["-C", "-e", "-q", "-J", "-t", topic, "-o", "beginning", "-X", "isolation.level=read_committed"]
    return [json.loads(line) for line in kcat(*arguments).splitlines()]


def produce(topic, lines):
    """Keyed by user; what is no event has the key `bad`."""
    text = "".join(f"{json.loads(line)['user_id'] if line.startswith('{') else 'bad'}\t{line}\n" for line in lines)
    kcat("-P", "-t", topic, "-K", "\t", "-X", "partitioner=murmur2_random", input=text.encode())
