"""freshet replay --output kafka: log files answered on a real broker, each event once, over a stop in the middle."""

import json
import os
import random
import signal
import subprocess
import time

from kafka_support import ADDRESS, WAIT_S, new_topics, read
from support import SEED, CommandTest, main, random_log, read_output, write_model

ITEMS = 100
EVENTS = 2000
PARTITIONS = 4
BAD = ["not an event", '{"user_id":"u1"}']


class ReplayKafkaTest(CommandTest):
    def setUp(self):
        super().setUp()
        write_model(self.path("model"), [f"i{n}" for n in range(1, ITEMS + 1)])
        self.log = random_log(random.Random(SEED), users=60, items=ITEMS, events=EVENTS)
        lines = [json.dumps(entry) for entry in self.log]
        lines[EVENTS // 3 : EVENTS // 3] = BAD[:1]
        half = len(lines) // 2
        self.inputs = [
            self.write("1.jsonl", "\n".join(lines[:half]) + "\n"),
            self.write("2.jsonl", "\n".join(lines[half:] + BAD[1:]) + "\n"),
        ]
        events, self.answers = new_topics(PARTITIONS, "events", "answers")
        (self.letters,) = new_topics(1, "letters")
        self.kafka = {
            "application": f"replay-{os.getpid()}-{time.time_ns()}", "kafka__bootstrap_servers": ADDRESS,
            "source__topic": events, "sink__topic": self.answers, "dead_letters__topic": self.letters,
            "processing__guarantee": "at_least_once",
        }  # fmt: skip

    def replay_to_kafka(self, *inputs, **more):
        return self.run_program(
            "replay", "--input", *inputs, "--output", "kafka", settings=self.settings(**self.kafka, **more)
        ).stderr

    def stopped_after(self, answers):
        """A run that gets SIGTERM once so much is committed; every event is a commit, so it takes long."""
        slowly = {"processing__max_batch": 1, "processing__commit_interval": "1ms"}
        words = ["replay", "--input", *self.inputs, "--output", "kafka"]
        command = self.command(words, self.settings(**self.kafka, **slowly))
        with subprocess.Popen(command, stderr=subprocess.PIPE, env=self.environment) as process:
            deadline = time.monotonic() + WAIT_S
            while self.committed() < answers:
                time.sleep(0.01)
                self.assertIsNone(process.poll(), "it ended too early")
                self.assertLess(time.monotonic(), deadline)
            process.send_signal(signal.SIGTERM)
            said = process.stderr.read().decode()
        self.assertEqual(process.returncode, 1, said)
        self.assert_error(said, "interrupted; everything so far is committed")

    def committed(self):
        """About how many records were read and committed, at least."""
        try:
            return max(file * EVENTS // 2 + record for file, record in self.positions().values())
        except (FileNotFoundError, ValueError):
            return 0

    def commits(self):
        return json.loads(self.path("state/commits.json").read_text())

    def positions(self):
        """By partition: (file, record), the next one."""
        return {int(p): (at >> 40, at & ((1 << 40) - 1)) for p, at in self.commits()["positions"].items()}

    def check_answers(self):
        records = [json.loads(record["payload"]) for record in read(self.answers)]
        self.replay(*self.inputs, output="expected.jsonl", state="expected", application=self.kafka["application"])
        expected = read_output(self.path("expected.jsonl"))
        self.assert_numbered(records, self.log)
        self.assert_same_answers(records, expected)
        of_application = {"application": self.kafka["application"]}
        self.assertEqual(self.digest(**of_application), self.digest("expected", **of_application))
        for record in read(self.answers):
            self.assertEqual(record["key"], json.loads(record["payload"])["user_id"])

    def check_letters(self):
        letters = read(self.letters)
        self.assertEqual(sorted(letter["payload"] for letter in letters), sorted(BAD))
        headers = {letter["payload"]: dict(zip(letter["headers"][::2], letter["headers"][1::2])) for letter in letters}
        self.assertEqual(headers[BAD[0]]["freshet.error"], "invalid_json")
        self.assertEqual(headers[BAD[0]]["freshet.topic"], "1.jsonl")
        self.assertEqual(int(headers[BAD[0]]["freshet.offset"]), EVENTS // 3)
        self.assertEqual(headers[BAD[1]]["freshet.topic"], "2.jsonl")

    def test_a_stop_in_the_middle(self):
        self.stopped_after(EVENTS // 10)
        commits, stopped = self.commits(), self.positions()
        self.assertEqual([entry["path"] for entry in commits["inputs"]], [str(path) for path in self.inputs])
        self.assertEqual(commits["outputs"], {}, "the broker keeps the answers")
        self.assertEqual(len(stopped), 4)
        self.assertTrue(all((0, 0) < position < (2, 0) for position in stopped.values()), stopped)

        log = self.replay_to_kafka(*self.inputs, processing__workers=2)
        self.assertNotIn(f"replayed {EVENTS} events", log, "it went on in the middle")
        self.assertEqual(set(self.positions().values()), {(2, 0)})
        self.check_answers()
        self.check_letters()

        self.assertIn("replayed 0 events", self.replay_to_kafka(*self.inputs))
        self.check_answers()

    def test_only_the_newest(self):
        done = self.run_program("replay", "--input", *self.inputs, "--output", "kafka", "--emit", "final",
                                settings=self.settings(**self.kafka))  # fmt: skip
        self.assertIn(f"replayed {EVENTS} events: 60 recommendations, 2 dead letters", done.stderr)
        records = [json.loads(record["payload"]) for record in read(self.answers)]
        counts = {}
        for entry in self.log:
            counts[entry["user_id"]] = counts.get(entry["user_id"], 0) + 1
        self.assertEqual({record["user_id"]: record["sequence_number"] for record in records}, counts)
        self.assertEqual(len(records), len(counts))
        self.check_letters()


if __name__ == "__main__":
    main()
