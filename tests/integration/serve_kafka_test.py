"""freshet serve beside freshet run: what was published last is what is looked up, over kills, removals and bad records."""

import contextlib
import http.client
import json
import re
import urllib.parse

from kafka_support import kcat, new_topics, produce
from run_kafka_test import KafkaCase
from support import main


class Serve(KafkaCase):
    guarantee = "exactly_once"

    def serve(self):
        return self.start_command("serve", serve__directory=str(self.path("served")))

    def look_up(self, process, user, query="", tag=None, **headers):
        """(status, ETag, record)"""
        port = int(re.search(r"on port (\d+)", self.said(process))[1])
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
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
