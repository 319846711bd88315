"""Synthetic users: what a model that has learnt a circle makes up, and that nothing is judged by it."""

import unittest
from pathlib import Path

import numpy as np

from freshet_training import evaluation, exports, sequences
from freshet_training.sequences import History
from freshet_training.synthesis import SynthesisOptions, sample, synthesize
from tests.command_line import ITEMS, CommandLine, forget_digests, run
from tests.support import random_history, random_model


class Sampling(unittest.TestCase):
    def test_shares_are_those_of_the_softmax(self) -> None:
        scores = np.log([[0.0, 0.5, 0.1, 0.4]], where=[[False, True, True, True]], out=np.full((1, 4), -np.inf))
        many = np.repeat(scores, 20_000, axis=0)
        for temperature, top_p, expected in (
            (1.0, 1.0, [0, 0.5, 0.1, 0.4]),
            (0.5, 1.0, [0, 0.25 / 0.42, 0.01 / 0.42, 0.16 / 0.42]),
            (1.0, 0.85, [0, 5 / 9, 0, 4 / 9]),
            (1.0, 0.3, [0, 1, 0, 0]),
        ):
            drawn = sample(many, temperature, top_p, np.random.default_rng(1))
            shares = np.bincount(drawn, minlength=4) / len(many)
            np.testing.assert_allclose(shares, expected, atol=0.015, err_msg=f"{temperature} {top_p}")

    def test_histories_are_within_what_was_observed(self) -> None:
        random = np.random.default_rng(2)
        model = random_model(2, items=30, temperature=1.0).float()
        observed = [random_history(random, int(length)) for length in random.integers(0, 20, 40)]
        made = synthesize(model, observed, SynthesisOptions(50, max_events=12, seed=3))
        lengths = {min(12, len(history)) for history in observed if len(history)}
        firsts = {(h.items[0], h.types[0], h.times[0]) for h in observed if len(h) and h.items[0] > 0}
        gaps = {max(0, gap) for history in observed for gap in np.diff(history.times).tolist()}
        kinds = {pair for h in observed for pair in zip(h.items.tolist(), h.types.tolist())}
        for history in made:
            self.assertIn(len(history), lengths)
            self.assertIn((history.items[0], history.types[0], history.times[0]), firsts)
            self.assertLessEqual(set(np.diff(history.times).tolist()), gaps)
            self.assertTrue(((history.items > 0) & (history.items < 30)).all())
            self.assertLessEqual(set(zip(history.items.tolist(), history.types.tolist())), kinds)
        again = synthesize(model, observed, SynthesisOptions(50, max_events=12, seed=3))
        self.assertEqual([h.items.tolist() for h in made], [h.items.tolist() for h in again])

    def test_no_repeats(self) -> None:
        model = random_model(3, items=8).float()
        random = np.random.default_rng(4)
        observed = [random_history(random, 20, items=8) for _ in range(10)]
        made = synthesize(model, observed, SynthesisOptions(30, repeats=False))
        self.assertEqual({len(history) for history in made}, {7})
        self.assertTrue(all(len(set(history.items.tolist())) == 7 for history in made))

    def test_options_and_data_that_make_no_sense(self) -> None:
        for wrong in ({"users": 0}, {"temperature": 0.0}, {"top_p": 1.1}, {"max_events": 0}):
            with self.assertRaisesRegex(ValueError, "expected"):
                SynthesisOptions(**{"users": 1, **wrong})  # type: ignore[arg-type]
        empty = History(*(np.zeros(0, np.int64) for _ in range(3)))
        with self.assertRaisesRegex(ValueError, "no user with two events"):
            synthesize(random_model(1), [empty], SynthesisOptions(1))


class Command(CommandLine):
    def setUp(self) -> None:
        super().setUp()
        self.model = self.train("model")
        self.output = self.directory / "more"

    def synthesize(self, *arguments: str, data: Path | None = None) -> None:
        flags = ["--model", str(self.model), "--users", "40", "--top-p", "0.5"]
        code, _, errors = self.run_command("synthesize", "--output", str(self.output), *flags, *arguments, data=data)
        self.assertEqual(code, 0, errors)

    def test_it_goes_around_the_circle_and_is_marked(self) -> None:
        self.synthesize()
        before, after = sequences.load(self.directory), sequences.load(self.output)
        self.assertEqual(after.synthetic.tolist(), [False] * 60 + [True] * 40)
        self.assertEqual(exports.names(after).users[59:61], ["59", "synthetic-60"])
        np.testing.assert_array_equal(after.events.items[: len(before.events)], before.events.items)
        made = [after.history(user).items for user in range(60, 100)]
        steps = np.concatenate([np.diff(items) % ITEMS for items in made])
        self.assertGreater((steps == 3).mean(), 0.8)  # 1 in 20 by chance
        self.assertEqual({len(items) for items in made}, {10})  # of 12, less the held-out two

    def test_training_uses_them_whole_and_judges_by_nobody_made_up(self) -> None:
        self.synthesize()
        data = sequences.load(self.output)
        lengths = [len(history) for history in data.histories(hold_out=2, at_least=2)]
        self.assertEqual(lengths, [10] * 100)
        self.assertEqual([len(evaluation.held_out_cases(data, back)) for back in (1, 2)], [60, 60])
        self.train("second", "--epochs", "1", data=self.output)

    def test_apart_and_again(self) -> None:
        self.synthesize("--apart", "--no-repeats")
        data = sequences.load(self.output)
        self.assertEqual((data.users, data.synthetic.all()), (40, True))
        self.train("second", "--epochs", "1", data=self.output)
        self.synthesize()
        first, self.output = self.output, self.directory / "most"
        self.synthesize(data=first)
        self.assertEqual(sequences.load(self.output).synthetic.tolist(), [False] * 60 + [True] * 80)

    def test_prepare_keeps_the_mark(self) -> None:
        self.synthesize()
        clean = self.directory / "clean"
        code, _, errors = run("prepare", "--data", str(self.output), "--output", str(clean), "--not-before", "3")
        self.assertEqual(code, 0, errors)
        self.assertEqual(sequences.load(clean).synthetic.sum(), 40)

    def test_refusals(self) -> None:
        flags = ["--users", "1", "--model", str(self.model)]
        itself = self.refused("synthesize", *flags, "--output", str(self.directory), status=2)
        self.assertIn(f"--output {self.directory}: --data {self.directory} is read from there", itself)
        forget_digests(self.model)
        names = self.model / "items.tsv"
        names.write_text(names.read_text("utf-8").replace("i7", "x7"), "utf-8")
        self.assertIn("model: not the vocabulary of", self.refused("synthesize", *flags))


if __name__ == "__main__":
    unittest.main()
