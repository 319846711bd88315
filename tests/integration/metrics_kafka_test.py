"""What a Prometheus that scrapes a running instance makes of it: text, alert rules, every query of the dashboard.

Needs prometheus and promtool, of Debian's package prometheus.
"""

import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

from kafka_support import ROOT, WAIT_S, produce
from run_kafka_test import KafkaCase
from support import main

sys.path.insert(0, str(ROOT / "tests" / "deploy"))
from queries import RULES, dashboard_queries, metric_names  # noqa: E402

WINDOW = "6s"  # of rates, over scrapes that are a second apart


class Metrics(KafkaCase):
    guarantee = "exactly_once"

    def setUp(self):
        super().setUp()
        self.process = self.start(snapshots__interval="1s")
        self.wait_until_ready(self.process)
        self.port = int(re.search(r"on port (\d+)", self.said(self.process))[1])

    def start_prometheus(self):
        config = (ROOT / "deploy/prometheus/prometheus.yaml").read_text()
        config = config.replace("localhost:8080", f"127.0.0.1:{self.port}").replace("15s", "1s")
        shutil.copy(RULES, self.write("prometheus.yaml", config).parent)
        with socket.socket() as any_port:
            any_port.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{any_port.getsockname()[1]}"
        flags = {"config.file": "prometheus.yaml", "storage.tsdb.path": "data", "web.listen-address": self.address}
        with open(self.path("prometheus.log"), "wb") as log:
            words = ["prometheus", *(f"--{name}={value}" for name, value in flags.items())]
            prometheus = subprocess.Popen(words, cwd=self.directory, stderr=log)
        self.addCleanup(prometheus.wait)
        self.addCleanup(prometheus.kill)

    def ask_prometheus(self, path, **parameters):
        """What its HTTP API answers; None while it does not."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code != 503:  # it begins
                self.fail(f"{parameters}: {error.read().decode()}")
        except urllib.error.URLError:
            pass

    def found(self, query):
        data = self.ask_prometheus("query", query=query)
        return data["result"] if data else []

    def test_the_text_is_as_prometheus_likes_it(self):
        produce(self.events, self.lines()[:100] + ["not an event"])
        self.wait_for(lambda: "freshet_dead_letters_total{" in self.ask(self.process, "/metrics")[1], "no dead letter")
        text = self.ask(self.process, "/metrics")[1]
        command = ["promtool", "check", "metrics"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=WAIT_S)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        self.assertRegex(text, r"\nfreshet_rebalances_total [1-9]")
        self.assertRegex(text, r"\nfreshet_rocksdb_memtable_bytes [1-9]")
        served = set(re.findall(r"(?m)^# TYPE (\S+)", text))
        self.assertEqual(metric_names(RULES.read_text()) - served, set())

    def test_every_query_of_the_dashboard_finds_something_and_no_alert_comes(self):
        self.start_prometheus()
        queries = list(dashboard_queries("freshet", f"127.0.0.1:{self.port}", WINDOW))
        lines, empty = self.lines(), queries
        deadline = time.monotonic() + WAIT_S
        while empty:  # rates need several scrapes with something new in each
            self.assertLess(time.monotonic(), deadline, empty)
            produce(self.events, lines[:20] + ["not an event"])
            time.sleep(1)
            empty = [(panel, query) for panel, query in empty if not self.found(query)]
        names = {series["__name__"] for series in self.ask_prometheus("series", **{"match[]": '{job="freshet"}'})}
        self.assertIn("freshet_ready", names)
        rules = [rule for group in self.ask_prometheus("rules")["groups"] for rule in group["rules"]]
        self.assertEqual({rule["name"]: rule["health"] for rule in rules if rule["health"] != "ok"}, {})
        self.assertEqual([rule["name"] for rule in rules if rule["state"] == "firing"], [])


if __name__ == "__main__":
    main()
