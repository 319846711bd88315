"""Several instances of freshet run in one group: a look-up finds its way to the one that has the user, also when that one dies."""

import contextlib
import http.client
import json
import pathlib
import re
import socket
import subprocess
import urllib.parse

from kafka_support import produce
from run_kafka_test import KafkaCase
from support import main

HTTP_MD = pathlib.Path(__file__).resolve().parents[2] / "docs" / "http.md"

class Owner(KafkaCase):
    guarantee = "exactly_once"

    def start_at(self, name, **settings):
        """An instance that tells its address, which is where it listens."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        process = self.start(
            state=name, http__listen=address, http__advertise=address, http__allow_anonymous="true", processing__workers=1, **settings
        )  # fmt: skip
        process.address = address
        return process

    def exchange(self, address, target, body=None):
        host, port = address.split(":")
        with contextlib.closing(http.client.HTTPConnection(host, int(port), timeout=10)) as connection:
            connection.request("GET" if body is None else "POST", target, body and json.dumps(body))
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def follow(self, process, target, body=None):
        """(address of the one that answered, status, body): there is at most one redirect."""
        status, headers, content = self.exchange(process.address, target, body)
        if status != 307:
            return process.address, status, content
        self.assertEqual(content, b"")
        self.assertGreaterEqual(int(headers["Freshet-Owner-Age"]), 0)
        location = urllib.parse.urlsplit(headers["Location"])
        self.assertEqual((location.scheme, location.path), ("http", target.split("?")[0]))
        self.assertNotEqual(location.netloc, process.address)
        try:
            status, _, content = self.exchange(location.netloc, f"{location.path}?{location.query}", body)
        except OSError:
            return location.netloc, None, b""  # it is dead
        self.assertNotEqual(status, 307)
        return location.netloc, status, content

    def owners(self, process, users):
        """Of each user the address that answers, whoever is asked; nothing where somebody's answer is not 200."""
        found = {user: self.follow(process, f"/v1/recommendations/{user}?k=3") for user in users}
        return {user: address for user, (address, status, _) in found.items() if status == 200}

    def agreed(self, processes, users):
        """Once all of them lead to the same one for each user."""
        answers = []

        def agree():
            answers[:] = [self.owners(process, users) for process in processes]
            return len(answers[0]) == len(users) and all(answer == answers[0] for answer in answers)

        self.wait_for(agree, "they do not agree on who has the users")
        return answers[0]

    def test_look_ups_find_the_owner(self):
        processes = [self.start_at(f"state-{n}") for n in range(3)]
        for process in processes:
            self.wait_until_ready(process)
        produce(self.events, self.lines()[:1000])
        self.wait_for_answers(1000)
        users = sorted({json.loads(line)["user_id"] for line in self.lines()[:1000]})
        owners = self.agreed(processes, users)
        self.assertEqual(set(owners.values()), {process.address for process in processes})
        self.check_all_paths(processes, owners)
        self.check_the_documents_command(processes, owners)
        self.check_unknown_users(processes)
        dead = processes.pop()
        dead.kill()
        after = self.agreed(processes, users)
        self.assertEqual(set(after.values()), {process.address for process in processes})
        for process in processes:
            self.stop(process)

    def check_all_paths(self, processes, owners):
        for user, owner in list(owners.items())[:20]:
            other = next(process for process in processes if process.address != owner)
            address, status, content = self.follow(other, f"/v1/users/{user}")
            self.assertEqual((address, status, json.loads(content)["user_id"]), (owner, 200, user))
            address, status, content = self.follow(other, f"/v1/recommendations/{user}?k=3")
            self.assertEqual((address, status, len(json.loads(content)["items"])), (owner, 200, 3))
            address, status, content = self.follow(other, "/v1/rank", {"user_id": user, "items": ["i1", "i2"]})
            self.assertEqual((address, status, len(json.loads(content)["items"])), (owner, 200, 2))
            # Sent there by one that knew no better: not sent on.
            status, headers, _ = self.exchange(other.address, f"/v1/users/{user}?redirected=1")
            self.assertEqual((status, headers["Retry-After"]), (503, "1"))

    def check_the_documents_command(self, processes, owners):
        """docs/http.md: what is shown of the answer, line by line but for names and numbers."""
        (command, shown) = re.search(r"(?m)^\$ (curl -si freshet-0:8080/\S+)\n((?:.+\n)+?)```", HTTP_MD.read_text()).groups()
        user, owner = next(iter(owners.items()))
        other = next(process for process in processes if process.address != owner)
        command = command.replace("/u1", f"/{user}").split()
        command[1:1] = ["--connect-to", f"freshet-0:8080:{other.address}"]
        printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
        shown = shown.replace("/u1", f"/{user}").replace("freshet-1:8080", owner)
        for line in shown.splitlines():
            wanted = re.escape(line) if "Age" not in line else r"Freshet-Owner-Age: \d+"
            self.assertRegex(printed, f"(?m)^{wanted}\r?$")

    def check_unknown_users(self, processes):
        """Somebody is sure that there is no such user, and the others know who."""
        for number in range(20):
            answers = {self.follow(process, f"/v1/users/nobody-{number}")[:2] for process in processes}
            self.assertEqual(len(answers), 1, answers)
            self.assertEqual(answers.pop()[1], 404)

    def test_who_tells_no_address_is_not_asked(self):
        silent = self.start(state="silent", processing__workers=1)
        telling = self.start_at("telling")
        for process in (silent, telling):
            self.wait_until_ready(process)
        produce(self.events, self.lines()[:300])
        self.wait_for_answers(300)
        users = sorted({json.loads(line)["user_id"] for line in self.lines()[:300]})
        found = lambda process: {self.ask(process, f"/v1/users/{user}")[0] for user in users}
        for process in (silent, telling):
            self.wait_for(lambda process=process: found(process) == {200, 404}, "each has some of the users")
        for process in (silent, telling):
            self.stop(process)


if __name__ == "__main__":
    main()
