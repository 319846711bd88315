"""The examples of the documents, run as they stand: the tutorial from end to end, with a broker of its own, and of the others every
command that needs none.

Needs PyTorch: run by the distribution's Python.
"""

import datetime
import gzip
import importlib.util
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import checkpoint
from support import PROGRAM, SEED, CommandTest, as_lines, event, main, read_output, write_model

ROOT = pathlib.Path(__file__).resolve().parents[2]
TIMEOUT_S = 600
ELSEWHERE = re.compile(  # need a broker, root, a GPU, or a build of their own; tested under their own names
    r"deploy/|\./deploy/|\./tests/|kcat |freshet run |freshet replay --from|cmake |ctest |bench/|inference/training/ablations")
INSTALLS = re.compile(r"deploy/install-dependencies\.sh ")
# Appended to the trainer's commands, whose last option counts.
BRIEFLY = {"train": "--epochs 1 --threads 1", "finetune": "--epochs 1 --threads 1", "distill": "--epochs 1 --threads 1",
           "fedavg": "--rounds 1 --threads 1", "synthesize": "--users 20"}  # fmt: skip


def blocks(document, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), re.S)


def commands(document, leave_out=ELSEWHERE):
    """Of its sh blocks, a line each."""
    lines = "\n".join(blocks(document, "sh")).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not leave_out.match(line)]


class DocumentTest(CommandTest):
    def setUp(self):
        super().setUp()
        for name in ("inference", "deploy"):
            self.path(name).symlink_to(ROOT / name)
        self.path("models").mkdir()
        self.path("models/demo").symlink_to(ROOT / "models/demo")
        # So that `python3` and `freshet` are those of this test.
        programs = self.path("bin")
        programs.mkdir()
        (programs / "python3").symlink_to(sys.executable)
        built = str(pathlib.Path(PROGRAM).resolve().parent)
        self.environment["PATH"] = f"{programs}:{built}:{os.environ['PATH']}"

    def shell(self, line):
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", line], cwd=self.directory, env=self.environment, capture_output=True,
                              text=True, timeout=TIMEOUT_S)  # fmt: skip
        self.assertEqual(done.returncode, 0, f"{line}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def write_yaml(self, document):
        for text in blocks(document, "yaml"):
            if named := re.match(r"# (\S+\.yaml)", text):
                self.write(named[1], text)


class TutorialTest(DocumentTest):
    """Its first terminal is a process in the background, whose broker and ports are free ones."""

    def setUp(self):
        super().setUp()
        self.running = None
        self.log = self.path("run.log")
        self.addCleanup(self.clean_up)

    def clean_up(self):
        if self.running is not None and self.running.poll() is None:
            self.running.kill()
            self.running.wait()
        self.shell("deploy/local-kafka.sh stop --now")

    def wait_for(self, pattern):
        """What the process in the background says, once it does."""
        deadline = time.monotonic() + TIMEOUT_S
        while (found := re.search(pattern, self.log.read_text())) is None:
            self.assertIsNone(self.running.poll(), self.log.read_text())
            self.assertLess(time.monotonic(), deadline, f"{pattern}\n{self.log.read_text()}")
            time.sleep(0.1)
        return found

    def step(self, line):
        """What the command prints; ports are those that were free."""
        if line == "deploy/local-kafka.sh start":
            return self.shell(f"{line} --port 0")
        broker = self.path("build/kafka/address").read_text().strip() if self.path("build/kafka").exists() else ""
        if line.startswith("freshet run "):
            flags = ["--set", f"kafka.bootstrap_servers={broker}", "--set", "http.listen=127.0.0.1:0"]
            with self.log.open("wb") as log:
                self.running = subprocess.Popen([*shlex.split(line), *flags], stderr=log, cwd=self.directory, env=self.environment)
            return ""
        if line == "deploy/local-kafka.sh stop":  # after Ctrl-C
            self.running.send_signal(signal.SIGINT)
            self.assertEqual(self.running.wait(TIMEOUT_S), 0, self.log.read_text())
        if "localhost:8080" in line:
            port = self.wait_for(r"on port (\d+)")[1]
            line = line.replace("localhost:8080", f"127.0.0.1:{port}")
        printed = self.shell(line.replace("localhost:9092", broker))
        if line.startswith("ln -sfn"):
            self.wait_for("serves in place of")
        return printed

    def test_every_step(self):
        self.write_yaml("docs/tutorial.md")
        printed = {line: self.step(line) for line in commands("docs/tutorial.md", INSTALLS)}
        records = read_output(self.path("var/recommendations.jsonl"))
        self.assertEqual(len(records), 150000)
        self.assertEqual({record["model"]["name"] for record in records}, {"shop"})
        accuracy = json.loads(self.path("var/accuracy.json").read_text())
        for name, figures in accuracy["baselines"].items():
            self.assertGreater(accuracy["model"]["hr@10"], figures["hr@10"], name)
        for name in ("forgetful", "shop-2"):
            items = [self.path(f"models/{model}/items.tsv").read_text() for model in ("shop", name)]
            self.assertTrue(items[1].startswith(items[0]))
            self.assertGreater(len(items[1]), len(items[0]))
        self.check_live([json.loads(text) for line, text in printed.items() if re.match(r"kcat .* -C |curl ", line)])

    def check_live(self, answers):
        before, asked, after = answers
        self.assertEqual({answer["user_id"] for answer in answers}, {"u2718"})
        self.assertEqual([answer["model"]["name"] for answer in answers], ["shop", "shop", "shop-2"])
        self.assertEqual(asked["items"], before["items"])
        self.assertGreater(before["sequence_number"], 1, "the user has a past")
        self.assertEqual(after["sequence_number"], before["sequence_number"] + 1)
        self.assertIn("stopped: 20002 events, 20002 recommendations, 0 dead letters", self.log.read_text())


class ExamplesTest(DocumentTest):
    """Of the documents that show commands on a user's own log and models."""

    def setUp(self):
        super().setUp()
        log = as_lines(self.clicks())
        self.write("clicks.jsonl", log)
        for name in ("clicks", "today", "shop-a", "shop-b"):
            self.write(f"{name}.jsonl.gz", gzip.compress(log))
        for name in ("shop", "old", "new"):
            write_model(self.path("models") / name, [f"i{n}" for n in range(1, 61)], seed=SEED + len(name))

    @staticmethod
    def clicks():
        start = datetime.datetime(2026, 10, 1, tzinfo=datetime.timezone.utc).timestamp() * 1000
        return [event(f"u{n % 40}", f"i{1 + (n * 7 + n // 40) % 60}", int(start) + n * 600_000) for n in range(2400)]

    def run_all(self, document):
        found = commands(document)
        self.assertTrue(found, document)
        for line in found:
            trainer = re.search(r"-m freshet_training (\w+)", line)
            self.shell(f"{line.split('  # ')[0]} {BRIEFLY.get(trainer[1], '') if trainer else ''}")

    def test_readme(self):
        self.run_all("README.md")

    def test_evaluation(self):
        self.run_all("docs/evaluation.md")

    def test_generate(self):
        self.shell(re.search(r"`(freshet generate [^`]*)`", (ROOT / "docs/generate.md").read_text())[1])

    def test_training(self):
        self.write_yaml("docs/training.md")
        self.write_ml1m()
        self.shell("freshet export --input clicks.jsonl --output var/yesterday")
        shutil.rmtree(self.path("models/shop"))  # it is trained here
        self.shell("freshet export --input clicks.jsonl --output var/large && PYTHONPATH=inference/training python3 "
                   "-m freshet_training train --data var/large --output models/large --epochs 1 --threads 1")  # fmt: skip
        self.run_all("docs/training.md")

    def test_models(self):
        self.write_yaml("docs/models.md")
        self.write_ml1m()
        self.write_ml100k()
        self.write_taobao()
        self.write_globo()
        checkpoint.save(self.path("SASRec.pth"), checkpoint.pmixer())
        self.write("items.txt", "".join(f"{item}\n" for item in checkpoint.ITEMS))
        self.run_all("docs/models.md")

    def write_globo(self):
        begin = int(datetime.datetime(2017, 10, 8, tzinfo=datetime.timezone.utc).timestamp() * 1000)
        lines = ["user_id,session_id,session_start,session_size,click_article_id,click_timestamp"]
        lines += [f"{c['user_id']},1,1,2,{c['item_id']},{begin + n * 100_000}" for n, c in enumerate(self.clicks())]
        self.write("clicks.csv.gz", gzip.compress("\n".join(lines).encode() + b"\n"))

    def write_ml1m(self):
        lines = ["user,position,item,rating,timestamp"]
        lines += [f"{c['user_id']},{n},{c['item_id']},{n % 5 + 1},{c['timestamp'] // 1000}" for n, c in enumerate(self.clicks())]
        self.write("events.csv.gz", gzip.compress("\n".join(lines).encode() + b"\n"))

    def write_ml100k(self):
        lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
        lines += [f"{c['user_id']}\t{c['item_id']}\t3\t{c['timestamp'] // 1000}" for c in reversed(self.clicks())]
        self.write("ml-100k.inter", "\n".join(lines) + "\n")

    def write_taobao(self):
        lines = [f"{c['user_id']},{c['item_id']},7,pv,{c['timestamp'] // 1000}" for c in self.clicks()]
        self.write("UserBehavior.csv.gz", gzip.compress("\n".join(lines).encode() + b"\n"))


if __name__ == "__main__":
    if importlib.util.find_spec("torch") is None:
        print("skipped: this Python has no PyTorch (deploy/install-dependencies.sh train)")
        sys.exit(77)
    main()
