#!/usr/bin/env python3
"""What freshet is made of, as a CycloneDX 1.5 document: sbom.py PROGRAM VERSION > sbom.cdx.json

The shared libraries that the program loads, each by its Debian package, and the packages whose headers or files became a part of
it. Debian's security tracker knows them by these names and versions.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import uuid
from datetime import datetime, timezone

INSIDE = ["libboost*-dev", "libcli11-dev", "nlohmann-json3-dev", "libhwy-dev", "libspdlog-dev", "libjs-chart.js", "libjs-bootstrap5"]


def said(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def loaded(program):
    """The packages of the libraries."""
    for path in re.findall(r"=> (/\S+)", said("ldd", program)):
        # dpkg knows a file by the path that it was installed under, which may go over the link /lib.
        for name in (os.path.realpath(path), os.path.realpath(path).removeprefix("/usr")):
            found = subprocess.run(["dpkg-query", "-S", name], capture_output=True, text=True).stdout
            if found:
                yield found.split(": ")[0].split(",")[0]
                break
        else:
            sys.exit(f"sbom.py: {path} belongs to no Debian package")


def components(program):
    form = "${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\n"
    packages = sorted(set(loaded(program)))
    lines = said("dpkg-query", "-W", "-f", form, *packages) + said("dpkg-query", "-W", "-f", form, *INSIDE)
    for status, name, version, architecture, source, source_version in sorted(line.split("\t") for line in set(lines.splitlines())):
        if status == "installed":
            url = f"pkg:deb/debian/{name}@{version.replace('+', '%2B').replace(':', '%3A')}?arch={architecture}"
            yield {
                "type": "library", "name": name, "version": version, "purl": url, "bom-ref": url,
                "properties": [{"name": "debian:source", "value": f"{source} {source_version}"}],
            }  # fmt: skip


def document(program, version):
    time = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", datetime.now().timestamp())), timezone.utc)
    parts = list(components(program))
    reference = f"freshet@{version}"
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps([version, parts]))}",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "application", "name": "freshet", "version": version, "bom-ref": reference,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            },
        },
        "components": parts,
        "dependencies": [{"ref": reference, "dependsOn": [part["bom-ref"] for part in parts]}],
    }  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) != 3 or not pathlib.Path(sys.argv[1]).is_file():
        sys.exit(__doc__)
    json.dump(document(*sys.argv[1:]), sys.stdout, indent=1)
    print()
