"""What `cmake --install` puts down runs from anywhere, with nothing but defaults.

$CMAKE names cmake, $FRESHET_BUILD the folder that was built.
"""

import os
import subprocess

from support import TIMEOUT_S, CommandTest, main, parse_lines, read_output

EVENTS = 500


class InstallTest(CommandTest):
    def setUp(self):
        super().setUp()
        self.prefix = self.path("prefix")
        install = [os.environ["CMAKE"], "--install", os.environ["FRESHET_BUILD"], "--prefix", self.prefix]
        subprocess.run(install, check=True, stdout=subprocess.DEVNULL, timeout=TIMEOUT_S)
        self.elsewhere = self.path("elsewhere")
        self.elsewhere.mkdir()

    def installed(self, program, *arguments):
        done = subprocess.run(
            [self.prefix / "bin" / program, *map(str, arguments)], cwd=self.elsewhere, env=self.environment,
            capture_output=True, text=True, timeout=TIMEOUT_S,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, f"{program} {arguments}\n{done.stderr}")
        return done

    def test_the_programs_run_from_another_directory(self):
        self.assertRegex(self.installed("freshet", "--version").stdout, r"^freshet \d+\.\d+\.\d+\n$")
        self.assertIn("--recommendations", self.installed("freshet-show", "--help").stdout)

        sizes = ["--users", 40, "--items", 2000, "--events", EVENTS, "--seed", 2]  # the demo model knows these items
        self.installed("freshet", "generate", *sizes, "--output", "clicks.jsonl")
        done = self.installed("freshet", "replay", "--input", "clicks.jsonl", "--output", "recommendations.jsonl")
        self.assertIn(f"{EVENTS} recommendations, 0 dead letters, 0 repeats dropped, 0 without a known item", done.stderr)
        records = read_output(self.elsewhere / "recommendations.jsonl")
        self.assert_numbered(records, parse_lines((self.elsewhere / "clicks.jsonl").read_bytes()))
        self.assertEqual({record["model"]["name"] for record in records}, {"demo"})

        shown = self.installed("freshet-show", "--items", "items.jsonl", "--events", "clicks.jsonl",
                               "--recommendations", "recommendations.jsonl")  # fmt: skip
        self.assertTrue(shown.stdout)
        demo = f"directory: {self.prefix}/share/freshet/models/demo"
        self.assertIn(demo, self.installed("freshet", "config", "print").stdout)

    def test_a_model_below_the_working_directory_comes_first(self):
        (self.elsewhere / "models/demo").mkdir(parents=True)
        self.assertIn("directory: models/demo\n", self.installed("freshet", "config", "print").stdout)

    def test_what_it_says_of_itself_is_there(self):
        documents = self.prefix / "share/doc/freshet"
        for name in ("LICENSE", "README.md", "CHANGELOG.md", "configuration.md"):
            self.assertTrue((documents / name).is_file(), name)


if __name__ == "__main__":
    main()
