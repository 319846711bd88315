"""What `cmake --install` puts down runs from anywhere, with nothing but defaults.

$CMAKE names cmake, $FRESHET_BUILD the folder that was built.
"""

import os
import pathlib
import re
import subprocess

from support import START_MS, TIMEOUT_S, CommandTest, as_lines, event, main, parse_lines, read_output, write_model

ROOT = pathlib.Path(__file__).resolve().parents[2]

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

    def test_a_program_that_embeds_the_engine(self):
        text = (ROOT / "docs/embedding.md").read_text()
        for name in ("CMakeLists.txt", "embed.cc"):
            self.write(name, re.search(rf"```\w+\n((?:#|//) {re.escape(name)}.*?)```", text, re.DOTALL)[1])
        cmake = os.environ["CMAKE"]
        for step in ([cmake, "-S", ".", "-B", "build", f"-DCMAKE_PREFIX_PATH={self.prefix}"], [cmake, "--build", "build"]):
            done = subprocess.run(step, cwd=self.directory, env=self.environment, capture_output=True, text=True, timeout=TIMEOUT_S)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

        write_model(self.path("model"), [f"i{n}" for n in range(1, 41)])
        clicks = [event("u1", f"i{1 + 3 * n % 20}", START_MS + n * 90_000, event_type=("view", "cart")[n % 2]) for n in range(12)]
        lines = "".join(f"{c['item_id']} {c['event_type']} {c['timestamp']}\n" for c in clicks)
        done = subprocess.run([self.path("build/embed"), self.path("model")], input=lines, capture_output=True, text=True,
                              timeout=TIMEOUT_S)  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        self.replay(self.write("clicks.jsonl", as_lines(clicks)))
        records = read_output(self.path("out.jsonl"))
        answers = done.stdout.splitlines()
        self.assertEqual(len(answers), len(records))
        for number, (answer, record) in enumerate(zip(answers, records)):
            pairs = [word.split(":") for word in answer.split()]
            items = [{"item_id": item, "score": float(score)} for item, score in pairs]
            self.assert_same_items(items, record["items"], f"click {number}", tolerance=1e-3)  # six digits are printed


if __name__ == "__main__":
    main()
