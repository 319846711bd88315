"""freshet run goes over to other models while events come: every event is answered, by one model, in the models' order."""

import contextlib
import json
import re
import signal
import subprocess
import threading
import time

from kafka_support import ADDRESS, kcat
from run_kafka_test import ITEMS, PARTITIONS, KafkaCase
from support import main, random_log, read_output, write_model

HISTORY = 15  # what the first model needs
EVENTS_A_SECOND = 200
ENOUGH = 150  # answers of a model before the next one comes
COMMITTED = ["-X", "isolation.level=read_committed"]


class Publisher(threading.Thread):
    """Sends events, one by one, until it is told to stop."""

    def __init__(self, topic, lines):
        super().__init__()
        self.topic, self.lines, self.sent, self.told = topic, lines, 0, threading.Event()
        self.start()

    def run(self):
        command = ["kcat", "-b", ADDRESS, "-P", "-t", self.topic, "-K", "\t", "-X", "partitioner=murmur2_random"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as producer:
            while not self.told.is_set() and self.sent < len(self.lines):
                line = self.lines[self.sent]
                producer.stdin.write(f"{json.loads(line)['user_id']}\t{line}\n")
                producer.stdin.flush()
                self.sent += 1
                time.sleep(1 / EVENTS_A_SECOND)

    def stop(self):
        self.told.set()
        self.join()


class ModelSwap(KafkaCase):
    """What both guarantees keep."""

    def setUp(self):
        super().setUp()
        self.log = random_log(self.numbers, users=60, items=ITEMS, events=100_000)
        self.models = self.path("models")
        items = [f"i{n}" for n in range(1, ITEMS + 1)]
        write_model(self.models / "a", items, seed=1)
        write_model(self.models / "b", items[20:] + ["i0", "later"], types=("purchase", "view"), dim=24, layers=1,
                    heads=3, window=10, seed=2)  # fmt: skip
        write_model(self.models / "c", items, seed=3)
        write_model(self.models / "cut", items, seed=4)
        with open(self.models / "cut" / "model.safetensors", "r+b") as weights:
            weights.truncate(9000)
        write_model(self.models / "deep", items, layers=4, seed=5)
        (self.models / "current").symlink_to("a")
        self.versions = {name: self.version(self.models / name) for name in "abc"}

    def version(self, model):
        return json.loads(self.run_program("model", "inspect", model, "--json").stdout)["version"]

    def point_to(self, name):
        """As ln -sfn and mv -T."""
        (self.models / "next").symlink_to(name)
        (self.models / "next").rename(self.models / "current")

    def start_swapping(self):
        return self.start(model__directory=self.models / "current", state__history=HISTORY, processing__workers=2)

    def served(self, process):
        status, body = self.ask(process, "/v1/status")
        return json.loads(body)["model"]["version"] if status == 200 else None

    def metric(self, process, name):
        found = re.search(rf"(?m)^freshet_{name} (\S+)$", self.ask(process, "/metrics")[1])
        return float(found[1])

    def wait_until_served(self, process, name):
        self.wait_for(lambda: self.served(process) == self.versions[name], f"model {name} is not served")
        self.assert_answers_by(process, self.versions[name])

    def assert_answers_by(self, process, version):
        """What comes from now on."""
        before = self.metric(process, "recommendations_total")
        self.wait_for(lambda: self.metric(process, "recommendations_total") > before + ENOUGH, "no answers come")
        for partition in range(PARTITIONS):
            self.wait_for(lambda p=partition: self.newest(p) == {version}, f"not all of {partition} is answered by it")

    def newest(self, partition):
        """The versions of some answers, not of all up to the end: that goes on. Waits for the first."""
        words = ["-C", "-c", "5", "-q", "-t", self.answers, "-p", str(partition), "-o", "-10"]
        return {json.loads(line)["model"]["version"] for line in kcat(*words, *COMMITTED).splitlines()}

    def assert_refused(self, process, name, reason, refusals):
        before = self.served(process)
        self.point_to(name)
        self.wait_for(lambda: self.metric(process, "model_refusals_total") == refusals, f"model {name} is not refused")
        self.assertRegex(self.said(process), f"error model.directory: .*{reason}.*: refused; model .* goes on serving")
        self.assert_answers_by(process, before)
        self.assertEqual(self.served(process), before)
        self.assertEqual(self.metric(process, "model_refusals_total"), refusals)

    def answers_of(self, name, directory):
        """What `freshet replay` answers to the same log with one model, by event."""
        lines = "".join(json.dumps(entry) + "\n" for entry in self.log)
        self.replay(self.write("log.jsonl", lines), output=f"{name}.jsonl", state=f"alone-{name}",
                    model__directory=directory, state__history=HISTORY)  # fmt: skip
        records = read_output(self.path(f"{name}.jsonl"))
        return {(record["user_id"], record["sequence_number"]): record for record in records}

    def assert_answered_by(self, records, directories, order):
        """Every event once, as its record's model answers it; in each partition the models' versions come in `order`."""
        alone = {self.versions[name]: self.answers_of(name, directory) for name, directory in directories.items()}
        places, keys = {}, set()
        for record in records:
            key = record["user_id"], record["sequence_number"]
            self.assertTrue(self.guarantee == "at_least_once" or key not in keys, f"{key} was answered twice")
            keys.add(key)
            version = record["model"]["version"]
            expected = alone[version][key]
            self.assertEqual(record["source"]["event_time"], expected["source"]["event_time"], key)
            self.assert_same_items(record["items"], expected["items"], key)
            place = record["source"]["partition"], record["source"]["offset"]
            places.setdefault(place, version)
        self.assertEqual(keys, alone[self.versions["a"]].keys())
        seen = {}
        for (partition, _), version in sorted(places.items()):
            versions = seen.setdefault(partition, [])
            if not versions or versions[-1] != version:
                versions.append(version)
        expected = [self.versions[name] for name in order]
        self.assertEqual(seen, {partition: expected for partition in range(PARTITIONS)})

    def test_models_change_while_events_come(self):
        publisher = Publisher(self.events, self.lines())
        self.addCleanup(publisher.stop)
        process = self.start_swapping()
        self.wait_for(lambda: "model a version" in self.said(process), "it does not start")
        process.send_signal(signal.SIGHUP)  # heard when it has started
        self.wait_until_served(process, "a")
        self.wait_for(lambda: "is what is served already" in self.said(process), "SIGHUP is forgotten")
        self.assertEqual(self.metric(process, "model_swaps_total"), 0)
        self.assertEqual(self.metric(process, "model_last_swap_timestamp_seconds"), 0)

        self.point_to("b")
        self.wait_until_served(process, "b")
        self.assertEqual(self.metric(process, "model_swaps_total"), 1)
        self.assertAlmostEqual(self.metric(process, "model_last_swap_timestamp_seconds"), time.time(), delta=600)
        self.assert_refused(process, "cut", "model.safetensors: .*truncated", 1)
        self.assert_refused(process, "deep", "needs the last 29 events .*state keeps 15.*restart", 2)

        # The same path, another content.
        self.point_to("b")
        self.wait_for(lambda: self.said(process).count("is what is served already") == 2, "the link is not followed")
        (self.models / "b").rename(self.models / "b-before")
        (self.models / "c").rename(self.models / "b")
        process.send_signal(signal.SIGHUP)
        self.wait_until_served(process, "c")

        # Killed on the way.
        self.point_to("a")
        time.sleep(self.numbers.random() * 2.5)
        process.kill()
        process.wait()
        process = self.start_swapping()
        self.wait_until_served(process, "a")
        status, body = self.ask(process, "/v1/recommendations/u1")
        self.assertEqual((status, json.loads(body)["model"]), (200, {"name": "a", "version": self.versions["a"]}))

        publisher.stop()
        self.log = self.log[: publisher.sent]
        self.wait_for(lambda: len({(r["user_id"], r["sequence_number"]) for r in self.found()}) == publisher.sent,
                      "answers are missing")  # fmt: skip
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGHUP)  # changes nothing any more
        self.assertEqual(process.wait(60), 0, self.said(process))
        directories = {"a": self.models / "a", "b": self.models / "b-before", "c": self.models / "b"}
        self.assert_answered_by(self.found(), directories, "abca")
        self.assertEqual(self.digest(application=self.application), self.digest("alone-a"), "no model leaves traces")

    def test_sighup_never_ends_it(self):
        process = self.start(model__directory=self.models / "a", kafka__bootstrap_servers="127.0.0.1:1")
        self.wait_for(lambda: "refused" in self.said(process), "the log says nothing")
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
            process.send_signal(number)
        self.assertEqual(process.wait(60), 0, self.said(process))


class AtLeastOnceTest(ModelSwap):
    guarantee = "at_least_once"


class ExactlyOnceTest(ModelSwap):
    guarantee = "exactly_once"


del ModelSwap  # it has no guarantee of its own


if __name__ == "__main__":
    main()
