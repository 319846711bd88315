"""Ranks, metrics, and the files for parity tests, on a model whose scores are known."""

import json
import math
import tempfile
import unittest
from pathlib import Path

import numpy as np
import torch

from freshet_training import parity
from freshet_training.evaluation import Case, evaluate, held_out_cases, ranks, score_unseen
from freshet_training.model import SequenceModel
from freshet_training.sequences import History, Sequences
from freshet_training.vocabulary import Vocabulary
from tests.support import columns, random_history, random_model


def history_of(*items: int) -> History:
    return History(np.array(items, np.int32), np.ones(len(items), np.int32), np.arange(len(items)))


def sequences_of(*histories: History) -> Sequences:
    parts = [np.concatenate(column) for column in zip(*((h.items, h.types, h.times) for h in histories))]
    offsets = np.cumsum([0] + [len(history) for history in histories])
    names = Vocabulary([f"i{row}" for row in range(30)], ["[unknown]", "view", "buy"])
    return Sequences(Path(), offsets, History(*parts), names)


class Evaluation(unittest.TestCase):
    def model_with_scores(self, scores: list[float]) -> SequenceModel:
        """Every user's vector is the first axis, so that an item's score is its first coordinate."""
        model = random_model(0, items=len(scores), similarity="dot").float()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
            model.item_embedding.weight[:, 0] = torch.tensor(scores)
        first = torch.zeros(8)
        first[0] = 1
        model.normalise = lambda x: first.expand(len(x), -1)  # type: ignore[method-assign]
        return model

    def test_ranks(self) -> None:
        model = self.model_with_scores([99, 5, 4, 4, 3, 2])
        cases = [
            Case(history_of(2), 1),  # best
            Case(history_of(2), 3),  # item 1 is better; 2 was seen
            Case(history_of(5), 3),  # the tie with 2 counts against it
            Case(history_of(1, 2), 5),  # row 0 is never ranked: 3 and 4 are better
        ]
        self.assertEqual(ranks(model, cases).tolist(), [0, 1, 2, 2])

    def test_targets_that_cannot_be_recommended_are_missed(self) -> None:
        model = self.model_with_scores([99, 5, 4])
        accuracy = evaluate(model, [Case(history_of(1), 2), Case(history_of(1), 0), Case(history_of(1, 2), 2)])
        self.assertEqual((accuracy.users, accuracy.hr, accuracy.ndcg), (3, 1 / 3, 1 / 3))

    def test_ndcg(self) -> None:
        model = self.model_with_scores([0, 3, 2, 1])
        accuracy = evaluate(model, [Case(history_of(1), 3)])
        self.assertEqual(accuracy.ndcg, 1 / math.log2(3))

    def test_held_out_cases(self) -> None:
        data = sequences_of(history_of(1), history_of(1, 2), history_of(1, 2, 3), history_of(4, 5, 6, 7))
        for back, expected in ((1, [([1], 2), ([1, 2], 3), ([4, 5, 6], 7)]), (2, [([1], 2), ([4, 5], 6)])):
            found = [(case.history.items.tolist(), case.target) for case in held_out_cases(data, back)]
            self.assertEqual(found, expected)


class Parity(unittest.TestCase):
    def test_file(self) -> None:
        model = random_model(3).float()
        random = np.random.default_rng(3)
        histories = [random_history(random, length) for length in (3, 40, 7)]
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "parity.json"
            parity.write(model, sequences_of(*histories), 2, path)
            users = json.loads(path.read_text(encoding="utf-8"))["users"]
        self.assertEqual([user["events"] for user in users], [3, 40])
        scores = score_unseen(model, histories[:2])
        for user, history, expected in zip(users, histories, scores):
            with torch.no_grad():
                vector = model(*columns(history))[-1]
            np.testing.assert_allclose(user["user_vector"], vector, rtol=1e-6)
            rows = [entry["row"] for entry in user["top"]]
            self.assertEqual(rows, [row for row in expected.argsort(descending=True).tolist() if row in rows])
            self.assertFalse(set(rows) & {0, *history.items.tolist()})
            np.testing.assert_allclose([entry["score"] for entry in user["top"]], expected[rows], rtol=1e-4)


if __name__ == "__main__":
    unittest.main()
