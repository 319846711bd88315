"""What no command writes over, and numbers that no option takes."""

import os
import random
import re
import resource
import signal
import subprocess

from support import COMMANDS, SEED, CommandTest, as_lines, main, random_log, write_model

ITEMS = [f"i{n}" for n in range(1, 31)]


class OutputTest(CommandTest):
    def setUp(self):
        super().setUp()
        write_model(self.path("model"), ITEMS)
        self.log = random_log(random.Random(SEED), users=20, items=len(ITEMS), events=2000)
        self.events = self.write("events.jsonl", as_lines(self.log))

    def files(self, *directories):
        return {path: path.read_bytes() for name in directories for path in self.path(name).iterdir() if path.is_file()}

    def test_outputs_that_are_read_otherwise(self):
        """The configuration, the models and the snapshot of the same command, by whatever name."""
        write_model(self.path("other"), ITEMS, seed=SEED + 1)
        self.write("shop.yaml", f"model: {{directory: {self.path('model')}}}\n")
        self.replay(self.events, state="old")
        self.run_program("state", "snapshot", "--output", "snapshot", settings=self.settings("old"))
        self.path("link").symlink_to("shop.yaml")
        os.link(self.path("model/items.tsv"), self.path("hard"))
        before = self.files(".", "model", "other", "snapshot")
        evaluate, replay = ["evaluate", "--json"], ["replay", "--snapshot", "snapshot", "--output"]
        for words, output, says in (
            (evaluate, "shop.yaml", "is the configuration shop.yaml"),
            (replay, "shop.yaml", "is the configuration shop.yaml"),
            (replay, "link", "is the configuration shop.yaml"),
            (evaluate, "model/model.safetensors", f"is the model's {self.path('model')}/model.safetensors"),
            (replay, "model/config.json", f"is the model's {self.path('model')}/config.json"),
            (replay, "hard", f"is the model's {self.path('model')}/items.tsv"),
            ([*evaluate[:1], "--compare", "other", "--json"], "other/items.tsv", "is the model's other/items.tsv"),
            ([*evaluate[:1], "--protocol", "prequential", "--model-from", "2017-01-01=other", "--json"],
             "other/config.json", "is the model's other/config.json"),
            (replay, "snapshot/commits.json", "is the snapshot's snapshot/commits.json"),
            (evaluate, "old/commits.json", "belongs to the state in"),
        ):  # fmt: skip
            settings = {"state.directory": self.path("old" if output.startswith("old") else "state")}
            arguments = [*words, output, "-c", "shop.yaml", "--input", self.events]
            done = self.run_program(*arguments, settings=settings, expect=2)
            self.assert_error(done.stderr, f"{words[-1]}: {output}: {says}")
            self.assertEqual(self.files(".", "model", "other", "snapshot"), before)
            self.assertFalse(self.path("state").exists())

    def test_directories_of_something_else(self):
        export, quantize = ["export", "--input", self.events, "--output"], ["model", "quantize", "model", "--output"]
        self.run_program(*export, "exported")
        self.write("mine/users.tsv", "not freshet's")
        self.write("pipes/notes", "")
        for name in ("sequences.safetensors", "items.tsv", "event_types.tsv", "users.tsv", "config.json"):
            os.mkfifo(self.path("pipes") / name)
        before = self.files("model", "exported", "mine", "pipes")
        for words, output, says in (
            (export, "model", "model/event_types.tsv is there and model/users.tsv is not"),
            ([*export[:-1], "--vocabulary", "model", "--output"], "model", "is the model's model/items.tsv"),
            (export, "mine", "mine/users.tsv is there"),
            (export, "pipes", "pipes/sequences.safetensors: is there and is no regular file"),
            (quantize, "exported", "exported/items.tsv is there and exported/model.safetensors is not"),
            (quantize, "pipes", "pipes/config.json: is there and is no regular file"),
        ):
            self.assert_error(self.run_program(*words, output, expect=2).stderr, f"--output: {output}", says)
            self.assertEqual(self.files("model", "exported", "mine", "pipes"), before)
        self.write("exported/notes.txt", "beside it")
        for words, output in ((export, "exported"), (quantize, "small"), (quantize, "small")):
            self.run_program(*words, output)
        self.assertEqual(self.path("exported/notes.txt").read_text(), "beside it")
        self.assertEqual(len(list(self.path("exported").iterdir())), 5)

    def test_devices_take_what_is_written(self):
        """They stay what they are, and nothing is put beside them."""
        for device in ("/dev/null", "/dev/stdout"):
            self.run_program("generate", "--events", 100, "--output", device)
            self.run_program("evaluate", "--input", self.events, "--json", device, settings=self.settings())
            self.replay(self.events, output=device, state=f"state-{device[5:]}")
            beside = [path for path in self.path("/dev").iterdir() if path.suffix in (".jsonl", ".new")]
            self.assertEqual(beside, [])
        self.assertTrue(self.path("/dev/null").is_char_device())
        with open(self.path("redirected"), "wb") as redirected:
            done = subprocess.run(
                self.command(["generate", "--events", 100, "--output", "/dev/stdout"], {}), stdout=redirected,
                stderr=subprocess.PIPE, env=self.environment, cwd=self.directory,
            )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(self.path("redirected").read_bytes().splitlines()), 100)

    def test_a_full_disk_leaves_the_earlier_results(self):
        """Reports, exports and generated logs take the place of those that are there once they are whole."""

        def limit():  # a write beyond it fails, as the signal is ignored
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (512,) * 2)

        self.run_program("export", "--input", self.events, "--output", "exported")
        self.write("report.json", "earlier")
        self.run_program("generate", "--events", 100, "--output", "log/clicks.jsonl")
        before = self.files(".", "exported", "log")
        self.events.write_bytes(as_lines(self.log[:1000]))
        before[self.events] = self.events.read_bytes()
        for words in (["evaluate", "--input", self.events, "--json", "report.json"],
                      ["export", "--input", self.events, "--output", "exported"],
                      ["generate", "--events", 200, "--seed", 9, "--output", "log/clicks.jsonl"]):  # fmt: skip
            settings = {} if words[0] == "generate" else self.settings()
            done = self.run_program(*words, settings=settings, expect=1, preexec_fn=limit, restore_signals=False)
            self.assert_error(done.stderr, "cannot be written: File too large")
            self.assertEqual(self.files(".", "exported", "log"), before, words)
        self.assertFalse(self.path("exported/.unfinished").exists())


class NumberTest(CommandTest):
    """Every option that takes a number, as --help lists them, refuses what is none and what is too large."""

    BAD = ("nan", "inf", "-inf", "-1", str(2**64), "1e400", "x", "", "0x10", " 1", "1 ", "+1")

    def options(self, command):
        text = self.run_program(*command.split(), "--help").stdout
        return re.findall(r"(?m)^ +(?:-\w,)?(--[\w-]+) (UINT|INT|FLOAT)\b", text)

    def test_what_is_no_number_in_bounds(self):
        required = {"run": ["--embedded-broker"], "generate": ["--output", "x"], "evaluate": ["--input", "x"], "model verify": ["x"],
                    "model convert": ["x", "--output", "y", "--items", "z"]}  # fmt: skip
        found = {}
        for command in COMMANDS:
            for option, kind in self.options(command):
                found.setdefault(command, []).append(option)
                bad = self.BAD if kind == "FLOAT" else (*self.BAD, "0.5", "1e3")
                for text in bad:
                    done = self.run_program(*command.split(), *required[command], f"{option}={text}", expect=2)
                    self.assert_error(done.stderr, option)
        self.assertEqual({command: len(options) for command, options in found.items()},
                         {"run": 1, "generate": 5, "evaluate": 6, "model verify": 2, "model convert": 2})  # fmt: skip
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_numbers_are_decimal(self):
        """CLI11 alone would read 010 as eight."""
        for users in ("10", "010"):
            self.run_program("generate", "--users", users, "--events", 50, "--output", f"{users}/x.jsonl")
        self.assertEqual(self.path("10/x.jsonl").read_bytes(), self.path("010/x.jsonl").read_bytes())


if __name__ == "__main__":
    main()
