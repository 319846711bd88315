"""The alert rules fire and keep quiet where they should, and the Grafana dashboard asks for what there is.

Needs promtool, of Debian's package prometheus. That the queries find something is
tests/integration/metrics_kafka_test.py's.
"""

import json
import pathlib
import re
import subprocess
import tempfile
import unittest

from queries import DASHBOARD, ROOT, RULES, dashboard_queries, metric_names

CASES = pathlib.Path(__file__).parent / "alerts_test.yaml"


class Alerts(unittest.TestCase):
    def promtool(self, *arguments):
        done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def write(self, name, text):
        directory = tempfile.TemporaryDirectory(prefix="freshet-alerts-")
        self.addCleanup(directory.cleanup)
        path = pathlib.Path(directory.name, name)
        path.write_text(text)
        return path

    def test_rules(self):
        self.promtool("check", "rules", RULES)
        self.promtool("check", "config", ROOT / "deploy/prometheus/prometheus.yaml")
        self.promtool("test", "rules", self.write("cases.yaml", CASES.read_text().replace("ALERTS", str(RULES))))

    def test_each_rule_is_tested_firing_and_quiet_and_is_explained(self):
        rules = set(re.findall(r"- alert: (\w+)", RULES.read_text()))
        cases = CASES.read_text()
        fires = set(re.findall(r"- alertname: (\w+)\n +eval_time: \w+\n +exp_alerts:\n", cases))
        quiet = set(re.findall(r"\{alertname: (\w+), eval_time: \w+\}", cases))
        explained = re.findall(r"(?m)^\| `(Freshet\w+)` \|", (ROOT / "docs/operations.md").read_text())
        self.assertEqual(rules, fires)
        self.assertEqual(rules, quiet)
        self.assertEqual(sorted(rules), sorted(explained))

    def test_every_metric_is_one_of_ours(self):
        documented = set(re.findall(r"(?m)^\| `([a-z_]+)", (ROOT / "docs/metrics.md").read_text()))
        for path in (RULES, DASHBOARD, CASES):
            self.assertEqual(metric_names(path.read_text()) - documented, set(), path)

    def test_queries_of_the_dashboard_parse(self):
        queries = [query for _, query in dashboard_queries("freshet", ".*", "1m")]
        rules = [{"record": "parsed", "expr": query, "labels": {"n": str(n)}} for n, query in enumerate(queries)]
        self.assertGreater(len(rules), 30)
        groups = {"groups": [{"name": "all", "rules": rules}]}
        self.promtool("check", "rules", self.write("queries.yaml", json.dumps(groups)))


if __name__ == "__main__":
    unittest.main(verbosity=2)
