"""A user who is forgotten: by HTTP or by command, in state, topics and `freshet serve`, over kills, empty disks and snapshots."""

import contextlib
import http.client
import json
import re
import time

from kafka_support import kcat, produce, read
from run_kafka_test import KafkaCase
from support import main

USER = "a/b é"
PATH = "a%2Fb%20%C3%A9"


class Forget(KafkaCase):
    guarantee = "exactly_once"

    def request(self, process, method, path, **headers):
        """(status, ETag, body) of an HTTP server."""
        port = int(re.search(r"on port (\d+)", self.said(process))[1])
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            return answer.status, answer.getheader("ETag"), json.loads(body) if body else None

    def forget(self, process):
        """The place of the tombstone. A busy machine's broker may answer too late, for a 503 that is no refusal."""
        while (answer := self.request(process, "DELETE", f"/v1/users/{PATH}"))[0] == 503:
            time.sleep(0.2)
        self.assertEqual((answer[0], answer[2]["topic"]), (202, self.events))
        return answer[2]

    def told(self):
        """What the recommendation topic says of the user: sequence numbers, None for tombstones."""
        payloads = [record["payload"] for record in read(self.answers) if record["key"] == USER]
        numbers = [payload and json.loads(payload)["sequence_number"] for payload in payloads]
        return [number for number, before in zip(numbers, [0, *numbers]) if number is not None or before is not None]

    def in_snapshot(self):
        """The newest record of the user: its size, -1 for a tombstone, None for none."""
        arguments = ["-C", "-e", "-q", "-t", f"{self.application}-snapshots", "-o", "beginning", "-f", "%S %k\\n"]
        lines = kcat(*arguments, "-X", "isolation.level=read_committed").decode().splitlines()
        sizes = [int(line.split(" ", 1)[0]) for line in lines if line.split(" ", 1)[1] == "u" + USER]
        return sizes[-1] if sizes else None

    def events_of_user(self, count):
        start = int(time.time() * 1000)
        return [json.dumps({"user_id": USER, "item_id": f"i{n}", "timestamp": start + n, "event_id": f"e{n}"}) for n in range(1, count + 1)]

    def wait_until_unknown(self, process):
        for path in ("/v1/users/", "/v1/recommendations/"):
            self.wait_for(lambda path=path: self.request(process, "GET", path + PATH)[0] == 404, f"{path}: the user is not forgotten")

    def test_nothing_brings_the_user_back(self):
        run = self.start(snapshots__interval="1s")
        serve = self.start_command("serve", serve__directory=str(self.path("served")))
        produce(self.events, self.lines()[:300] + self.events_of_user(5))
        self.wait_for(lambda: len(read(self.answers)) == 305, "the answers do not come")
        self.wait_for(lambda: (self.in_snapshot() or 0) > 0, "the user is in no snapshot")
        path = f"/v1/recommendations/{PATH}"
        self.wait_for(lambda: self.request(serve, "GET", path)[:2] == (200, '"5"'), "serve does not have the user")

        place = self.forget(run)
        self.wait_until_unknown(run)
        self.wait_for(lambda: self.request(serve, "GET", path, **{"If-None-Match": '"5"'})[0] == 404, "serve has the user still")
        self.assertEqual(self.told(), [1, 2, 3, 4, 5, None])
        self.wait_for(lambda: self.in_snapshot() == -1, "the snapshot has the user still")
        self.wait_for(lambda: "\nfreshet_forgotten_users_total 1\n" in self.ask(run, "/metrics")[1], "it is not counted")
        self.assertIn("forgot 1 users", self.said(run))
        self.assertNotIn(USER, self.said(run))

        run.kill()
        run.wait()
        elsewhere = self.start(state="elsewhere", snapshots__interval="1s")
        self.wait_until_ready(elsewhere)
        self.assertIn("restored", self.said(elsewhere))
        self.wait_until_unknown(elsewhere)
        self.assertEqual(self.request(elsewhere, "GET", f"/v1/users/{self.log[0]['user_id']}")[0], 200)

        produce(self.events, self.events_of_user(3))  # of the same event ids
        self.wait_for(lambda: self.told() == [1, 2, 3, 4, 5, None, 1, 2, 3], "the user does not begin anew")
        state = self.request(elsewhere, "GET", f"/v1/users/{PATH}")[2]
        self.assertEqual((state["sequence_number"], len(state["tokens"])), (3, 3))
        self.wait_for(lambda: self.request(serve, "GET", path)[0] == 200, "serve does not have the user again")
        self.assertRegex(self.request(serve, "GET", path)[1], r'^"3-\d+"$')
        self.stop(serve)
        self.stop(elsewhere)

        backup = self.path("backup")
        self.run_program("state", "snapshot", "--output", backup, settings=self.kafka_settings("elsewhere"))
        forgotten = self.run_program("state", "forget", USER, settings=self.kafka_settings("elsewhere"))
        self.assertEqual(json.loads(forgotten.stdout)["partition"], place["partition"])
        for state, flags, settings in (("from-files", ["--snapshot", backup], {"snapshots__topic": "none"}),
                                       ("from-input", [], {"snapshots__topic": "none"})):  # fmt: skip
            process = self.start(*flags, state=state, **settings)
            self.wait_until_ready(process)
            self.wait_until_unknown(process)
            self.assertEqual(self.told(), [1, 2, 3, 4, 5, None, 1, 2, 3, None])
            self.stop(process)
            stored = self.run_program("state", "get", USER, settings=self.kafka_settings(state), expect=1)
            self.assertIn("not in", stored.stderr)
        self.assertEqual(self.digest("from-files", application=self.application), self.digest("from-input", application=self.application))

    def test_before_the_snapshot_knows(self):
        """The newest snapshot has the user; the rest of the input takes them away."""
        run = self.start(snapshots__interval="1s")
        produce(self.events, self.lines()[:300] + self.events_of_user(5))
        self.wait_for(lambda: len(read(self.answers)) == 305, "the answers do not come")
        self.wait_for_snapshot()
        run.kill()
        run.wait()
        run = self.start(snapshots__interval="1h")
        self.wait_until_ready(run)
        produce(self.events, self.events_of_user(6)[5:])
        self.wait_for(lambda: len(self.told()) == 6, "the answer does not come")
        time.sleep(2)  # a walk through the users begins, and the next one in half an hour
        self.forget(run)
        self.wait_until_unknown(run)
        self.assertGreater(self.in_snapshot(), 0)
        run.kill()
        run.wait()
        elsewhere = self.start(state="elsewhere", snapshots__interval="1s")
        self.wait_until_ready(elsewhere)
        self.wait_until_unknown(elsewhere)
        self.wait_for(lambda: self.in_snapshot() == -1, "the snapshot has the user still")
        self.stop(elsewhere)
        self.assertEqual(self.told(), [1, 2, 3, 4, 5, 6, None])
        state = self.start(state="third")
        self.wait_until_ready(state)
        self.wait_until_unknown(state)
        self.stop(state)


if __name__ == "__main__":
    main()
