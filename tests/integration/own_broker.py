"""For tests with a broker of their own, which start it before they import kafka_support, and for Kafka's own tools."""

import os
import pathlib
import subprocess
import tempfile

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "local-kafka.sh"
JARS = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "freshet" / "kafka-4.3.1" / "*"


class OwnBroker:
    """deploy/local-kafka.sh in a directory of its own, where the tests of this process then look for their broker."""

    def __init__(self, name):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"freshet-{name}-"))
        os.environ["FRESHET_TEST_KAFKA"] = str(self.directory)

    def do(self, *arguments):
        """start, stop, fence: as the script has them."""
        subprocess.run([SCRIPT, *arguments, "--directory", self.directory], check=True, stdout=subprocess.DEVNULL)


def java(name, *arguments):
    subprocess.run(["java", "-Xmx256m", "-cp", str(JARS), name, *map(str, arguments)], check=True, capture_output=True)
