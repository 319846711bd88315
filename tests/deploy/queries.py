"""The PromQL in deploy/: of the alert rules and of the Grafana dashboard."""

import json
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/prometheus/alerts.yaml"
DASHBOARD = ROOT / "deploy/grafana/freshet.json"


def metric_names(text):
    """Those that freshet serves, with a histogram's suffix taken away."""
    return {re.sub("_(bucket|sum|count)$", "", name) for name in re.findall(r"\b(?:freshet|process)_[a-z_]+", text)}


def dashboard_queries(job, instance, window):
    """(panel, query) with the dashboard's variables filled in."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"]
            for name, value in (("$job", job), ("$instance", instance), ("$__rate_interval", window)):
                query = query.replace(name, value)
            assert "$" not in query, query
            yield panel["title"], query
