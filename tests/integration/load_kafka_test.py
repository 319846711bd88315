"""freshet run and serve under load, with all that may happen beside it: look-ups, streams, scrapes, users to forget, changing
models, an instance that joins and leaves.

What the answers say other tests compare; this one asks that each event is answered once and that every process ends well, and
is what tests/tsan.sh runs with ThreadSanitizer. $FRESHET_TEST_LOAD_S: seconds, 10.
"""

import contextlib
import http.client
import json
import os
import random
import re
import subprocess
import threading
import time

from kafka_support import ADDRESS, WAIT_S, read
from run_kafka_test import ITEMS, KafkaCase
from support import SEED, main, random_log, write_model

SECONDS = float(os.environ.get("FRESHET_TEST_LOAD_S", "10"))
CHUNK = 100  # events, ten times a second
USERS = 60
STRANGERS = 2  # users who never click; they are forgotten all the time
ASKERS = 3
STREAMS = 5


class Load(KafkaCase):
    guarantee = "exactly_once"

    def setUp(self):
        super().setUp()
        self.models = self.path("models")
        items = [f"i{n}" for n in range(1, ITEMS + 1)]
        for seed, name in enumerate("ab"):
            write_model(self.models / name, items, seed=seed)
        self.point_to("a")
        self.ending = threading.Event()
        self.failures, self.ports, self.sent, self.asked, self.streamed = [], [], 0, 0, 0

    def point_to(self, name):
        (self.models / "next").symlink_to(name)
        (self.models / "next").rename(self.models / "current")

    def in_background(self, work, *arguments):
        def run():
            try:
                work(*arguments)
            except Exception as failure:  # noqa: BLE001: of any kind, for the test's own thread
                self.failures.append(failure)

        thread = threading.Thread(target=run)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.ending.set)
        return thread

    def publish(self):
        lines = [json.dumps(entry) for entry in random_log(self.numbers, USERS, ITEMS, int(SECONDS * CHUNK * 10))]
        command = ["kcat", "-b", ADDRESS, "-P", "-t", self.events, "-K", "\t", "-X", "partitioner=murmur2_random"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as producer:
            while self.sent < len(lines) and not self.ending.is_set():
                chunk = lines[self.sent : self.sent + CHUNK]
                producer.stdin.writelines(f"{json.loads(line)['user_id']}\t{line}\n" for line in chunk)
                producer.stdin.flush()
                self.sent += len(chunk)
                self.ending.wait(0.1)

    def look_up(self, seed):
        """Of every instance, as fast as it answers; some connections go on, some go away. An instance may have gone."""
        numbers = random.Random(SEED + seed)
        while not self.ending.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                with contextlib.closing(http.client.HTTPConnection("127.0.0.1", numbers.choice(self.ports), timeout=10)) as connection:
                    for _ in range(numbers.randrange(1, 20)):
                        self.ask_something(connection, numbers)
            self.ending.wait(0.005)

    def ask_something(self, connection, numbers):
        user = f"u{numbers.randrange(USERS + STRANGERS)}"
        stranger = f"u{USERS + numbers.randrange(STRANGERS)}"
        body = json.dumps({"user_id": user, "items": [f"i{n}" for n in range(1, 30)]})
        question = numbers.choice((("GET", f"/v1/recommendations/{user}?k=5"), ("GET", f"/v1/users/{user}"), ("POST", "/v1/rank", body),
                                   ("GET", "/metrics"), ("GET", "/v1/status"), ("GET", "/readyz"), ("GET", "/v1/dead-letters"),
                                   ("GET", "/"), ("POST", "/v1/rank", "{}"), ("DELETE", f"/v1/users/{stranger}")))  # fmt: skip
        connection.request(*question)
        answer = connection.getresponse()
        text = answer.read()
        self.asked += 1
        if answer.status not in (200, 202, 404, 503, 504) and question[-1] != "{}":
            raise AssertionError(f"{question}: {answer.status} {text[:500]}")

    def look_up_served(self, port):
        """Of `serve`, all on one connection, with what was seen before."""
        numbers, tags = random.Random(SEED), {}
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            while not self.ending.is_set():
                user = f"u{numbers.randrange(USERS + STRANGERS)}"
                connection.request("GET", f"/v1/recommendations/{user}", headers={"If-None-Match": tags.get(user, "*")})
                answer = connection.getresponse()
                answer.read()
                tags[user] = answer.getheader("ETag", "*")
                self.asked += 1
                if answer.status not in (200, 304, 404):
                    raise AssertionError(f"serve: {user}: {answer.status}")
                self.ending.wait(0.002)

    def follow(self, port, seed):
        """Users' streams, each for a while."""
        numbers = random.Random(SEED + seed)
        while not self.ending.is_set():
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)) as connection:
                connection.request("GET", f"/v1/recommendations/u{numbers.randrange(USERS)}/stream")
                answer = connection.getresponse()
                for _ in range(numbers.randrange(1, 30)):
                    if self.ending.is_set() or not answer.readline():
                        break
                    self.streamed += 1

    def start_one(self, state):
        process = self.start(state=state, model__directory=self.models / "current", processing__workers=2, state__history=15,
                             snapshots__interval="1s")  # fmt: skip
        self.wait_for(lambda: re.search(r"on port (\d+)", self.said(process)), "it does not serve")
        process.port = int(re.search(r"on port (\d+)", self.said(process))[1])
        self.ports.append(process.port)
        return process

    def lag(self, process):
        status = json.loads(self.ask(process, "/v1/status")[1])
        return status["lag"] if status["ready"] else None

    def test_everything_at_once(self):
        first = self.start_one("first")
        self.wait_until_ready(first)
        serve = self.start_command("serve", serve__directory=str(self.path("served")))
        self.wait_for(lambda: re.search(r"on port (\d+)", self.said(serve)), "serve does not serve")
        served = int(re.search(r"on port (\d+)", self.said(serve))[1])
        publisher = self.in_background(self.publish)
        askers = [self.in_background(self.look_up, number) for number in range(ASKERS)]
        askers += [self.in_background(self.follow, served, number) for number in range(STREAMS)]
        askers.append(self.in_background(self.look_up_served, served))
        changes = 0
        while publisher.is_alive():
            second = self.start_one("second")
            self.wait_until_ready(second)
            for name in "ba":
                self.point_to(name)
                time.sleep(1.5)  # a link is looked at every second
            self.ports.remove(second.port)
            self.stop(second)
            changes += 1
        self.ending.set()
        self.stop(serve)  # which ends its streams
        for thread in askers:
            thread.join()
        self.assertEqual(self.failures, [])
        self.assertGreater(self.streamed, 0)
        self.wait_for(lambda: self.lag(first) == 0, "it does not catch up")
        self.stop(first)
        found = [json.loads(record["payload"]) for record in read(self.answers) if record["payload"]]  # not who is forgotten
        keys = [(record["user_id"], record["sequence_number"]) for record in found]
        self.assertEqual((len(keys), len(set(keys))), (self.sent, self.sent))
        versions = {record["model"]["version"] for record in found}
        self.assertEqual(len(versions), 2)
        print(f"{self.sent} events, {self.asked} look-ups, {self.streamed} lines of streams, {changes} instances that came and went, {2 * changes} changes of model")


if __name__ == "__main__":
    main()
