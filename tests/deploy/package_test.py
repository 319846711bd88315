"""The .deb that cpack makes: what is in it, what it asks for, how its program was built, and that manual and completion
know every option.

$CPACK and $CPACK_CONFIG name the tool and the build. Lintian and systemd-analyze have their say where they are installed. That
it can be installed, started and purged is deploy/fresh-package.sh's to prove: it takes root and a network.
"""

import gzip
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "deploy/package"
MOST_BYTES = 10_000_000
EXPOSURE = 1.5  # systemd-analyze security: 0 to 10


def run(*words, **options):
    return subprocess.run([*map(str, words)], check=True, capture_output=True, text=True, timeout=240, **options).stdout


def help_of(program, *words):
    """(words, its options) of a command and those below it."""
    text = run(program, *words, "--help")
    yield words, set(re.findall(r"(?m)^ +(?:-\w, *)?(--[\w-]+)", text))
    below = re.search(r"(?is)\nsubcommands:\n(.*?)(\n\n|$)", text)
    for name in re.findall(r"(?m)^  (\w[\w-]*)", below[1] if below else ""):
        yield from help_of(program, *words, name)


class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = pathlib.Path(tempfile.mkdtemp(prefix="freshet-package-"))
        cls.addClassCleanup(shutil.rmtree, cls.directory, ignore_errors=True)
        run(os.environ["CPACK"], "--config", os.environ["CPACK_CONFIG"], "-B", cls.directory / "made", cwd=cls.directory)
        (cls.deb,) = (cls.directory / "made").glob("freshet_*.deb")
        cls.tree = cls.directory / "tree"
        run("dpkg-deb", "--raw-extract", cls.deb, cls.tree)
        cls.program = cls.tree / "usr/bin/freshet"

    def field(self, name):
        return run("dpkg-deb", "--field", self.deb, name).strip()

    def test_it_is_small_and_says_what_it_needs(self):
        self.assertLess(self.deb.stat().st_size, MOST_BYTES)
        self.assertEqual(self.field("Package"), "freshet")
        self.assertIn(self.field("Version"), run(self.program, "--version"))
        needed = {word.split()[0] for word in self.field("Depends").split(",")}
        self.assertIn("adduser", needed)
        for library in ("librdkafka1", "librocksdb", "libdnnl", "libsimdjson", "libyaml-cpp", "libstdc++6", "libc6"):
            self.assertTrue([name for name in needed if name.startswith(library)], library)

    def test_the_bill_of_materials_has_all_that_it_needs(self):
        document = json.loads((self.tree / "usr/share/doc/freshet/sbom.cdx.json").read_text())
        self.assertEqual((document["bomFormat"], document["specVersion"]), ("CycloneDX", "1.5"))
        self.assertIn(document["metadata"]["component"]["version"], run(self.program, "--version"))
        parts = {part["name"]: part for part in document["components"]}
        needed = {word.split()[0].split(":")[0] for word in self.field("Depends").split(",")} - {"adduser"}
        provided = {name for name in needed if any(name == part or name.startswith(part + "-") for part in parts)}
        self.assertEqual(provided, needed)  # libspdlog1.10-fmt9 is libspdlog1.10
        self.assertLessEqual({"libjs-chart.js", "nlohmann-json3-dev"}, set(parts))  # inside of the program
        for name, part in parts.items():
            self.assertEqual(part["version"], run("dpkg-query", "-W", "-f", "${Version}", name).split("\n")[0])
            self.assertRegex(part["purl"], rf"^pkg:deb/debian/{re.escape(name)}@[\w.%~-]+\?arch=(amd64|all)$")
        self.assertEqual(document["dependencies"][0]["dependsOn"], [part["bom-ref"] for part in document["components"]])

    def test_what_is_in_it(self):
        files = {f"/{path.relative_to(self.tree)}" for path in self.tree.rglob("*") if path.is_file()}
        files = {path for path in files if not path.startswith("/DEBIAN/")}
        named = {
            "/etc/freshet/freshet.yaml", "/usr/bin/freshet", "/usr/bin/freshet-show",
            "/usr/lib/systemd/system/freshet.service", "/usr/share/bash-completion/completions/freshet",
            "/usr/share/doc/freshet/copyright", "/usr/share/doc/freshet/changelog.gz", "/usr/share/doc/freshet/sbom.cdx.json",
            "/usr/share/doc/freshet/operations.md", "/usr/share/freshet/models/demo/model.safetensors",
            "/usr/share/man/man1/freshet.1.gz", "/usr/share/man/man1/freshet-show.1.gz",
        }  # fmt: skip
        self.assertEqual(named - files, set())
        kinds = r"/etc/freshet/freshet.yaml|/usr/(bin|lib/systemd/system|share/(bash-completion|doc/freshet|freshet|man/man1))/.*"
        self.assertEqual([path for path in files if not re.fullmatch(kinds, path)], [])
        self.assertEqual((self.tree / "DEBIAN/conffiles").read_text().split(), ["/etc/freshet/freshet.yaml"])
        for line in run("dpkg-deb", "--contents", self.deb).splitlines():
            self.assertRegex(line, r"^(drwxr-xr-x|-rw-r--r--|-rwxr-xr-x) root/root ")

    def test_the_configuration_is_good_and_finds_the_installed_model(self):
        printed = run(self.program, "config", "print", "-c", self.tree / "etc/freshet/freshet.yaml", cwd="/")
        self.assertIn("directory: /var/lib/freshet/state\n", printed)
        self.assertIn(f"directory: {self.tree}/usr/share/freshet/models/demo\n", printed)

    def test_scripts_are_shell(self):
        for name in ("postinst", "prerm", "postrm"):
            run("sh", "-n", self.tree / "DEBIAN" / name)
            self.assertEqual((self.tree / "DEBIAN" / name).stat().st_mode & 0o777, 0o755)

    def test_programs_are_hardened(self):
        """As dpkg-buildflags' `hardening=+all`, read off the programs."""
        for program in ("freshet", "freshet-show"):
            path = self.tree / "usr/bin" / program
            self.assertIn("DYN (Position-Independent Executable file)", run("readelf", "-hW", path))
            segments = run("readelf", "-lW", path)
            self.assertIn("GNU_RELRO", segments)
            self.assertRegex(segments, r"GNU_STACK .* RW +0x")  # not executable
            self.assertIn("BIND_NOW", run("readelf", "-dW", path))
            symbols = run("readelf", "-sW", "--dyn-syms", path)
            self.assertIn("__stack_chk_fail", symbols)
            self.assertRegex(symbols, r"__\w+_chk@")  # of _FORTIFY_SOURCE

    def test_completion_and_manual_know_every_command_and_option(self):
        script = self.tree / "usr/share/bash-completion/completions/freshet"
        count = 0
        for words, options in help_of(self.program):
            self.assertEqual(set(self.complete(script, *words, "--")), options, words)
            page = gzip.decompress((self.tree / f"usr/share/man/man1/{'-'.join(('freshet', *words))}.1.gz").read_bytes())
            page = page.decode().replace(r"\-", "-")
            for option in options:
                self.assertIn(rf"\fB{option}\fR", page, words)
            count += 1
        self.assertEqual(len(list((self.tree / "usr/share/man/man1").iterdir())), count + 1)  # and freshet-show's
        self.assertEqual(self.complete(script, "repl"), ["replay"])
        self.assertEqual(self.complete(script, "state", ""), ["get", "forget", "stats", "verify", "snapshot", "-h", "--help", "--help-all"])
        self.assertEqual(self.complete(script, "replay", "--emit", ""), ["every", "latest", "final", "none"])
        self.assertEqual(self.complete(script, "run", "-c", "fre"), ["fresh.yaml"])

    def complete(self, script, *words):
        (self.directory / "empty").mkdir(exist_ok=True)
        (self.directory / "empty/fresh.yaml").touch()
        call = 'source "$0"; COMP_WORDS=(freshet "$@"); COMP_CWORD=$#; _freshet; printf "%s\\n" "${COMPREPLY[@]}"'
        return run("bash", "-uc", call, script, *words, cwd=self.directory / "empty").split()

    @unittest.skipUnless(shutil.which("lintian"), "lintian is not installed")
    def test_lintian(self):
        found = run("lintian", "--allow-root", "--fail-on", "none", self.deb)
        self.assertEqual([line for line in found.splitlines() if line[0] in "EW"], [])

    def test_the_unit_is_in_it(self):
        unit = (PACKAGE / "freshet.service").read_text()
        self.assertEqual((self.tree / "usr/lib/systemd/system/freshet.service").read_text(), unit)

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd is not installed")
    def test_systemd_likes_the_unit(self):
        unit = (PACKAGE / "freshet.service").read_text()
        here = self.directory / "freshet.service"
        here.write_text(re.sub("(?m)^Documentation=.*\n", "", unit).replace("/usr/bin/freshet", str(self.program)))
        run("systemd-analyze", "verify", here)
        said = run("systemd-analyze", "security", "--offline=true", "--no-pager", here)
        self.assertLessEqual(float(re.search(r"exposure level for \S+ ([\d.]+)", said)[1]), EXPOSURE)


if __name__ == "__main__":
    unittest.main(verbosity=2)
