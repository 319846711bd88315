"""The examples of the documents, run as they stand: the tutorial from end to end, and every other command that needs no broker.

Needs PyTorch: run by the distribution's Python.
"""

import datetime
import gzip
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import checkpoint
from support import PROGRAM, SEED, CommandTest, as_lines, event, main, read_output, write_model

ROOT = pathlib.Path(__file__).resolve().parents[2]
TIMEOUT_S = 600
ELSEWHERE = re.compile(  # need a broker, root, a GPU, or a build of their own; tested under their own names
    r"deploy/|\./deploy/|\./tests/|kcat |freshet run |freshet replay --from|cmake |ctest |bench/|inference/training/ablations")
# Appended to the trainer's commands, whose last option counts.
BRIEFLY = {"train": "--epochs 1 --threads 1", "finetune": "--epochs 1 --threads 1", "distill": "--epochs 1 --threads 1",
           "fedavg": "--rounds 1 --threads 1", "synthesize": "--users 20"}  # fmt: skip


def blocks(document, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), re.S)


def commands(document):
    """Of its sh blocks, a line each."""
    lines = "\n".join(blocks(document, "sh")).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not ELSEWHERE.match(line)]


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
        done = subprocess.run(["bash", "-euc", line], cwd=self.directory, env=self.environment, capture_output=True,
                              text=True, timeout=TIMEOUT_S)  # fmt: skip
        self.assertEqual(done.returncode, 0, f"{line}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def write_yaml(self, document):
        for text in blocks(document, "yaml"):
            if named := re.match(r"# (\S+\.yaml)", text):
                self.write(named[1], text)


class TutorialTest(DocumentTest):
    def test_every_step(self):
        self.write_yaml("docs/tutorial.md")
        for line in commands("docs/tutorial.md"):
            self.shell(line)
        records = read_output(self.path("var/recommendations.jsonl"))
        self.assertEqual(len(records), 150000)
        self.assertEqual({record["model"]["name"] for record in records}, {"shop"})
        accuracy = json.loads(self.path("var/accuracy.json").read_text())
        for name, figures in accuracy["baselines"].items():
            self.assertGreater(accuracy["model"]["hr@10"], figures["hr@10"], name)
        items = [self.path(f"models/{name}/items.tsv").read_text() for name in ("shop", "shop-2")]
        self.assertTrue(items[1].startswith(items[0]))
        self.assertGreater(len(items[1]), len(items[0]))


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
        self.write_yaml("docs/training.md")
        self.write_yaml("docs/models.md")
        self.write_ml1m()
        self.write_globo()
        self.shell("freshet export -c ml-1m.yaml --input events.csv.gz --output var/ml-1m && PYTHONPATH=inference/training "
                   "python3 -m freshet_training train --data var/ml-1m --output var/soft-1 --epochs 1 --threads 1")  # fmt: skip
        checkpoint.save(self.path("SASRec.pth"), checkpoint.pmixer())
        self.write("items.txt", "".join(f"{item}\n" for item in checkpoint.ITEMS))
        self.run_all("docs/models.md")

    def write_globo(self):
        begin = int(datetime.datetime(2017, 10, 8, tzinfo=datetime.timezone.utc).timestamp() * 1000)
        lines = ["user_id,session_id,session_start,session_size,click_article_id,click_timestamp"]
        lines += [f"{c['user_id']},1,1,2,{c['item_id']},{begin + n * 100_000}" for n, c in enumerate(self.clicks())]
        self.write("clicks.csv.gz", gzip.compress("\n".join(lines).encode() + b"\n"))

    def write_ml1m(self):
        lines = ["user,item,timestamp"]
        lines += [f"{c['user_id']},{c['item_id']},{c['timestamp'] // 1000}" for c in self.clicks()]
        self.write("events.csv.gz", gzip.compress("\n".join(lines).encode() + b"\n"))


if __name__ == "__main__":
    if importlib.util.find_spec("torch") is None:
        print("skipped: this Python has no PyTorch (deploy/install-dependencies.sh train)")
        sys.exit(77)
    main()
