"""freshet run from a real broker to a real broker: every event answered, over stops, kills and moving partitions."""

import contextlib
import http.client
import itertools
import json
import os
import random
import re
import signal
import subprocess
import time

from kafka_support import ADDRESS, WAIT_S, kcat, new_topics, produce, read
from support import SEED, CommandTest, main, random_log, read_output, write_model

ITEMS = 100
EVENTS = 3000
PARTITIONS = 4
names = itertools.count()


class KafkaCase(CommandTest):
    """Topics, a log of events, and processes of freshet run."""

    guarantee = None

    def setUp(self):
        super().setUp()
        self.numbers = random.Random(SEED)
        write_model(self.path("model"), [f"i{n}" for n in range(1, ITEMS + 1)])
        self.log = random_log(self.numbers, users=60, items=ITEMS, events=EVENTS)
        self.application = f"run-{os.getpid()}-{next(names)}-{time.time_ns()}"
        self.events, self.answers = new_topics(PARTITIONS, "events", "answers")
        (self.letters,) = new_topics(1, "letters")
        self.processes = []
        self.addCleanup(self.kill_all)

    def kill_all(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            process.log.close()

    def kafka_settings(self, state="state", **more):
        settings = {
            "application": self.application, "kafka.bootstrap_servers": ADDRESS, "source.topic": self.events,
            "sink.topic": self.answers, "dead_letters.topic": self.letters, "processing.guarantee": self.guarantee,
            "processing.commit_interval": "20ms", "http.listen": "127.0.0.1:0",
            "kafka.properties.session.timeout.ms": 6000,
        }  # fmt: skip
        return {**settings, **self.settings(state, **more)}

    def start(self, *flags, **settings):
        return self.start_command("run", *flags, **settings)

    def start_command(self, *words, **settings):
        return self.start_program(*words, settings=self.kafka_settings(**settings))

    def start_program(self, *words, settings):
        command = self.command(words, settings)
        log = open(self.path(f"log-{len(self.processes)}"), "w+b")  # closed by kill_all
        process = subprocess.Popen(command, stderr=log, cwd=self.directory, env=self.environment)
        process.log = log
        self.processes.append(process)
        return process

    def said(self, process):
        process.log.seek(0)
        return process.log.read().decode(errors="replace")

    def stop(self, process):
        """SIGTERM drains, commits and exits 0."""
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(WAIT_S), 0, self.said(process))

    def wait_for(self, condition, what):
        deadline = time.monotonic() + WAIT_S
        while not condition():
            for process in self.processes:
                self.assertIn(process.poll(), (None, 0, -signal.SIGKILL), self.said(process))
            self.assertLess(time.monotonic(), deadline, what + "\n" + self.said(self.processes[-1]))
            time.sleep(0.2)

    def wait_for_answers(self, answers):
        self.wait_for(lambda: len(self.found()) >= answers, f"{answers} answers do not come")

    def stop_once_answered(self, process, answers):
        self.wait_for_answers(answers)
        self.stop(process)

    def move_offset(self, partition, offset):
        """As kafka-consumer-groups.sh --reset-offsets does, once nobody is in the group any more."""
        time.sleep(10)  # static members stay for the session timeout, 6 s
        arguments = ["--commit", self.application, self.events, str(partition), str(offset)]
        subprocess.run([os.environ["FRESHET_CREATE_TOPICS"], *arguments], check=True, timeout=WAIT_S)

    def ask(self, process, path):
        """(status, body) of its control plane."""
        port = re.search(r"on port (\d+)", self.said(process))
        if port is None:
            return None, ""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", int(port[1]), timeout=5)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def post(self, process, path, body, headers=None):
        """(status, body) of its control plane."""
        port = int(re.search(r"on port (\d+)", self.said(process))[1])
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request("POST", path, json.dumps(body), headers or {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def ready(self, process):
        return self.ask(process, "/readyz")[0]

    def wait_until_ready(self, process):
        self.wait_for(lambda: self.ready(process) == 200, "it does not become ready")

    def snapshot(self, topic=None):
        """(partition, key) of what is in the snapshot topic."""
        arguments = ["-C", "-e", "-q", "-t", topic or f"{self.application}-snapshots", "-o", "beginning", "-f", "%p %k\\n"]
        lines = kcat(*arguments, "-X", "isolation.level=read_committed").decode().splitlines()
        return [tuple(line.split(" ", 1)) for line in lines]

    def wait_for_snapshot(self, topic=None):
        """Until every partition has a watermark (`m...`; users are `u...`), and nothing more is written for two intervals of a second."""
        seen = None
        while seen is None or seen != self.snapshot(topic):
            seen = self.snapshot(topic)
            self.wait_for(lambda: len({p for p, key in self.snapshot(topic) if key.startswith("m")}) == PARTITIONS,
                          "no snapshot comes")  # fmt: skip
            time.sleep(2)

    def found(self):
        return [json.loads(record["payload"]) for record in read(self.answers)]

    def replayed(self):
        """What the same log gives without a broker."""
        lines = "".join(json.dumps(entry) + "\n" for entry in self.log)
        self.replay(self.write("log.jsonl", lines), output="expected.jsonl", state="expected")
        records = read_output(self.path("expected.jsonl"))
        return {(record["user_id"], record["sequence_number"]): record for record in records}

    def assert_answered(self, records, repeats=False):
        """Every event is answered as `freshet replay` does; once, or (after a crash) again with the same content."""
        expected, seen = self.replayed(), {}
        for record in records:
            key = record["user_id"], record["sequence_number"]
            self.assertTrue(repeats or key not in seen, f"{key} was answered twice")
            seen[key] = record
            self.assertEqual(record["source"]["topic"], self.events)
            self.assertEqual(record["source"]["event_time"], expected[key]["source"]["event_time"], key)
            self.assert_same_items(record["items"], expected[key]["items"], key)
        self.assertEqual(seen.keys(), expected.keys())

    def lines(self):
        return [json.dumps(entry) for entry in self.log]


class RunKafka(KafkaCase):
    """What both guarantees keep."""

    def test_restarts_go_on_where_the_last_run_stopped(self):
        lines, bad = self.lines(), ["not an event", '{"user_id":"u1"}', ""]
        third = EVENTS // 3
        produce(self.events, lines[:third] + bad[:2])
        first = self.start()
        self.wait_for_answers(third)
        self.wait_for(lambda: len(read(self.letters)) == 2, "dead letters do not come")
        self.stop(first)

        produce(self.events, lines[third : 2 * third])
        produce(self.events, lines[2 * third :])
        second = self.start(processing__workers=2)
        self.wait_for_answers(EVENTS)
        self.stop(second)

        third_run = self.start(processing__workers=2, kafka__properties__group__instance__id="named")
        self.wait_for(lambda: "reading from offset" in self.said(third_run), "no partition comes")
        time.sleep(1)
        self.stop(third_run)
        records = self.found()
        self.assert_answered(records)
        self.assert_numbered(records, self.log)

        letters = {record["payload"]: record for record in read(self.letters)}
        self.assertEqual(set(letters), set(bad[:2]))
        headers = letters["not an event"]["headers"]
        headers = dict(zip(headers[::2], headers[1::2]))
        self.assertEqual(headers["freshet.topic"], self.events)
        self.assertEqual(headers["freshet.error"], "invalid_json")
        self.assertTrue(headers["freshet.message"])
        place = int(headers["freshet.partition"]), int(headers["freshet.offset"])
        origin = {(record["partition"], record["offset"]): record["payload"] for record in read(self.events)}
        self.assertEqual(origin[place], "not an event")
        self.assertEqual(letters["not an event"]["key"], "bad")

    def test_takes_events_over_http_and_shows_what_became_of_them(self):
        process = self.start(processing__workers=2)
        self.wait_until_ready(process)
        sent = [entry for entry in self.log if entry["user_id"] in ("u1", "u2", "u3")][:12]
        for number, entry in enumerate(sent):
            if number % 2:  # others write, too
                produce(self.events, [json.dumps(entry)])
                continue
            status, place = self.post(process, "/v1/events", entry)
            self.assertEqual((status, place["topic"]), (202, self.events))
            written = {(r["partition"], r["offset"]): (r["key"], json.loads(r["payload"])) for r in read(self.events)}
            self.assertEqual(written[place["partition"], place["offset"]], (entry["user_id"], entry))
        self.wait_for_answers(len(sent))
        users = {entry["user_id"] for entry in sent}
        for user in users:
            status, shown = self.ask(process, f"/v1/users/{user}")
            shown, events = json.loads(shown), [entry for entry in sent if entry["user_id"] == user]
            self.assertEqual((status, shown["sequence_number"]), (200, len(events)))
            self.assertEqual([token["item_id"] for token in shown["tokens"]], [entry["item_id"] for entry in events])
            newest = json.loads(self.ask(process, f"/v1/recommendations/{user}?k=3")[1])
            items = [item["item_id"] for item in reversed(newest["items"])] + ["nothing"]
            status, ranked = self.post(process, "/v1/rank", {"user_id": user, "items": items})
            self.assertEqual((status, ranked["unknown_items"]), (200, ["nothing"]))
            self.assert_same_items(ranked["items"], newest["items"], user)
        status, refused = self.post(process, "/v1/events", {"user_id": "u1", "timestamp": 1})
        self.assertEqual((status, refused["detail"][:15]), (400, "missing_item_id"))
        shown = json.loads(self.ask(process, "/v1/status")[1])
        self.assertEqual(shown["assigned_partitions"], PARTITIONS)
        self.stop(process)
        self.assertEqual(len(self.found()), len(sent))

    def test_a_trace_goes_from_the_event_to_its_recommendation(self):
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-{:016x}-01"
        process = self.start()
        self.wait_until_ready(process)
        posted = (
            {"traceparent": trace.format(1), "tracestate": "congo=t61rcWkgMzE"},
            {"traceparent": trace.format(2)}, {"traceparent": trace.format(3) + "-00"}, {"tracestate": "a=1"}, {},
        )  # fmt: skip
        for number, headers in enumerate(posted):
            event = {**self.log[0], "user_id": f"posted-{number}", "event_id": f"e{number}"}
            self.wait_for(lambda: self.post(process, "/v1/events", event, headers)[0] == 202, "nobody acknowledges")  # noqa: B023
        for number, headers in enumerate(({"traceparent": trace.format(4), "other": "x"}, {"traceparent": "4"})):
            event = {**self.log[0], "user_id": f"produced-{number}"}
            words = [word for header in headers.items() for word in ("-H", "=".join(header))]
            kcat("-P", "-t", self.events, "-K", "\t", *words, input=f"{event['user_id']}\t{json.dumps(event)}\n".encode())
        self.wait_for_answers(len(posted) + 2)
        found = {}
        for topic in (self.events, self.answers):
            for record in read(topic):
                headers = record.get("headers", [])
                found[topic, record["key"]] = dict(zip(headers[::2], headers[1::2], strict=True))
        for topic in (self.events, self.answers):
            self.assertEqual(found[topic, "posted-0"], posted[0])
            self.assertEqual(found[topic, "posted-1"], posted[1])
            for key in ("posted-2", "posted-3", "posted-4"):
                self.assertEqual(found[topic, key], {}, key)
        self.assertEqual(found[self.answers, "produced-0"], {"traceparent": trace.format(4)})
        self.assertEqual(found[self.answers, "produced-1"], {})
        self.stop(process)

    def test_a_kill_loses_nothing(self):
        produce(self.events, self.lines())
        for share in (0.2, 0.5):
            process = self.start(processing__workers=2)
            self.wait_for_answers(int(share * EVENTS))
            process.kill()
            process.wait()
        last = self.start(processing__workers=2)
        covered = lambda: {(r["user_id"], r["sequence_number"]) for r in self.found()}  # noqa: E731
        self.wait_for_answers(EVENTS)
        self.wait_for(lambda: len(covered()) == EVENTS, "answers are missing")
        self.stop(last)
        self.assert_answered(self.found(), repeats=self.guarantee == "at_least_once")

    def test_partitions_move_to_another_instance_and_back(self):
        lines = self.lines()
        produce(self.events, lines[: EVENTS // 2])
        first = self.start(state="state-1")
        self.wait_for_answers(EVENTS // 2)
        second = self.start(state="state-2")
        self.wait_for(lambda: self.said(second).count("reading from offset") >= PARTITIONS // 2, "no partition moves")
        produce(self.events, lines[EVENTS // 2 :])
        self.wait_for_answers(EVENTS)
        self.stop(first)
        self.stop(second)
        records = self.found()
        self.assert_answered(records)

    def test_a_group_offset_that_somebody_moved_is_not_followed_silently(self):
        produce(self.events, self.lines())
        self.stop_once_answered(self.start(), EVENTS)
        self.move_offset(0, 0)
        done = self.run_program("run", settings=self.kafka_settings(), expect=3)
        self.assert_error(done.stderr, f"{self.events}[0]", "was moved from outside to 0", "state is at", "--reset-offsets")
        accepting = self.start(source__on_offset_gap="accept")
        self.wait_for(lambda: "reading from offset" in self.said(accepting), "no partition comes")
        self.stop(accepting)
        self.assert_answered(self.found())

    def delete_input(self):
        """What is in the input now is gone, as after its retention."""
        for partition in range(PARTITIONS):
            arguments = ["--delete", self.events, str(partition)]
            subprocess.run([os.environ["FRESHET_CREATE_TOPICS"], *arguments], check=True, timeout=WAIT_S)

    def test_an_empty_disk_is_filled_from_snapshots(self):
        lines = self.lines()
        produce(self.events, lines[: EVENTS // 2])
        first = self.start(snapshots__interval="1s")
        self.wait_for_answers(EVENTS // 2)
        self.wait_for_snapshot()
        self.stop(first)
        self.delete_input()

        produce(self.events, lines[EVENTS // 2 :])
        second = self.start(state="elsewhere", snapshots__interval="1s")
        self.wait_for_answers(EVENTS)
        self.assertIn("restored", self.said(second))
        metrics = self.ask(second, "/metrics")[1]
        restored = re.search(r"(?m)^freshet_restored_records_total (\d+)$", metrics)
        self.assertGreaterEqual(int(restored[1]), len({entry["user_id"] for entry in self.log[: EVENTS // 2]}), metrics)
        self.assertIn("\nfreshet_restoring_partitions 0\n", metrics)
        self.stop(second)
        self.assert_answered(self.found())
        self.assertEqual(self.digest("elsewhere", application=self.application), self.digest("expected"))

    def test_a_restart_moves_no_partition(self):
        reading = lambda process: self.said(process).count("reading from offset")  # noqa: E731
        first = self.start(state="state-1")
        self.wait_until_ready(first)
        second = self.start(state="state-2")
        self.wait_for(lambda: reading(second) >= PARTITIONS // 2, "no partition moves")
        self.wait_until_ready(first)
        before = reading(first)
        self.stop(second)
        second = self.start(state="state-2")
        self.wait_until_ready(second)
        self.assertEqual(reading(second), PARTITIONS // 2, "its own, again")
        produce(self.events, self.lines())
        self.wait_for_answers(EVENTS)
        self.assertEqual(reading(first), before)
        self.stop(first)
        self.stop(second)
        self.assert_answered(self.found())

    def test_it_is_ready_once_it_reads(self):
        process = self.start()
        self.wait_until_ready(process)
        self.stop(process)

    def replay_range(self, *flags, output="range.jsonl", expect=0, state="range", **more):
        """`freshet replay` of a range of the topic; the log on stderr."""
        words = ["replay", *flags, "--output", output if output == "kafka" else self.path(output)]
        return self.run_program(*words, settings=self.kafka_settings(state, **more), expect=expect).stderr

    def test_a_range_of_the_topic_is_replayed_as_a_log_file_is(self):
        produce(self.events, self.lines() + ["not an event"])
        said = self.replay_range("--from", "earliest", processing__workers=2)
        self.assertIn(f"replayed {EVENTS} events", said)
        records = read_output(self.path("range.jsonl"))
        self.assert_answered(records)
        self.assert_numbered(records, self.log)
        self.assertEqual([letter["value"] for letter in self.dead_letters("range.jsonl")], ["not an event"])

        # Settled: what came since is not in it.
        produce(self.events, self.lines()[:10])
        self.assertIn("nothing was left to read", self.replay_range("--from", "earliest"))
        self.assertEqual(read_output(self.path("range.jsonl")), records)
        self.assertIn("replayed 0 events", self.replay_range("--to", "2001-01-01", state="before", output="b.jsonl"))

        last = self.replay_range("--from", "earliest", "--emit", "final", state="final", output="final.jsonl")
        self.assertIn(f"replayed {EVENTS + 10} events", last)
        users = {entry["user_id"] for entry in self.log}
        found = read_output(self.path("final.jsonl"))
        self.assertEqual({record["user_id"] for record in found}, users)
        self.assertEqual({record["source"]["topic"] for record in found}, {self.events})

    def test_a_killed_replay_of_a_range_goes_on_without_gap_or_repeat(self):
        produce(self.events, self.lines())
        command = self.command(
            ["replay", "--to", "latest", "--output", self.path("range.jsonl")],
            self.kafka_settings("range", processing__commit_interval="1ms", processing__max_batch=4),
        )
        killed = 0
        for _ in range(4):
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=self.directory, env=self.environment)
            self.processes.append(process)
            process.log = open(os.devnull, "rb")
            before = self.size("range.jsonl")
            while process.poll() is None and self.size("range.jsonl") < before + 200_000:
                time.sleep(0.002)
            process.kill()
            killed += process.wait() == -signal.SIGKILL
        self.assertGreaterEqual(killed, 2)
        produce(self.events, self.lines()[:10])  # behind the range
        self.replay_range("--to", "latest")
        records = read_output(self.path("range.jsonl"))
        self.assert_answered(records)
        self.assert_numbered(records, self.log)

    def size(self, name):
        return self.path(name).stat().st_size if self.path(name).exists() else 0

    def test_a_backfill_beside_a_live_application(self):
        lines = self.lines()
        produce(self.events, lines)
        live = self.start()
        self.wait_for_answers(EVENTS)
        refused = self.replay_range("--from", "earliest", state="range", output="kafka", expect=2)
        self.assert_error(refused, self.application, "1 member", "another application and sink.topic")
        self.assert_error(self.replay_range("--from", "earliest", state="state", expect=1), "in use by process")
        self.replay_range("--from", "earliest", state="file")
        self.assert_answered(read_output(self.path("range.jsonl")))
        self.stop(live)
        self.assertEqual(len(self.found()), EVENTS)

        refused = self.replay_range("--from", "earliest", state="state", expect=2)
        self.assert_error(refused, f"Kafka topic {self.events}", "set another state.directory")
        refused = self.replay_range("--from", "2001-01-01", state="file", expect=2)
        self.assert_error(refused, "the range earliest to latest", "set another state.directory")
        refused = self.run_program("run", settings=self.kafka_settings("file"), expect=2).stderr
        self.assert_error(refused, "the range earliest to latest", "set another state.directory")

        time.sleep(10)  # static members stay for the session timeout, 6 s
        (self.answers,) = new_topics(PARTITIONS, "answers")
        self.replay_range("--from", "earliest", state="range", output="kafka")
        self.assert_answered(self.found())

    def test_a_range_that_makes_no_sense(self):
        log = self.write("log.jsonl", "")
        for flags, fragments in (
            (["--input", log, "--from", "earliest"], ["--input", "--from", "not both"]),
            ([], ["--input", "--from", "ISO 8601"]),
            (["--from", "yesterday"], ["--from", "yesterday", "earliest, latest, or an ISO 8601 time"]),
            (["--from", "2026-02-01", "--to", "2026-01-01"], ["expected --from before --to"]),
        ):
            self.assert_error(self.replay_range(*flags, expect=2), *fragments)
        missing = self.replay_range("--from", "earliest", expect=2, source__topic="no-such-topic")
        self.assert_error(missing, "no-such-topic", "kafka-topics.sh")
        self.replay_range("--from", "earliest")  # the state was bound to nothing by then

    def test_what_is_missing_is_named(self):
        done = self.run_program("run", settings=self.kafka_settings(sink__topic="no-such-topic"), expect=2)
        self.assert_error(done.stderr, "no-such-topic", "kafka-topics.sh", ADDRESS)
        done = self.run_program("run", settings=self.kafka_settings(kafka__properties__no__such="1"), expect=2)
        self.assert_error(done.stderr, "kafka.properties.no.such")

    def test_a_broker_that_is_down_at_start_is_waited_for(self):
        process = self.start(kafka__bootstrap_servers="127.0.0.1:1")
        self.wait_for(lambda: "refused" in self.said(process), "the log says nothing")
        self.assertIsNone(process.poll())
        self.stop(process)


class AtLeastOnceTest(RunKafka):
    guarantee = "at_least_once"


class ExactlyOnceTest(RunKafka):
    guarantee = "exactly_once"

    def test_an_empty_disk_is_filled_from_snapshot_files(self):
        lines, backup = self.lines(), self.path("backup")
        produce(self.events, lines[: EVENTS // 2])
        self.stop_once_answered(self.start(), EVENTS // 2)
        self.run_program("state", "snapshot", "--output", backup, settings=self.kafka_settings())
        self.delete_input()

        produce(self.events, lines[EVENTS // 2 :])
        second = self.start("--snapshot", backup, state="elsewhere", snapshots__topic="none")
        self.wait_for_answers(EVENTS)
        self.assertIn("restored", self.said(second))
        self.stop(second)
        self.assert_answered(self.found())
        self.assertEqual(self.digest("elsewhere", application=self.application), self.digest("expected"))

        self.replay_range("--from", "earliest", "--snapshot", backup)
        rest = {(record["user_id"], record["sequence_number"]) for record in read_output(self.path("range.jsonl"))}
        self.assertEqual(len(rest), EVENTS - EVENTS // 2)
        self.assertTrue(rest < self.replayed().keys())
        self.assertEqual(self.digest("range", application=self.application), self.digest("expected"))

        settings = self.kafka_settings("late", snapshots__topic="none")
        self.delete_input()
        done = self.run_program("run", "--snapshot", backup, settings=settings, expect=3)
        self.assert_error(done.stderr, "input begins at offset", "state is at", "events are gone", "on_offset_gap")
        settings = self.kafka_settings("other", application="another")
        done = self.run_program("run", "--snapshot", backup, settings=settings, expect=2)
        self.assert_error(done.stderr, f"application {self.application}", "application another")

    def run_on(self, lines, state, **settings):
        """A run that answers `lines` on top of what was answered, and saves all of it."""
        answered = len(self.found())
        produce(self.events, lines)
        process = self.start(state=state, snapshots__interval="1s", **settings)
        self.wait_for_answers(answered + len(lines))
        self.wait_for_snapshot(settings.get("snapshots__topic"))
        self.stop(process)

    def test_snapshot_topics_that_come_and_go_hold_everybody(self):
        third = EVENTS // 3
        few = [entry for entry in self.log[2 * third :] if entry["user_id"] in ("u1", "u2", "u3")]
        self.log = self.log[: 2 * third] + few
        lines = self.lines()
        one, other = f"{self.application}-one", f"{self.application}-other"
        self.run_on(lines[:third], "state", snapshots__topic=one)
        self.run_on(lines[third : 2 * third], "state", snapshots__topic=other)
        subprocess.run([os.environ["FRESHET_CREATE_TOPICS"], "--drop", other], check=True, timeout=WAIT_S)
        rest = lines[2 * third :]
        self.run_on(rest[: len(rest) // 2], "state", snapshots__topic=one)
        self.run_on(rest[len(rest) // 2 :], "state", snapshots__topic=other)
        self.assert_answered(self.found())
        for topic in (one, other):
            restored = self.start(state=topic, snapshots__topic=topic)
            self.wait_until_ready(restored)
            self.assertEqual(self.said(restored).count("restored"), PARTITIONS)
            self.stop(restored)
            self.assertEqual(self.digest(topic, application=self.application), self.digest("expected"), topic)

    def test_an_old_disk_is_filled_from_snapshots_where_the_input_is_gone(self):
        lines = self.lines()
        self.run_on(lines[: EVENTS // 2], "old")
        self.run_on(lines[EVENTS // 2 :], "new")
        self.delete_input()
        back = self.start(state="old")
        self.wait_until_ready(back)
        self.assertIn("the local state is deleted", self.said(back))
        self.stop(back)
        self.assert_answered(self.found())
        self.assertEqual(self.digest("old", application=self.application), self.digest("expected"))

    def partitions_in(self, state):
        return sum(1 for path in self.path(state).iterdir() if path.name.startswith("partition-"))

    def test_local_state_of_lost_partitions_goes_after_a_time(self):
        lines = self.lines()
        produce(self.events, lines[: EVENTS // 2])
        first = self.start(state="first", state__keep_lost="2s", snapshots__interval="1s")
        self.wait_for_answers(EVENTS // 2)
        self.wait_until_ready(first)
        second = self.start(state="second", snapshots__interval="1s")
        metric = f"freshet_removed_partitions_total {PARTITIONS // 2}"
        self.wait_for(lambda: metric in self.ask(first, "/metrics")[1], "lost partitions stay")
        self.assertEqual(self.said(first).count("its local state is deleted"), PARTITIONS // 2)
        self.assertEqual(self.partitions_in("first"), PARTITIONS // 2)
        produce(self.events, lines[EVENTS // 2 :])
        self.wait_for_answers(EVENTS)
        self.wait_for_snapshot()
        self.stop(second)
        self.wait_for(lambda: self.partitions_in("first") == PARTITIONS, "the partitions do not come back")
        self.wait_until_ready(first)
        self.stop(first)
        self.assert_answered(self.found())
        self.assertEqual(self.digest("first", application=self.application), self.digest("expected"))


del RunKafka  # it has no guarantee of its own


if __name__ == "__main__":
    main()
