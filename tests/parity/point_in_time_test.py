#!/usr/bin/env python3
"""Point in time: what the engine answered behind each event of a stream is what the trainer's batch computes there, and
neither knows anything later. Planted leaks must be found out.

FRESHET: the program. Needs numpy and PyTorch; where they are absent it says so and ends with 77 (CTest: skipped), or 1 with FRESHET_TEST_NO_SKIP.
"""
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy as np

from parity_test import without_torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
FRESHET = os.environ.get("FRESHET", str(ROOT / "build/release/bin/freshet"))
DEMO = ROOT / "models/demo"
USERS, EVENTS = 60, 3000
BOUND = 1e-4  # relative, of user vectors
sys.path.insert(0, str(ROOT / "inference/training"))


class PointInTime(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        from freshet_training import model_directory, sequences

        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.work = pathlib.Path(directory.name)
        cls.log = cls.work / "log" / "events.jsonl"
        cls.run_program("generate", "--users", USERS, "--items", 2000, "--events", EVENTS, "--seed", 5, "--output", cls.log)
        cls.run_program("export", "--input", cls.log, "--vocabulary", DEMO, "--output", cls.work / "export")
        cls.data = sequences.load(cls.work / "export")
        cls.names = [line.split("\t")[1] for line in (cls.work / "export/users.tsv").read_text().splitlines()]
        cls.model = model_directory.load(DEMO)
        cls.streamed = cls.stream(cls.log, "state")

    @staticmethod
    def run_program(*arguments):
        subprocess.run([FRESHET, *map(str, arguments)], check=True)

    @classmethod
    def stream(cls, log, name):
        """(user, sequence number) -> the vector of the answer to that event, event by event."""
        answers = cls.work / f"{name}.jsonl"
        cls.run_program("replay", "--input", log, "--output", answers, "--set", f"model.directory={DEMO}",
                        "--set", f"state.directory={cls.work / name}", "--set", "sink.include_user_vector=true",
                        "--set", "processing.workers=1")  # fmt: skip
        records = map(json.loads, answers.read_text().splitlines())
        return {(record["user_id"], record["sequence_number"]): np.array(record["user_vector"]) for record in records}

    def batch(self, leak=lambda history: history):
        """The same from the trainer: whole histories at once, as they are trained on, each changed by `leak` before."""
        import torch
        from freshet_training.packing import pack

        vectors = {}
        self.model.eval()
        for user in range(self.data.users):
            packed = pack([leak(self.data.history(user))], self.model.config.window)
            with torch.no_grad():
                outputs = self.model.normalise(self.model.forward_packed(packed))[packed.real].double().numpy()
            vectors.update({(self.names[user], n + 1): vector for n, vector in enumerate(outputs)})
        return vectors

    def errors(self, vectors):
        """Relative, of each event that both answered."""
        self.assertEqual(vectors.keys(), self.streamed.keys())
        self.assertEqual(len(vectors), EVENTS)
        return np.array([np.linalg.norm(vectors[key] - vector) / np.linalg.norm(vector)
                         for key, vector in self.streamed.items()])  # fmt: skip

    def test_every_prefix_agrees(self):
        worst = self.errors(self.batch()).max()
        print(f"{EVENTS} events: largest relative error {worst:.1e}, bound {BOUND:.0e}")
        self.assertLess(worst, BOUND)

    def test_a_planted_leak_is_found(self):
        def following(values):
            return np.concatenate([values[1:], values[-1:]])

        leaks = {
            "the time of the event to predict": lambda h: dataclasses.replace(h, times=following(h.times)),
            "the type of the event to predict": lambda h: dataclasses.replace(h, types=following(h.types)),
            "the item to predict": lambda h: dataclasses.replace(h, items=following(h.items)),
        }
        for name, leak in leaks.items():
            with self.subTest(name):
                share = (self.errors(self.batch(leak)) > BOUND).mean()
                print(f"leak of {name}: {100 * share:.0f} % of the events are not what was streamed")
                self.assertGreater(share, 0.3)

    def test_what_comes_later_changes_nothing_before(self):
        lines = self.log.read_text().splitlines()
        half = len(lines) // 2
        later = [json.dumps({**json.loads(line), "item_id": "i1", "event_type": "purchase"}) for line in lines[half:]]
        other = self.work / "other.jsonl"
        other.write_text("\n".join(lines[:half] + later) + "\n")
        counts = {}
        for line in lines[:half]:
            user = json.loads(line)["user_id"]
            counts[user] = counts.get(user, 0) + 1
        streamed = self.stream(other, "other-state")
        before = [key for key in streamed if key[1] <= counts.get(key[0], 0)]
        self.assertEqual(len(before), half)
        for key in before:
            np.testing.assert_allclose(streamed[key], self.streamed[key], rtol=0, atol=1e-5, err_msg=str(key))


if __name__ == "__main__":
    if code := without_torch():
        sys.exit(code)
    unittest.main()
