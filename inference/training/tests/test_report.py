"""Reports of files that are not what they should be, or cannot be written."""

import contextlib
import json
import unittest
from unittest import mock

from freshet_training import shapes
from tests.command_line import CommandLine, run
from tests.test_bad_input import files_of_at_most
from tests.test_files import InTemporaryDirectory

FIGURES = {"hr@10": 0.3, "ndcg@10": 0.2, "intervals": {"hr@10": [0.2, 0.4], "ndcg@10": None}}
POINT = {"begin": "2026-10-10T00:00:00Z", "n": 5, "model": {"ndcg@10": 0.2}, "popularity": {}}
EVALUATION = {
    "protocol": {"name": "prequential", "cases": 1000, "exclude_seen": True},
    "model": {"name": "$shop$_{", **FIGURES},
    "baselines": {"popularity": FIGURES},
    "compare": {
        "model": {"name": "new", **FIGURES},
        "differences": {"hr@10": {"difference": 0.1, "interval": [0, 0.2], "p": 0.01}},
    },
    "curves": {"day": [], "hour": [POINT, POINT]},
}


class Reports(InTemporaryDirectory):
    def report(self, kind: str, content: str | bytes) -> tuple[int, str]:
        path = self.directory / "given"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        line = ("report", f"--{kind}", str(path), "--output", str(self.directory / "picture.png"))
        code, _, errors = run(*line)
        return code, errors

    def refused(self, kind: str, content: str | bytes, message: str) -> None:
        with self.subTest(kind, content=content[:60]):
            code, errors = self.report(kind, content)
            self.assertEqual(code, 1)
            self.assertRegex(errors, rf"^freshet_training: .*given.*{message}.*\n$")
            self.assertFalse((self.directory / "picture.png").exists())

    def test_metrics(self) -> None:
        good = '{"epoch": 1, "loss": 2.5, "valid": {"hr": 0.1, "ndcg": 0.2}}\n'
        self.assertEqual(self.report("metrics", good + '{"epoch": 2}\n{"chosen_epoch": 1}'), (0, ""))
        (self.directory / "picture.png").unlink()
        for content, message in (
            ("", "no record of an epoch"),
            ("{}\n", "no record of an epoch"),
            (good + "\n", ":2: expected a JSON object, a record of training: not JSON"),
            (good + good[:-9], ":2: expected a JSON object, a record of training: not JSON"),
            (b"\xff\n", ":1: .*not JSON: .*utf-8"),
            ("[1]\n", r":1: .*it is \[1\], expected an object"),
            ('{"epoch": "one"}\n', ":1: .*epoch is 'one', expected a whole number"),
            ('{"epoch": 1.5}\n', "epoch is 1.5, expected a whole number"),
            ('{"epoch": true}\n', "epoch is True, expected a whole number"),
            ('{"epoch": 1' + "0" * 99 + "}\n", "epoch is 1000.*, expected a whole number"),
            ('{"epoch": 1, "loss": "2"}\n', "loss is '2', expected a number"),
            ('{"epoch": 1, "loss": NaN}\n', "NaN is no number"),
            ('{"epoch": 1, "valid": []}\n', r"valid is \[\], expected an object"),
            ('{"epoch": 1, "valid": {"hr": 1}}\n', "valid.ndcg is missing"),
            (json.dumps(EVALUATION), "no record of an epoch"),
        ):
            self.refused("metrics", content, message)

    def test_recipes(self) -> None:
        test = {"hr": 0.1, "ndcg": 0.2}
        good = {"chosen_epoch": 1, "test": test, "config": {}, "options": {"seed": 1}}
        code, _ = self.report("recipes", json.dumps(good))
        self.assertEqual(code, 0)
        for changes, message in (
            ({"chosen_epoch": None}, "the record of the test: chosen_epoch is None, expected a whole number"),
            ({"options": {}}, "the record of the test: options.seed is missing"),
            ({"options": 3}, "the record of the test: options is 3, expected an object"),
            ({"test": {"hr": 0.1}}, ":1: .*test.ndcg is missing"),
            ({"test": {"hr": "x", "ndcg": 1}}, ":1: .*test.hr is 'x', expected a number"),
        ):
            self.refused("recipes", json.dumps({**good, **changes}), message)

    def test_evaluations(self) -> None:
        self.assertEqual(self.report("evaluation", json.dumps(EVALUATION)), (0, ""))
        self.assertEqual(
            self.report("evaluation", json.dumps({**EVALUATION, "curves": None, "compare": None})), (0, "")
        )
        (self.directory / "picture.png").unlink()
        for content in ("", "[]", "{", '{"epoch": 1}', b"\xff"):
            self.refused("evaluation", content, "expected what `freshet evaluate --json` writes")
        for changes, message in (
            ({"protocol": None}, "protocol is None, expected an object"),
            (
                {"protocol": {"name": "x", "cases": "9", "exclude_seen": True}},
                "protocol.cases is '9', expected a whole",
            ),
            ({"model": {"name": "x", "ndcg@10": 1}}, "model.hr@10 is missing"),
            ({"model": {**FIGURES, "name": 1}}, "model.name is 1, expected text"),
            ({"baselines": {"popularity": {}}}, "baselines.popularity.hr@10 is missing"),
            ({"baselines": {"p": {**FIGURES, "intervals": {"hr@10": [1]}}}}, r"hr@10 is \[1\], expected a list of 2"),
            ({"compare": {"model": EVALUATION["model"]}}, "compare.differences is missing"),
            ({"compare": {**EVALUATION["compare"], "differences": {"x": {}}}}, "differences.x.difference is missing"),
            ({"curves": []}, r"curves is \[\], expected an object"),
            ({"curves": {"hour": [{**POINT, "begin": "now"}]}}, "now"),
            ({"curves": {"hour": [{**POINT, "model": 3}]}}, r"curves.hour\[0\].model is 3, expected an object"),
            ({"curves": {"hour": [{"n": 1}]}}, r"curves.hour\[0\].begin is missing"),
        ):
            self.refused("evaluation", json.dumps({**EVALUATION, **changes}), message)

    def test_another_form_of_picture(self) -> None:
        path = self.directory / "metrics.jsonl"
        path.write_text('{"epoch": 1}\n', "utf-8")
        code, _, errors = run("report", "--metrics", str(path), "--output", str(self.directory / "picture.xyz"))
        self.assertEqual(code, 1)
        self.assertRegex(errors, "^freshet_training: .*xyz.* not supported")

    def test_a_picture_that_is_there_survives_a_full_disk_and_short_memory(self) -> None:
        self.assertEqual(self.report("evaluation", json.dumps(EVALUATION))[0], 0)
        picture = self.directory / "picture.png"
        before = picture.read_bytes()
        short = mock.patch("matplotlib.figure.Figure.savefig", side_effect=MemoryError)
        for trouble, message in ((files_of_at_most(4000), "File too large"), (short, "out of memory")):
            with trouble:
                code, errors = self.report("evaluation", json.dumps(EVALUATION))
            self.assertEqual(code, 1)
            self.assertIn(message, errors)
            self.assertEqual(picture.read_bytes(), before)
            self.assertEqual(len(list(self.directory.iterdir())), 2)


class Parity(CommandLine):
    def test_what_is_there_survives(self) -> None:
        model = str(self.train("model", "--epochs", "1"))
        output = self.directory / "new" / "parity.json"
        output.parent.mkdir()
        line = ("parity", "--model", model, "--output", str(output))
        self.assertEqual(self.run_command(*line)[0], 0)
        before = output.read_bytes()
        failures: list[tuple[contextlib.AbstractContextManager[object], str]] = [
            (files_of_at_most(1000), "File too large"),
            (mock.patch("freshet_training.parity.json.dumps", side_effect=MemoryError), "out of memory"),
        ]
        for trouble, message in failures:
            with trouble:
                code, _, errors = self.run_command(*line)
            self.assertEqual(code, 1)
            self.assertIn(message, errors)
            self.assertEqual([path.read_bytes() for path in output.parent.iterdir()], [before])


class Shapes(unittest.TestCase):
    def test_what_may_be_missing(self) -> None:
        shape = {"a": int, "b?": [float], "*": {"c": str}}
        for good in ({"a": 1}, {"a": 1, "b": None}, {"a": 1, "b": [1, 2.5], "x": {"c": "", "d": 0}}):
            shapes.check(good, shape)
        for bad, message in (
            ({}, "a is missing"),
            ({"a": 1, "b": [1, "2"]}, r"b\[1\] is '2', expected a number"),
            ({"a": 1, "x": {}}, "x.c is missing"),
            ({"a": [0] * 99}, r"a is \[0, 0, 0.*\.\., expected a whole number"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                shapes.check(bad, shape)


if __name__ == "__main__":
    unittest.main()
