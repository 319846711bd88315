"""docs/openapi.yaml and openapi-serve.yaml against running instances: each path and status in them is met, and what comes
has its schema.

Needs yaml and jsonschema (deploy/install-dependencies.sh test).
"""

import contextlib
import http.client
import importlib.util
import json
import os
import re
import socket
import sys
import time

from kafka_support import ROOT, WAIT_S, kcat, produce
from run_kafka_test import KafkaCase
from support import main

METHODS = ("get", "put", "post", "delete", "patch")


class Documented(KafkaCase):
    guarantee = "exactly_once"
    name = None
    other_paths = None  # of the document that this one names parts of

    def setUp(self):
        super().setUp()
        self.document = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())
        if self.name != "openapi.yaml":  # whose parts it names
            text = (ROOT / "docs" / self.name).read_text().replace('"openapi.yaml#', '"#')
            other, self.document = self.document, yaml.safe_load(text)
            self.other_paths = other["paths"]
            for kind, parts in other["components"].items():
                self.document["components"].setdefault(kind, {}).update(parts)
        self.met = set()

    def resolve(self, node):
        while "$ref" in node:
            reference, node = node["$ref"], {**self.document, "paths": self.other_paths}
            for name in reference.removeprefix("#/").split("/"):
                node = node[name.replace("~1", "/")]
        return node

    def operations(self):
        for path, methods in self.document["paths"].items():
            methods = self.resolve(methods)
            for method in METHODS:
                if method in methods:
                    yield method.upper(), path, methods[method]

    def operation(self, method, target):
        for known, path, operation in self.operations():
            if known == method and re.fullmatch(re.sub(r"\{\w+\}", "[^/?]+", path) + r"(\?.*)?", target):
                return path, operation
        self.fail(f"{method} {target} is not in the document")

    def ask_as_documented(self, process, method, target, status, body=None, headers=None, tries=20):
        """Its answer must be one that the document has, in the documented form; on a busy machine it may be late before."""
        port = int(re.search(r"on port (\d+)", self.said(process))[1])
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            content = body if isinstance(body, str) or body is None else json.dumps(body)
            connection.request(method, target, content, headers or {})
            answer = connection.getresponse()
            streamed = answer.headers["Content-Type"] == "text/event-stream"
            text = (b"".join(answer.readline() for _ in range(4)) if streamed else answer.read()).decode()
        late = (503, 504) if status == 202 else (504,)  # an event that has an id may be sent again
        if answer.status in late and tries > 1:
            return self.ask_as_documented(process, method, target, status, body, headers, tries - 1)
        where = f"{method} {target}: {answer.status} {text[:300]}"
        self.assertEqual(answer.status, status, where)
        path, operation = self.operation(method, target)
        self.assertIn(str(status), operation["responses"], where)
        self.met.add((method, path, str(status)))
        response = self.resolve(operation["responses"][str(status)])
        for name in response.get("headers", ()):
            self.assertIn(name, answer.headers, where)
        if "content" not in response:
            return self.assertEqual(text, "", where)
        ((kind, content),) = response["content"].items()
        self.assertEqual(answer.headers["Content-Type"].split(";")[0], kind, where)
        if kind.startswith("text/"):
            return text
        schema = {**content["schema"], "components": self.document["components"]}
        jsonschema.Draft202012Validator.check_schema(schema)
        errors = list(jsonschema.Draft202012Validator(schema).iter_errors(json.loads(text)))
        self.assertEqual(errors, [], where)
        return json.loads(text)

    def assert_all_met(self):
        documented = {
            (method, path, status)
            for method, path, operation in self.operations()
            for status in operation["responses"]
            if status != "default"
        }
        self.assertEqual(documented - self.met, set())


class Run(Documented):
    name = "openapi.yaml"

    def ask_what_works(self):
        self.write("items.jsonl", '{"item_id":"i1","title":"One","category":"numbers"}\n{"item_id":"i2"}\n')
        process = self.start(items__file=self.path("items.jsonl"))
        self.wait_until_ready(process)
        ask = lambda *question, **more: self.ask_as_documented(process, *question, **more)
        lines = self.log[:50]
        self.assertEqual(ask("GET", "/v1/dead-letters", 200), {"dead_letters": []})
        produce(self.events, ["not an event"] + [json.dumps(entry) for entry in lines[:-1]])
        ask("POST", "/v1/events", 202, {**lines[-1], "event_id": "e1"})
        self.wait_for_answers(len(lines))
        user = lines[-1]["user_id"]
        ask("GET", "/healthz", 200)
        ask("GET", "/readyz", 200)
        self.assertIn("freshet_events_total", ask("GET", "/metrics", 200))
        status = ask("GET", "/v1/status", 200)
        self.assertEqual(status["assigned_partitions"], 4)
        self.assertEqual(len(ask("GET", f"/v1/recommendations/{user}?k=3", 200)["items"]), 3)
        ask("GET", f"/v1/users/{user}", 200)
        (letter,) = ask("GET", "/v1/dead-letters", 200)["dead_letters"]
        self.assertEqual((letter["reason"], letter["value"], letter["topic"]), ("invalid_json", "not an event", self.events))
        items = ask("GET", "/v1/items?ids=i2,i1,i3", 200)["items"]
        self.assertEqual(items, [{"item_id": "i2"}, {"item_id": "i1", "title": "One", "category": "numbers"}])
        ask("GET", "/v1/items?ids=%zz", 400)
        ask("POST", "/v1/rank", 200, {"user_id": user, "items": ["i1", "i2", "none"]})
        for path in ("/v1/recommendations/", "/v1/users/"):
            ask("GET", path + "%zz", 400)
            ask("GET", path + "nobody", 404)
        ask("POST", "/v1/rank", 404, {"user_id": "nobody", "items": ["i1"]})
        for path in ("/v1/rank", "/v1/events"):
            ask("POST", path, 400, "{}")
            ask("POST", path, 403, "{}", headers={"Origin": "http://elsewhere.example"})
            ask("POST", path, 413, " " * 70_000)
        ask("DELETE", "/v1/users/%zz", 400)
        ask("DELETE", "/v1/users/nobody", 403, headers={"Origin": "http://elsewhere.example"})
        ask("DELETE", f"/v1/users/{user}", 202)
        self.wait_for(lambda: self.ask(process, f"/v1/users/{user}")[0] == 404, "the user is not forgotten")
        self.stop(process)

    def ask_for_another_instances_users(self):
        """Two who tell their addresses; somebody's users are at the other one."""
        ports = []
        for _ in range(2):
            with socket.create_server(("127.0.0.1", 0)) as free:
                ports.append(free.getsockname()[1])
        processes = [
            self.start(state=f"state-{port}", http__listen=f"127.0.0.1:{port}", http__advertise=f"127.0.0.1:{port}")
            for port in ports
        ]
        for process in processes:
            self.wait_until_ready(process)
        users = [f"nobody-{n}" for n in range(20)]
        elsewhere = lambda: [user for user in users if self.ask(processes[0], f"/v1/users/{user}")[0] == 307]
        self.wait_for(elsewhere, "no user is elsewhere")
        user = elsewhere()[0]
        for path in ("/v1/users/", "/v1/recommendations/"):
            self.ask_as_documented(processes[0], "GET", path + user, 307)
        self.ask_as_documented(processes[0], "POST", "/v1/rank", 307, {"user_id": user, "items": ["i1"]})
        for process in processes:
            self.stop(process)

    def ask_without_a_broker(self):
        process = self.start(kafka__bootstrap_servers="127.0.0.1:1", state="alone")
        self.wait_for(lambda: "on port" in self.said(process), "it does not serve")
        for target in ("/readyz", "/v1/recommendations/u1", "/v1/users/u1"):
            self.ask_as_documented(process, "GET", target, 503)
        self.ask_as_documented(process, "POST", "/v1/rank", 503, {"user_id": "u1", "items": ["i1"]})
        self.ask_as_documented(process, "POST", "/v1/events", 503, self.log[0])
        self.ask_as_documented(process, "DELETE", "/v1/users/u1", 503)
        self.assertIn("kafka", self.ask_as_documented(process, "GET", "/v1/status", 200)["missing"])
        process.kill()

    def test_each_path_and_status_is_as_documented(self):
        self.ask_what_works()
        self.ask_for_another_instances_users()
        self.ask_without_a_broker()
        self.assert_all_met()

    def test_schemas_are_those_of_the_records(self):
        schemas = self.document["components"]["schemas"]
        for name, file in (("Event", "event"), ("Recommendation", "recommendation")):
            record = json.loads((ROOT / f"docs/schemas/{file}.schema.json").read_text())
            self.assertEqual(set(schemas[name]["required"]), set(record["required"]), name)
            self.assertLessEqual(set(schemas[name]["properties"]), set(record["properties"]), name)
        golden = (ROOT / "docs/schemas/golden").glob("recommendation*.jsonl")
        for line in (line for file in golden for line in file.read_text().splitlines()):
            schema = {**schemas["Recommendation"], "components": self.document["components"]}
            self.assertEqual(list(jsonschema.Draft202012Validator(schema).iter_errors(json.loads(line))), [], line)


class Serve(Documented):
    name = "openapi-serve.yaml"

    def serve(self, **settings):
        return self.start_command("serve", **{"serve__directory": str(self.path("served")), **settings})

    def test_each_path_and_status_is_as_documented(self):
        record = {"user_id": "u1", "generated_at": 1, "sequence_number": 7, "model": {"name": "m", "version": "v"},
                  "source": {"topic": "t", "partition": 0, "offset": 9, "event_time": 1},
                  "items": [{"item_id": f"i{n}", "score": 1 / n} for n in range(1, 6)]}  # fmt: skip
        kcat("-P", "-t", self.answers, "-K", "\t", input=f"u1\t{json.dumps(record)}\n".encode())
        process = self.serve(serve__max_streams=1)
        self.wait_until_ready(process)
        ask = lambda *question, **more: self.ask_as_documented(process, *question, **more)
        ask("GET", "/healthz", 200)
        ask("GET", "/readyz", 200)
        self.assertIn("freshet_serve_streams 0", ask("GET", "/metrics", 200))
        self.assertEqual(ask("GET", "/v1/status", 200)["records"], 1)
        path = "/v1/recommendations/u1"
        self.assertEqual(ask("GET", path, 200), record)
        ask("GET", path, 304, headers={"If-None-Match": '"7"'})
        ask("GET", "/v1/recommendations/nobody", 404)
        event = dict(line.split(": ", 1) for line in ask("GET", f"{path}/stream?k=3", 200).splitlines() if line)
        self.assertEqual((event["id"], event["event"]), ("7", "recommendations"))
        self.assertEqual(json.loads(event["data"]), {**record, "items": record["items"][:3]})
        for suffix in ("?k=0", "/stream?k=0"):
            ask("GET", path + suffix, 400)
        self.stop(process)
        full = self.serve(serve__max_streams=0)
        self.wait_for(lambda: "on port" in self.said(full), "it does not serve")
        self.ask_as_documented(full, "GET", f"{path}/stream", 503)
        self.stop(full)
        for target in ("/readyz", "/v1/recommendations/nobody"):
            self.ask_at_the_start(target)
        self.assert_all_met()

    def ask_at_the_start(self, target, tries=20):
        """Before the past is read, which may take a moment only."""
        process = self.serve(serve__directory=str(self.path(f"early-{len(self.processes)}")))
        deadline = time.monotonic() + WAIT_S
        while "on port" not in self.said(process) and time.monotonic() < deadline:
            time.sleep(0.002)
        try:
            self.ask_as_documented(process, "GET", target, 503)
        except AssertionError:
            if tries == 1:
                raise
            self.ask_at_the_start(target, tries - 1)
        finally:
            process.kill()
            process.wait()


if __name__ == "__main__":
    missing = [name for name in ("yaml", "jsonschema") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"skipped: this Python has no {' and no '.join(missing)} (deploy/install-dependencies.sh test)")
        sys.exit(1 if os.environ.get("FRESHET_TEST_NO_SKIP") else 77)
    import jsonschema
    import yaml

    main()
