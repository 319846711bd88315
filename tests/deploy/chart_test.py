"""The Helm chart: its configuration is one that freshet takes; where helm is installed, it lints and renders to what
Kubernetes knows.

$FRESHET names the program. kubernetes-validate (PyPI) holds Kubernetes' own schemas against what is rendered, where it
is installed, and $FRESHET_TEST_SCALED_OBJECT is KEDA's definition of its object. deploy/helm/check.sh brings all of them.
"""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import textwrap
import unittest

CHART = pathlib.Path(__file__).resolve().parents[2] / "deploy/helm/freshet"
KUBERNETES = "1.33.0"
VALUES = (  # beside the defaults
    [],
    ["autoscaling.enabled=true", "environmentSecret=secrets", "modelVolume.persistentVolumeClaim.claimName=models",
     "config.model.directory=/models/current", "storage.className=fast", "nodeSelector.disk=ssd",
     "networkPolicy.from[0].namespaceSelector.matchLabels.name=monitoring"],
    ["networkPolicy.enabled=false", "tokensSecret=tokens", "tlsSecret=certificate"],
)  # fmt: skip


def closed(schema):
    """The schema, that takes no property which it does not name."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {name: closed(part) for name, part in schema.items()}
    return {"additionalProperties": False, **schema} if isinstance(schema.get("properties"), dict) else schema


class Chart(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="freshet-chart-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)

    def run_command(self, *words, **options):
        done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=120, **options)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def check_config(self, text, **variables):
        path = self.directory / "freshet.yaml"
        path.write_text(textwrap.dedent(text))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FRESHET_")}
        self.run_command(os.environ["FRESHET"], "config", "check", "-c", path, env={**environment, **variables})

    def test_the_configuration(self):
        self.check_config(re.search(r"(?ms)^config:\n(.*?)^\S", (CHART / "values.yaml").read_text())[1])
        pod = (CHART / "templates/statefulset.yaml").read_text()
        given = dict(re.findall(r'\{name: (FRESHET_\w+), value: "?([^"}]*)"?\}', pod))
        self.assertEqual(len(given), 7)
        instance = re.search(r"name: (FRESHET_\w+INSTANCE__ID)", pod)[1]
        advertise = re.search(r'name: (FRESHET_HTTP__ADVERTISE)\n +value: "(.*)"', pod)
        address = re.sub(r"\{\{.*?\}\}", "shop", advertise[2]).replace("$(POD)", "shop-0")
        self.assertEqual(address, "shop-0.shop.shop.svc:8080")
        self.check_config("", **given, **{instance: "shop-0", advertise[1]: address})

    def check_scaled_object(self, text):
        """KEDA's, against what KEDA's own definition says of it."""
        import jsonschema
        import yaml

        definition = yaml.safe_load(pathlib.Path(os.environ["FRESHET_TEST_SCALED_OBJECT"]).read_text())
        version = definition["spec"]["versions"][0]
        rendered = [found for found in yaml.safe_load_all(text) if found["kind"] == definition["spec"]["names"]["kind"]]
        for found in rendered:
            self.assertEqual(found["apiVersion"], f"{definition['spec']['group']}/{version['name']}")
            schema = closed(version["schema"]["openAPIV3Schema"])
            schema["properties"].pop("metadata")  # Kubernetes' own
            jsonschema.validate({name: part for name, part in found.items() if name != "metadata"}, schema)
        return len(rendered)

    def test_it_renders(self):
        if not shutil.which("helm"):
            self.skipTest("helm is not installed")
        self.run_command("helm", "lint", "--strict", "--kube-version", KUBERNETES, CHART)
        kinds, scaled = set(), 0
        for values in VALUES:
            words = ["helm", "template", "shop", CHART, "--kube-version", KUBERNETES]
            text = self.run_command(*words, *(word for value in values for word in ("--set", value)))
            kinds |= set(re.findall(r"(?m)^kind: (\w+)", text))
            self.check_config(re.search(r"(?ms)^  freshet.yaml: \|\n(.*?)^\S", text)[1])
            if shutil.which("kubernetes-validate"):
                rendered = self.directory / "rendered.yaml"
                rendered.write_text(text)
                version = KUBERNETES.rpartition(".")[0]
                self.run_command("kubernetes-validate", "--strict", "--kubernetes-version", version, rendered)
            if "FRESHET_TEST_SCALED_OBJECT" in os.environ:
                scaled += self.check_scaled_object(text)
        self.assertEqual(kinds, {"ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "ScaledObject", "Service", "StatefulSet"})
        if "FRESHET_TEST_SCALED_OBJECT" in os.environ:
            self.assertEqual(scaled, 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
