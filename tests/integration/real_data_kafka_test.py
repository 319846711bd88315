"""All of a real log through freshet run, from a real broker to a real broker: a record for every event, no gaps.

The data is found, or else missed, as tests/commands/test_real_data.py has it.
"""

import csv
import gzip
import re
import shutil
import subprocess
import time
import urllib.request

from kafka_support import ADDRESS, WAIT_S, read
from run_kafka_test import KafkaCase
from support import write_model
from test_real_data import ML_1M, LogTest, main_with

READ = ["-C", "-e", "-q", "-o", "beginning", "-f", "%s\\n", "-X", "isolation.level=read_committed"]


class RealDataKafkaTest(KafkaCase, LogTest):
    guarantee = "exactly_once"
    top_k = 3

    def produce(self, log):
        """`log` as JSON with the default mapping, keyed by user."""
        command = ["kcat", "-b", ADDRESS, "-P", "-t", self.events, "-K", "\t", "-X",
                   "partitioner=murmur2_random", "-X", "linger.ms=50"]  # fmt: skip
        with subprocess.Popen(command, stdin=subprocess.PIPE) as kcat, gzip.open(log, "rt", newline="") as file:
            for row in csv.DictReader(file):
                user, item, time_s = row["user"], row["item"], row["timestamp"]
                kcat.stdin.write(
                    f'{user}\t{{"user_id":"{user}","item_id":"{item}","timestamp":{time_s}000}}\n'.encode()
                )
        self.assertEqual(kcat.returncode, 0)

    def answered(self, process):
        port = re.search(r"on port (\d+)", self.said(process))
        if port is None:
            return 0
        with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/metrics", timeout=5) as metrics:
            found = re.search(r"(?m)^freshet_recommendations_total (\S+)$", metrics.read().decode())
        return float(found[1]) if found else 0

    def test_ml_1m(self):
        began = time.monotonic()
        events, items = self.read(ML_1M, "user", "item")
        self.assertEqual((events.total(), len(events)), (999_611, 6_040))
        shutil.rmtree(self.path("model"))
        write_model(self.path("model"), items, types=["view"], dim=32, layers=2, heads=2, window=20)
        self.produce(ML_1M)
        process = self.start(recommend__top_k=self.top_k, processing__workers="auto", processing__commit_interval="100ms")
        self.wait_for(lambda: self.answered(process) >= events.total(), "answers are missing")
        self.stop(process)
        command = ["kcat", "-b", ADDRESS, *READ, "-t", self.answers]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as answers:
            self.check(answers.stdout, events)
        self.assertEqual(answers.wait(WAIT_S), 0)
        self.assertEqual(read(self.letters), [])
        self.report(began, self.said(process))


if __name__ == "__main__":
    main_with(ML_1M)
