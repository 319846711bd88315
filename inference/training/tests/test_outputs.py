"""What commands write over and what they do not, two at once, and ends by a signal."""

import os
import shutil
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path
from unittest import mock

from freshet_training import files, prepare
from freshet_training import train as train_module
from tests.command_line import SHAPE, CommandLine, Killed, run, write_export

PACKAGE = Path(__file__).parent.parent


class Outputs(CommandLine):
    """Each command, with an output that is not its own."""

    def setUp(self) -> None:
        super().setUp()
        self.data, self.other, self.model = (self.directory / name for name in ("export", "other", "model"))
        write_export(self.data)
        write_export(self.other)
        self.train("model", "--epochs", "1", data=self.data)
        self.notes = self.directory / "notes.txt"
        self.notes.write_text("mine\n", "utf-8")
        self.link = self.directory / "link"
        self.link.symlink_to(self.model)
        self.pipe = self.directory / "pipe"
        os.mkfifo(self.pipe)

    def contents(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.directory.glob("**/*") if path.is_file()}

    def misused(self, text: str, command: str, *line: object) -> None:
        before = self.contents()
        reads = [] if command in ("report", "export-onnx", "fedavg") else ["--data", self.data]
        code, _, errors = run(command, *map(str, [*reads, *line]))
        with self.subTest(command=command, line=line):
            self.assertEqual((code, errors.count("\n")), (2, 1), errors)
            self.assertIn(text.format(**{name: str(value) for name, value in vars(self).items()}), errors)
            self.assertEqual(self.contents(), before)

    def test_what_is_read_stays(self) -> None:
        new = ["--output", self.directory / "new"]
        weights, config, rows = self.model / "model.safetensors", self.model / "config.json", self.data / "items.tsv"
        tuned, taught = ["--from", self.model], ["--teacher", self.model]
        codes = ["--item-codes", 4, "--codes-from", self.model]
        two = ["--data", self.data, "--data", self.other]
        from_, teacher = "--from {model} is read from there, expected another path", "--teacher {model} is read from"
        model = "--model {model} is read from there"
        for line in (
            ("--output {data}: --data {data} is read from there", "train", "--output", self.data),
            ("--codes-from {model} is read", "train", *codes, "--output", self.link),
            ("--metrics {data}/items.tsv: --data {data} is read", "train", *new, "--metrics", rows),
            ("--checkpoint {data}/users.tsv", "train", *new, "--checkpoint", self.data / "users.tsv"),
            ("--output {model}: " + from_, "finetune", *tuned, "--output", self.model),
            ("--output {link}: " + from_, "finetune", *tuned, "--output", self.link),
            ("--keep {other} is read", "finetune", *tuned, "--keep", f"{self.other}:1", "--output", self.other),
            ("--forgetting {other} is", "finetune", *tuned, "--forgetting", self.other, "--output", self.other),
            ("--checkpoint {model}/config.json: --from", "finetune", *tuned, *new, "--checkpoint", config),
            ("--output {model}: " + teacher, "distill", *taught, "--output", self.model),
            ("--output {other}: --data {other} is read", "fedavg", *two, "--output", self.other),
            (model, "prune", "--model", self.model, "--layers", 1, "--output", self.directory / "." / "model"),
            (model, "synthesize", "--model", self.model, "--users", 1, "--output", self.model),
            ("--report {data}/items.tsv: --data", "prepare", *new, "--report", rows),
            (model, "parity", "--model", self.model, "--output", weights),
            (model, "export-onnx", "--model", self.model, "--output", weights),
            ("--metrics {notes} is read", "report", "--metrics", self.notes, "--output", self.notes),
            ("--evaluation {notes} is read", "report", "--evaluation", self.notes, "--output", self.notes),
        ):  # fmt: skip
            self.misused(*line)
        hard_link = self.directory / "hard"
        hard_link.hardlink_to(weights)
        self.misused(model, "parity", "--model", self.model, "--output", hard_link)

    def test_outputs_stay_apart(self) -> None:
        new = self.directory / "new"
        for flags in (["--checkpoint", new], ["--metrics", new], ["--checkpoint", new / "items.tsv"],
                      ["--metrics", new / "model.safetensors"], ["--metrics", f"{new}.checkpoint"]):  # fmt: skip
            self.misused(f"{flags[-1]}: --", "train", "--output", new, *flags)
        self.misused(f"--output {new} is written there", "prepare", "--output", new, "--report", new / "users.tsv")

    def test_things_of_another_kind_stay(self) -> None:
        new, foreign = ["--output", self.directory / "new"], self.directory / "foreign"
        foreign.mkdir()
        (foreign / "config.json").write_text('{"architectures": ["of somebody else"]}', "utf-8")
        for line in (
            ("holds event_types.tsv and is not a model directory", "train", "--output", self.other),
            ("holds config.json and is not an export", "prepare", "--output", self.model),
            ("{foreign}: holds config.json and is not a model", "train", "--output", foreign),
            ("--output {notes}: is a file, expected a model directory", "train", "--output", self.notes),
            ("is there and is not a checkpoint of this version", "train", *new, "--checkpoint", self.notes),
            ("is there and is not a file of JSON lines", "train", *new, "--metrics", self.notes),
            ("--checkpoint {other}: is not a regular file", "train", *new, "--checkpoint", self.other),
            ("--checkpoint {pipe}: is not a regular file", "train", *new, "--checkpoint", self.pipe),
            ("--metrics {other}: is not a regular file", "train", *new, "--metrics", self.other),
            ("--report /dev/null: is not a regular file", "prepare", *new, "--report", "/dev/null"),
            ("--output {pipe}: is not a regular file", "parity", "--model", self.model, "--output", self.pipe),
            ("--output /dev/null: is not", "export-onnx", "--model", self.model, "--output", "/dev/null"),
            ("--output {other}: is not", "export-onnx", "--model", self.model, "--output", self.other),
        ):
            self.foreign = foreign
            self.misused(*line)

    def test_what_is_its_own_is_written_over(self) -> None:
        metrics = ["--metrics", str(self.directory / "metrics.jsonl")]
        for _ in range(2):
            self.train("link", "--epochs", "1", *metrics, data=self.data)
        self.assertTrue(self.link.is_symlink())
        self.train("tuned", "--epochs", "1", "--from", str(self.model), "--metrics", "/dev/null", command="finetune")
        for _ in range(2):
            report = ["--report", str(self.directory / "report.json")]
            self.assertEqual(self.run_command("prepare", *report, "--output", str(self.other), data=self.data)[0], 0)

    def run_command(self, command: str, *arguments: str, data: Path | None = None) -> tuple[int, str, str]:
        if command == "prepare":
            return run(command, "--data", str(data), *arguments)
        return super().run_command(command, *arguments, data=data)

    def test_a_link_to_a_file_leads_there(self) -> None:
        target, link = self.directory / "target", self.directory / "link.json"
        link.symlink_to(target)
        for _ in range(2):
            code = self.run_command("parity", "--model", str(self.model), "--output", str(link), data=self.data)[0]
            self.assertEqual((code, link.is_symlink(), target.is_file()), (0, True, True))


class TwoAtOnce(CommandLine):
    def test_the_second_is_refused_while_the_first_runs(self) -> None:
        model, other = self.train("model", "--epochs", "1"), self.directory / "other"
        step, said = train_module.Run._step, []
        line = ["--output", str(model), "--epochs", "1"]

        def with_a_second(run_: train_module.Run, batch: list) -> None:
            step(run_, batch)
            if not said:
                said.append(self.run_command("train", *line))
                said.append(self.run_command("finetune", "--from", str(other), *line))
                said.append(self.run_command("prune", "--model", str(other), "--layers", "1", "--output", str(model)))

        shutil.copytree(model, other)
        with mock.patch.object(train_module.Run, "_step", with_a_second):
            self.train("model", "--epochs", "1")
        for code, _, errors in said:
            self.assertEqual(code, 2)
            self.assertIn(f"--output {model}: another process writes there", errors)
        self.assertEqual(len(said), 3)
        self.train("model", "--epochs", "1")

    def test_a_killed_one_leaves_no_lock_and_nothing_unfinished(self) -> None:
        flags = ["--checkpoint-minutes", "0", "--epochs", "3"]
        process = start("train", "--data", self.directory, "--output", self.directory / "model", *SHAPE, *flags)
        self.addCleanup(process.kill)
        wait_for(self.directory / "model.checkpoint")
        process.kill()
        process.communicate()
        for name in ("model.checkpoint", "model/items.tsv"):
            (self.directory / f"{name}.0123abcd.new").write_bytes(b"half of")
        self.train("model", *flags, "--resume")
        self.assertFalse(list(self.directory.glob("**/*.new")))

    def test_names_of_unfinished_files_are_ones_own(self) -> None:
        path, names = self.directory / "x", []

        def write(new: Path) -> None:
            names.append(new)
            if len(names) == 1:
                files.replace({path: write})
            new.write_text(str(len(names)), "utf-8")

        files.replace({path: write})
        self.assertEqual((len(set(names)), path.read_text("utf-8")), (2, "2"))
        self.assertFalse(list(self.directory.glob("*.new")))

    def test_a_directory_that_was_made_for_nothing_goes(self) -> None:
        with mock.patch.object(train_module.Run, "_step", side_effect=Killed), self.assertRaises(Killed):
            self.train("model")
        self.assertFalse((self.directory / "model").exists())


class Interrupted(CommandLine):
    def setUp(self) -> None:
        super().setUp()
        for number in (
            signal.SIGINT,
            signal.SIGTERM,
        ):  # of a background job, SIGINT may be ignored
            self.addCleanup(signal.signal, number, signal.signal(number, signal.SIG_DFL))

    def test_a_run_says_how_to_go_on(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            output = self.directory / number.name
            shape = [*SHAPE, "--epochs", "2000", "--checkpoint-minutes", "0"]
            process = start("train", "--data", self.directory, "--output", output, *shape, stderr=subprocess.PIPE)
            self.addCleanup(process.kill)
            wait_for(Path(f"{output}.checkpoint"))
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 130)
            self.assertEqual(
                errors.decode().splitlines()[1:], ["freshet_training: interrupted; go on with --resume"], errors
            )
            self.assertFalse(list(self.directory.glob("**/*.new")))

    def test_where_nothing_is_there_to_go_on_from(self) -> None:
        with mock.patch.object(train_module.Run, "_step", side_effect=KeyboardInterrupt):
            code, _, errors = self.run_command("train", "--output", str(self.directory / "model"))
        self.assertEqual((code, errors.splitlines()[1:]), (130, ["freshet_training: interrupted"]))
        line = ["--data", str(self.directory), "--output", str(self.directory / "clean")]
        with mock.patch.object(prepare, "clean", side_effect=KeyboardInterrupt):
            code, _, errors = run("prepare", *line)
        self.assertEqual((code, errors), (130, "freshet_training: interrupted\n"))
        self.assertFalse((self.directory / "clean").exists())

    def test_while_libraries_load(self) -> None:
        program = "import os, signal\nfrom freshet_training import interrupts\ninterrupts.end_at_once()\n"
        for number in (signal.SIGINT, signal.SIGTERM):
            line = [sys.executable, "-c", program + f"os.kill(os.getpid(), {int(number)})\n"]
            done = subprocess.run(line, cwd=PACKAGE, capture_output=True, check=False, preexec_fn=mind_signals)
            self.assertEqual((done.returncode, done.stderr), (130, b"freshet_training: interrupted\n"))


def start(*line: object, stderr: int = subprocess.DEVNULL) -> subprocess.Popen:
    words = [sys.executable, "-m", "freshet_training", *map(str, line), "--threads", "1"]
    return subprocess.Popen(words, cwd=PACKAGE, stdout=subprocess.DEVNULL, stderr=stderr, preexec_fn=mind_signals)


def mind_signals() -> None:
    """Background jobs of a shell, as these tests may be one, ignore SIGINT, and so would what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(path: Path) -> None:
    until = time.monotonic() + 120
    while not path.exists():
        if time.monotonic() > until:
            raise TimeoutError(f"{path} was not written")
        time.sleep(0.05)


if __name__ == "__main__":
    unittest.main()
