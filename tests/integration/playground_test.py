"""freshet run --embedded-broker: what a newcomer sees without Kafka. The broker is the program's own; kcat is a stranger to it."""

import contextlib
import http.client
import itertools
import json
import pathlib
import re
import signal
import statistics
import subprocess
import time

from support import CommandTest, main, write_model

DEMO = pathlib.Path(__file__).resolve().parents[2] / "models/demo"
WAIT_S = 120
CLICKS = 20


class PlaygroundCase(CommandTest):
    """A process of freshet run --embedded-broker."""

    def setUp(self):
        super().setUp()
        self.path("tmp").mkdir()
        self.ids = itertools.count()
        self.environment["TMPDIR"] = str(self.path("tmp"))

    def launch(self, *flags, **settings):
        """Until it listens."""
        settings = {"model.directory": DEMO, "http.listen": "127.0.0.1:0", "recommend.top_k": 10, **settings}
        command = self.command(["run", "--embedded-broker", *flags], settings)
        self.log = self.path("log").open("wb")
        self.addCleanup(self.log.close)
        process = subprocess.Popen(command, stderr=self.log, cwd=self.directory, env=self.environment)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.port = int(self.wait_for(lambda: re.search(r" on port (\d+)", self.said()), process)[1])
        self.broker = re.search(r"--embedded-broker: .* at (127\.0\.0\.1:\d+)", self.said())[1]
        return process

    def start(self, *flags, **settings):
        process = self.launch(*flags, **settings)
        self.wait_for(lambda: self.ask("GET", "/readyz")[0] == 200, process)
        return process

    def said(self):
        return self.path("log").read_text(errors="replace")

    def wait_for(self, condition, process):
        deadline = time.monotonic() + WAIT_S
        while not (found := condition()):
            self.assertIsNone(process.poll(), self.said())
            self.assertLess(time.monotonic(), deadline, self.said())
            time.sleep(0.005)
        return found

    def ask(self, method, path, body=None, port=None):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=10)) as connection:
            connection.request(method, path, json.dumps(body) if body else None)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or "{}")

    def stop(self, process):
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(WAIT_S), 0, self.said())
        self.assertEqual(list(self.path("tmp").iterdir()), [])


class Playground(PlaygroundCase):
    def click(self, process, user, item):
        """Again where a busy machine did not acknowledge it in time, as docs/http.md has it."""
        event = {"user_id": user, "item_id": item, "timestamp": int(time.time() * 1000), "event_id": str(next(self.ids))}
        self.wait_for(lambda: self.ask("POST", "/v1/events", event)[0] == 202, process)

    def recommended(self, user, events):
        """The user's list, once it is of so many events; else nothing."""
        status, record = self.ask("GET", f"/v1/recommendations/{user}")
        return record if status == 200 and record["sequence_number"] == events else None

    def kcat(self, *arguments, **options):
        return subprocess.run(["kcat", "-b", self.broker, *arguments], check=True, capture_output=True, timeout=WAIT_S, **options).stdout

    def test_clicks_change_the_list_and_strangers_read_it(self):
        process = self.start("--shoppers", "100", **{"kafka.properties.security.protocol": "ssl"})  # of another broker
        seen = self.kcat("-C", "-q", "-t", "freshet.recommendations", "-o", "beginning", "-c", "50").splitlines()
        shoppers = [json.loads(line) for line in seen]
        self.assertTrue(all(re.fullmatch(r"u\d+", record["user_id"]) and len(record["items"]) == 10 for record in shoppers))
        self.assertGreater(len({record["items"][0]["item_id"] for record in shoppers}), 5)

        latencies, item, lists = [], "i1", set()
        for number in range(1, CLICKS + 1):
            begun = time.monotonic()
            self.click(process, "me", item)
            record = self.wait_for(lambda number=number: self.recommended("me", number), process)
            latencies.append(1000 * (time.monotonic() - begun))
            lists.add(tuple(entry["item_id"] for entry in record["items"]))
            self.assertNotIn(item, [entry["item_id"] for entry in record["items"]])
            item = record["items"][0]["item_id"]
        self.assertGreater(len(lists), CLICKS / 2)
        print(f"click to changed list: median {statistics.median(latencies):.0f} ms, longest {max(latencies):.0f} ms")

        event = {"user_id": "stranger", "item_id": "i2", "timestamp": 1_760_000_000_000}
        self.kcat("-P", "-t", "freshet.events", "-K", "\t", input=f"stranger\t{json.dumps(event)}\n?\tnothing\n".encode())
        self.wait_for(lambda: self.recommended("stranger", 1), process)
        (letter,) = self.kcat("-C", "-q", "-t", "freshet.dead-letters", "-o", "beginning", "-c", "1").splitlines()
        self.assertEqual(letter, b"nothing")
        status = self.ask("GET", "/v1/status")[1]
        self.assertTrue(status["ready"] and status["embedded_broker"])
        self.stop(process)

    def test_each_start_is_a_beginning(self):
        for _ in range(2):
            process = self.start()
            self.assertEqual(self.ask("GET", "/v1/recommendations/me")[0], 404)
            self.click(process, "me", "i1")
            self.wait_for(lambda: self.recommended("me", 1), process)
            self.stop(process)

    def test_what_cannot_be(self):
        write_model(self.path("model"), ["a", "b"])
        for arguments, settings, fragments in [
            (["--shoppers", "5"], {}, ["--shoppers", "--embedded-broker"]),
            (["--embedded-broker", "--shoppers", "0"], {}, ["--shoppers"]),
            (["--embedded-broker", "--shoppers", "nan"], {}, ["--shoppers"]),
            (["--embedded-broker", "--shoppers", "5"], {"model.directory": self.path("model")},
             ["--shoppers: model model does not know their items"]),
            (["--embedded-broker", "--shoppers", "5"], {"model.directory": DEMO, "source.mapping.user_id": "/visitor"},
             ["--shoppers: source.format and source.mapping do not read their events: user_id (/visitor)"]),
        ]:  # fmt: skip
            error = self.run_program("run", *arguments, settings={"http.listen": "127.0.0.1:0", **settings}, expect=2).stderr
            for fragment in fragments:
                self.assertIn(fragment, error)
        self.assertEqual(list(self.path("tmp").iterdir()), [])


if __name__ == "__main__":
    main()
