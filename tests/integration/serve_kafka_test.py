"""freshet serve beside freshet run: what was published last is what is looked up, over kills, removals and bad records."""

import contextlib
import http.client
import json
import re
import ssl
import statistics
import subprocess
import time
import urllib.parse

from kafka_support import kcat, new_topics, produce
from run_kafka_test import KafkaCase
from support import main


class Events:
    """What an EventSource makes of an answer: (id, name, data) by data."""

    def __init__(self, answer):
        self.answer = answer

    def __iter__(self):
        fields = {}
        while line := self.answer.readline():
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif fields:  # a comment has none
                yield fields["id"], fields["event"], json.loads(fields["data"])
                fields = {}


class Serve(KafkaCase):
    guarantee = "exactly_once"

    def serve(self, **settings):
        return self.start_command("serve", serve__directory=str(self.path("served")), **settings)

    def port(self, process):
        return int(re.search(r"on port (\d+)", self.said(process))[1])

    def stream(self, process, user, context=None, **headers):
        """The events of a user's stream."""
        connect = http.client.HTTPConnection if context is None else http.client.HTTPSConnection
        connection = connect("localhost", self.port(process), timeout=60, **({"context": context} if context else {}))
        self.addCleanup(connection.close)
        connection.request("GET", f"/v1/recommendations/{urllib.parse.quote(user, safe='')}/stream", headers=headers)
        answer = connection.getresponse()
        self.assertEqual((answer.status, answer.getheader("Content-Type")), (200, "text/event-stream"))
        return iter(Events(answer))

    def look_up(self, process, user, query="", tag=None, **headers):
        """(status, ETag, record)"""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port(process), timeout=5)) as connection:
            path = f"/v1/recommendations/{urllib.parse.quote(user, safe='')}{query}"
            connection.request("GET", path, headers={**headers, **({"If-None-Match": tag} if tag else {})})
            answer = connection.getresponse()
            body = answer.read()
            return answer.status, answer.getheader("ETag"), json.loads(body) if body else None

    def publish(self, user, value):
        kcat("-P", "-t", self.answers, "-K", "\t", "-Z", input=f"{user}\t{value}\n".encode())

    def record(self, user, number, items=("i1",)):
        listed = [{"item_id": item, "score": 1 / (1 + n)} for n, item in enumerate(items)]
        return {"user_id": user, "sequence_number": number, "items": listed}

    def test_the_newest_of_what_run_publishes_is_served(self):
        run, serve = self.start(), self.serve()
        produce(self.events, self.lines()[:2000])
        self.wait_for_answers(2000)
        self.wait_until_ready(serve)
        self.assert_newest(serve)
        serve.kill()
        self.assertEqual(serve.wait(), -9)
        produce(self.events, self.lines()[2000:])
        self.stop_once_answered(run, 3000)
        again = self.serve()
        self.wait_until_ready(again)
        self.assert_newest(again)
        self.assertLess(json.loads(self.ask(again, "/v1/status")[1])["records"], 1100)  # it went on where it was
        self.stop(again)

    def assert_newest(self, process):
        newest = {record["user_id"]: record for record in self.found()}
        self.assertGreater(len(newest), 50)
        for user, record in newest.items():
            self.assertEqual(self.look_up(process, user), (200, f'"{record["sequence_number"]}"', record))

    def test_look_ups(self):
        user = "a/b é?"
        process = self.serve()
        self.wait_until_ready(process)
        self.assertEqual(self.look_up(process, user)[0], 404)
        first, second = self.record(user, 1), self.record(user, 2, [f"i{n}" for n in range(9)])
        self.publish(user, json.dumps(first))
        self.wait_for(lambda: self.look_up(process, user)[0] == 200, "it is not served")
        self.assertEqual(self.look_up(process, user), (200, '"1"', first))
        self.assertEqual(self.look_up(process, user, tag='"1"'), (304, '"1"', None))
        self.publish(user, json.dumps(second))
        self.wait_for(lambda: self.look_up(process, user, tag='"1"')[0] == 200, "the newer one is not served")
        self.assertEqual(self.look_up(process, user), (200, '"2"', second))
        self.assertEqual(self.look_up(process, user, "?k=3")[2], {**second, "items": second["items"][:3]})
        self.assertEqual(self.look_up(process, user, "?k=99")[2], second)
        for bad in ("?k=0", "?k=-1", "?k=", "?k=x", "?k=99999999999999999999"):
            self.assertEqual(self.look_up(process, user, bad)[0], 400, bad)
        self.publish(user, "")  # a tombstone
        self.wait_for(lambda: self.look_up(process, user)[0] == 404, "it is not removed")
        self.stop(process)

    def test_a_click_reaches_the_page(self):
        run, serve = self.start(), self.serve()
        self.wait_until_ready(run)
        self.wait_until_ready(serve)
        events = self.stream(serve, "u1")  # nobody knows the user yet
        seconds = []
        for number in range(1, 31):
            click = {"user_id": "u1", "item_id": f"i{number}", "timestamp": int(time.time() * 1000), "event_id": f"e{number}"}
            began = time.monotonic()
            while self.post(run, "/v1/events", click)[0] != 202:  # on a busy machine
                began = time.monotonic()
            tag, name, record = next(events)
            seconds.append(time.monotonic() - began)
            self.assertEqual((tag, name, record["user_id"]), (str(number), "recommendations", "u1"))
            self.assertEqual(self.look_up(serve, "u1"), (200, f'"{number}"', record))
        ordered = sorted(seconds)
        print(f"click to event: median {1e3 * statistics.median(ordered):.0f} ms, slowest {1e3 * ordered[-1]:.0f} ms of {len(ordered)}")
        again = self.stream(serve, "u1", **{"Last-Event-ID": "29"})
        self.assertEqual(next(again)[0], "30")
        self.stop(serve)
        self.assertEqual((list(events), list(again)), ([], []))  # the answers are whole
        self.stop(run)

    def test_streams_over_tls_with_a_token(self):
        tokens = self.write("tokens", f"read {'r' * 32}\nwrite {'w' * 32}\n")
        pair = self.path("own.pem"), self.path("own.key")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost", "-days", "30", "-out", pair[0], "-keyout", pair[1]],
            check=True, capture_output=True,
        )  # fmt: skip
        for path in (tokens, pair[1]):
            path.chmod(0o600)
        process = self.serve(
            http__tokens_file=str(tokens), http__tls__certificate=str(pair[0]), http__tls__key=str(pair[1])
        )
        self.wait_for(lambda: "on port" in self.said(process), "it does not serve")
        context = ssl.create_default_context(cafile=pair[0])
        for token, status in ((None, 401), ("w" * 32, 403)):
            connection = http.client.HTTPSConnection("localhost", self.port(process), timeout=20, context=context)
            with contextlib.closing(connection):
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                connection.request("GET", "/v1/recommendations/u1/stream", headers=headers)
                self.assertEqual(connection.getresponse().status, status)
        events = self.stream(process, "u1", context, authorization=f"Bearer {'r' * 32}")
        for number in range(1, 6):
            self.publish("u1", json.dumps(self.record("u1", number, [f"i{n}" for n in range(500)])))
            self.assertEqual(next(events)[2]["sequence_number"], number)
        self.stop(process)
        self.assertEqual(list(events), [])

    def test_tokens(self):
        tokens = self.write("tokens", f"read {'r' * 32}\nwrite {'w' * 32}\n")
        tokens.chmod(0o600)
        process = self.start_command(
            "serve", serve__directory=str(self.path("served")), http__listen="0.0.0.0:0", http__tokens_file=str(tokens),
            http__allow_plaintext="true",
        )  # fmt: skip
        self.wait_until_ready(process)
        for token, status in (("x" * 32, 401), ("w" * 32, 403), ("r" * 32, 404)):
            self.assertEqual(self.look_up(process, "u1", authorization=f"Bearer {token}")[0], status, token)
        self.assertEqual(self.look_up(process, "u1")[0], 401)
        self.stop(process)

    def test_bad_records_are_counted_and_change_nothing(self):
        process = self.serve()
        good = self.record("u1", 7)
        self.publish("u1", json.dumps(good))
        bad = ["nothing", "[]", "{}", '{"user_id":"u2","sequence_number":8,"items":[]}', '{"user_id":"u1","items":[]}',
               '{"user_id":"u1","sequence_number":"8","items":[]}', '{"user_id":"u1","sequence_number":8}']  # fmt: skip
        for value in bad:
            self.publish("u1", value)
        self.wait_for(lambda: f"freshet_serve_bad_records_total {len(bad)}\n" in self.ask(process, "/metrics")[1],
                      "they are not counted")  # fmt: skip
        self.assertEqual(self.look_up(process, "u1"), (200, '"7"', good))
        self.assertEqual(self.said(process).count("no recommendation of its key's user"), 1)
        text = self.ask(process, "/metrics")[1]
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        self.stop(process)

    def test_a_directory_is_of_one_topic_and_one_process(self):
        process = self.serve()
        self.wait_until_ready(process)
        self.assert_refused(1, "another process has it open")
        self.stop(process)
        (self.answers,) = new_topics(1, "others")
        self.assert_refused(2, "holds records of topic")

    def assert_refused(self, code, message):
        process = self.serve()
        self.assertEqual(process.wait(60), code)
        self.assertIn(message, self.said(process))
        self.processes.remove(process)
        process.log.close()


if __name__ == "__main__":
    main()
