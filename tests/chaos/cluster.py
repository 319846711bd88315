"""What the faults hit: the broker behind its proxy, the instances, and whoever starts an instance again that has ended."""

import collections
import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "commands"))

from support import PROGRAM, write_model  # noqa: E402

from kafka_client import Inspector, KafkaError, Reader  # noqa: E402
from proxy import Proxy  # noqa: E402

PARTITIONS = 4
ITEMS = 100
SESSION_S = 6
TOP_K = 5
SNAPSHOTS_INTERVAL = "4s"  # short, so that users are in a snapshot at other times than its watermark
EVENTS, ANSWERS, LETTERS = "events", "answers", "letters"
ORACLE = "oracle"
ORACLE_ANSWERS, ORACLE_LETTERS = "oracle-answers", "oracle-letters"
WAIT_S = 300  # for anything that takes seconds on an idle machine
MANAGER_DELAY_S = 0.5


class Failure(Exception):
    """The run cannot go on, or what it proves does not hold."""


class Broker:
    """A lone one. Where it gives its partitions up, at a controlled shutdown or because its session is over, nobody takes them,
    and what transactions end at that moment goes without markers (docs/guarantees.md): so it gives up nothing while it runs."""

    def __init__(self, directory):
        self.directory = directory
        self.proxy = Proxy()
        self.call("start", "--port", "0", "--advertise", self.proxy.address)
        self.stop()
        with open(directory / "server.properties", "a") as properties:
            properties.write("controlled.shutdown.enable=false\n")
        self.start()
        self.proxy.broker_port = int((directory / "address").read_text().rsplit(":", 1)[1])
        self.address = self.proxy.address

    def call(self, *arguments):
        command = [ROOT / "deploy" / "local-kafka.sh", *arguments, "--directory", self.directory]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, env=clean_environment())
        if done.returncode != 0:
            raise Failure(f"deploy/local-kafka.sh {' '.join(arguments)}: {done.stdout}{done.stderr}")

    def start(self):
        self.call("start")

    def start_again(self):
        """Once its end is known."""
        self.call("fence")
        self.start()

    def stop(self):
        self.call("stop")

    def kill(self):
        self.call("stop", "--now")

    def lost_markers(self):
        """Transactions that the broker ended without telling the partitions: its own failure, after which nothing is proven."""
        return (self.directory / "broker.log").read_text(errors="replace").count("hence can be skipped")

    def signal(self, number):
        os.kill(int((self.directory / "pid").read_text()), number)


def clean_environment(**more):
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("FRESHET_")}
    return {**environment, **more}


class Instance:
    """One place for a process: its state directory, its client.id, and the processes that were there, one at a time."""

    def __init__(self, cluster, name, application=None, answers=ANSWERS, letters=LETTERS):
        self.cluster, self.name = cluster, name
        self.application = application or cluster.application
        self.answers, self.letters = answers, letters
        self.directory = cluster.directory / name
        self.directory.mkdir()
        self.state = self.directory / "state"
        self.wanted = False
        self.process, self.log, self.starts = None, None, 0
        self.start_at = 0.0

    def command(self, commit_interval, workers, hot_cache):
        settings = {
            "application": self.application, "kafka.bootstrap_servers": self.cluster.broker.address,
            "source.topic": EVENTS, "sink.topic": self.answers, "dead_letters.topic": self.letters,
            "processing.guarantee": "exactly_once", "processing.commit_interval": commit_interval,
            "processing.workers": workers, "state.directory": self.state, "state.hot_cache": hot_cache,
            "state.write_buffer": "4MiB", "snapshots.interval": SNAPSHOTS_INTERVAL, "model.directory": self.cluster.directory / "model",
            "recommend.top_k": TOP_K, "http.listen": "127.0.0.1:0", "kafka.properties.client.id": self.name,
            "kafka.properties.session.timeout.ms": SESSION_S * 1000,
        }  # fmt: skip
        words = [PROGRAM, "run"]
        for key, value in settings.items():
            words += ["--set", f"{key}={value}"]
        return words

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def start(self, fail_points="", commit_interval=None, workers=None, hot_cache="8MiB"):
        """The settings alternate from one start to the next: short and long commits, one worker and two."""
        commit_interval = commit_interval or ("20ms", "2s")[self.starts % 2]
        workers = workers or 1 + self.starts // 2 % 2
        self.starts += 1
        self.wanted = True
        self.log = self.directory / f"log-{self.starts:03}"
        environment = clean_environment(FRESHET_FAIL_POINTS=fail_points, FRESHET_MUTATION=self.cluster.mutation)
        with self.log.open("wb") as log:
            log.write(f"commit interval {commit_interval}, workers {workers}, fail points {fail_points}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                self.command(commit_interval, workers, hot_cache), stderr=log, stdin=subprocess.DEVNULL,
                cwd=self.directory, env=environment, start_new_session=True,
            )  # fmt: skip

    def said(self):
        return self.log.read_text(errors="replace") if self.log else ""

    def signal(self, number):
        if self.running:
            self.process.send_signal(number)

    def kill(self):
        """As kill -9; a stopped process ends, too."""
        if self.running:
            self.process.kill()
            self.process.wait(WAIT_S)

    def stop(self):
        """SIGTERM: drains, commits and ends. The service manager takes no notice."""
        self.wanted = False
        if not self.running:
            return
        began = time.monotonic()
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.cluster.note(f"{self.name}: does not end within 60 s of SIGTERM: killed")
            self.cluster.slow_stops += 1
            self.kill()
        self.cluster.longest_stop_s = max(self.cluster.longest_stop_s, time.monotonic() - began)
        self.cluster.record_exit(self)

    def get(self, path):
        """(status, body) of the control plane, or None where it is not there."""
        port = re.search(r"on port (\d+)", self.said())
        if port is None or not self.running:
            return None
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", int(port[1]), timeout=10)) as connection:
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                return response.status, response.read()
            except OSError:
                return None

    def digest(self):
        """Of all users' tokens, profiles and positions; raises where a user is not consistent."""
        words = [PROGRAM, "state", "verify", "--digest", "--set", f"state.directory={self.state}"]
        words += ["--set", f"application={self.application}"]
        words += ["--set", f"model.directory={self.cluster.directory / 'model'}"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=WAIT_S, env=clean_environment())
        if done.returncode != 0:
            raise Failure(f"{self.name}: state verify: {done.stderr}")
        return done.stdout.strip()


class Cluster:
    def __init__(self, directory, instances, mutation=""):
        self.directory, self.mutation = directory, mutation
        self.application = "chaos"
        self.began = time.monotonic()
        self.journal = (directory / "journal").open("w")
        self.exits = []  # (seconds, instance, code, its last lines)
        self.instances = []
        self.restarts = self.aborts = self.slow_stops = 0
        self.longest_stop_s = 0.0
        write_model(directory / "model", [f"i{n}" for n in range(1, ITEMS + 1)])
        self.broker = Broker(directory / "kafka")
        self.proxy = self.broker.proxy
        self.inspector = Inspector(self.broker.address, self.application)
        self.inspector.create_topics(
            {EVENTS: PARTITIONS, ANSWERS: PARTITIONS, LETTERS: 1, ORACLE_ANSWERS: PARTITIONS, ORACLE_LETTERS: 1}
        )
        if not self.wait_for(self.answers_for_topics, WAIT_S):
            raise Failure("the broker does not know its new topics")
        self.reader = self.read(ANSWERS, LETTERS)  # all along
        self.instances = [Instance(self, f"instance-{n}") for n in range(instances)]

    def answers_for_topics(self):
        try:
            return all(self.ends(topic, 1) for topic in (EVENTS, ANSWERS, LETTERS, ORACLE_ANSWERS, ORACLE_LETTERS))
        except KafkaError:
            return False

    def read(self, *topics):
        return Reader(self.broker.address, [(t, p) for t in topics for p in range(1 if "letters" in t else PARTITIONS)])

    def note(self, text):
        line = f"{time.monotonic() - self.began:8.2f} {text}"
        print(line, file=self.journal, flush=True)
        print(line, flush=True)

    def record_exit(self, instance):
        code = instance.process.returncode
        said = instance.said()
        self.aborts += said.count("goes back to the last commit")
        last = said.strip().splitlines()[-3:]
        self.exits.append((time.monotonic() - self.began, instance.name, code, instance.log.name, last))
        if code not in (0, -signal.SIGKILL):
            self.note(f"{instance.name} ended with {code} ({instance.log.name}): {last[-1] if last else ''}")
        instance.process = None

    def manage(self):
        """Starts what has ended and is wanted, as a service manager does."""
        for instance in self.instances:
            if instance.process is not None and instance.process.poll() is not None:
                self.record_exit(instance)
                instance.start_at = time.monotonic() + MANAGER_DELAY_S
            if instance.wanted and instance.process is None and time.monotonic() >= instance.start_at:
                instance.start()
                self.restarts += 1

    def wait(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.manage()
            time.sleep(min(0.1, max(0, deadline - time.monotonic())))

    def wait_for(self, condition, seconds):
        """Whether `condition` came true in time; the service manager works on."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.manage()
            if condition():
                return True
            time.sleep(0.1)
        return False

    def running(self):
        return [instance for instance in self.instances if instance.running]

    def committed(self, group=None):
        """The group's offsets; None while nobody answers."""
        try:
            if group is None:
                return self.inspector.committed(EVENTS, PARTITIONS)
            with contextlib.closing(Inspector(self.broker.address, group)) as inspector:
                return inspector.committed(EVENTS, PARTITIONS)
        except KafkaError:
            return None

    def ends(self, topic=EVENTS, partitions=PARTITIONS, isolation="read_uncommitted"):
        with contextlib.closing(Inspector(self.broker.address, isolation=isolation)) as inspector:
            return [inspector.end(topic, partition) for partition in range(partitions)]

    def run_alone(self, instance, group=None):
        """Runs one instance, with all partitions, until it has caught up and the group is at the end of the input."""
        ends = self.ends()
        instance.start(commit_interval="100ms", workers=1)

        def caught_up():
            if not instance.running:
                raise Failure(f"{instance.name} ended: {instance.said()[-2000:]}")
            ready = instance.get("/readyz")
            said = instance.said()
            all_there = all(f"{EVENTS}[{p}]: reading from" in said for p in range(PARTITIONS))
            return all_there and ready is not None and ready[0] == 200 and self.committed(group) == ends

        if not self.wait_for(caught_up, WAIT_S):
            raise Failure(f"{instance.name} alone does not reach {ends}: {self.committed(group)}, {instance.said()[-2000:]}")

    def recommendations(self, instance, users):
        """What the control plane answers for each user; nothing where it knows none."""
        found = {}
        for user in users:
            answer = instance.get(f"/v1/recommendations/{user}?k={TOP_K}")
            if answer is None or answer[0] not in (200, 404):
                raise Failure(f"{instance.name}: /v1/recommendations/{user}: {answer}")
            found[user] = json.loads(answer[1])["items"] if answer[0] == 200 else []
        return found

    def exit_table(self):
        return collections.Counter(code for _, _, code, _, _ in self.exits)

    def close(self):
        for instance in self.instances:
            instance.wanted = False
            instance.kill()
        self.proxy.heal()
        with contextlib.suppress(FileNotFoundError):  # it may be what failed
            self.broker.signal(signal.SIGCONT)
        self.reader.close()
        self.inspector.close()
        self.broker.kill()
        self.journal.close()
