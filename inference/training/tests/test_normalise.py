"""Numeric properties: fitted on the training part, applied to all."""

import tempfile
import unittest
from pathlib import Path

import numpy as np

from freshet_training import normalise
from freshet_training.normalise import Normaliser, fit

NAN = float("nan")
PRICES = np.array([1.0, 3.0, NAN, 5.0, 100.0, NAN])
STARS = np.array([4.0, 4.0, 4.0, 4.0, 2.0, 4.0])
TRAINING = np.array([True, True, True, True, False, False])


class Normalisation(unittest.TestCase):
    def test_min_max(self) -> None:
        found = fit({"price": PRICES, "stars": STARS}, TRAINING, "min-max").transform({"price": PRICES, "stars": STARS})
        np.testing.assert_allclose(found[:, 0], [0, 0.5, 0.5, 1, 24.75, 0.5])
        np.testing.assert_allclose(found[:, 1], [0, 0, 0, 0, -2, 0])

    def test_z_score(self) -> None:
        found = fit({"price": PRICES}, TRAINING).transform({"price": PRICES})[:, 0]
        known = found[[0, 1, 3]]
        np.testing.assert_allclose([known.mean(), known.std(), found[2]], [0, 1, 0], atol=1e-12)

    def test_a_constant_becomes_0(self) -> None:
        for method in normalise.METHODS:
            found = fit({"a": np.full(7, 0.1)}, np.ones(7, bool), method).transform({"a": np.full(3, 0.1)})
            self.assertEqual(found.tolist(), [[0]] * 3)

    def test_missing_values_are_flagged_where_training_missed_some(self) -> None:
        found = fit({"price": PRICES, "stars": STARS}, TRAINING, flag_missing=True)
        values = found.transform({"price": PRICES, "stars": np.full(6, NAN)})
        self.assertEqual(values.shape, (6, 3))
        self.assertEqual(values[:, 1].tolist(), [0, 0, 1, 0, 0, 1])
        self.assertEqual(values[:, 2].tolist(), [0] * 6)

    def test_held_out_rows_teach_nothing(self) -> None:
        other = np.where(TRAINING, PRICES, -7.0)
        for method in normalise.METHODS:
            self.assertEqual(fit({"price": PRICES}, TRAINING, method), fit({"price": other}, TRAINING, method))

    def test_file(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "normaliser.json"
            fitted = fit({"price": PRICES, "stars": STARS}, TRAINING, "min-max", flag_missing=True)
            fitted.save(path)
            self.assertEqual(Normaliser.load(path), fitted)
            for text in ("", "{}", '{"format": "x"}', '{"format": "freshet-normaliser-1", "columns": {"a": {}}}'):
                path.write_text(text, "utf-8")
                with self.assertRaisesRegex(ValueError, "normaliser.json: not a normaliser"):
                    Normaliser.load(path)

    def test_errors_name_the_column(self) -> None:
        for values, expected in (
            ({"price": np.full(6, NAN)}, "column price: no value among the 4 rows of training"),
            ({"price": np.full(6, np.inf)}, "column price: expected a vector of finite numbers"),
        ):
            with self.assertRaisesRegex(ValueError, expected):
                fit(values, TRAINING)
        with self.assertRaisesRegex(ValueError, "column price: missing; there are stars"):
            fit({"price": PRICES}, TRAINING).transform({"stars": STARS})
        with self.assertRaisesRegex(ValueError, "method is 'log', expected min-max or z-score"):
            fit({"price": PRICES}, TRAINING, "log")


if __name__ == "__main__":
    unittest.main()
