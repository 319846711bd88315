import math
import unittest

import torch

from freshet_training.time_bucket import THRESHOLDS, TIME_BUCKETS, time_bucket


class TimeBucket(unittest.TestCase):
    def test_known_values(self) -> None:
        expected = {0: 0, 1: 0, 2: 2, 3: 3, 60: 13, 3600: 27, 86400: 37, 315_360_000: 65, 2**63 - 1: 128, -(2**63): 128}
        found = time_bucket(torch.tensor(list(expected)))
        self.assertEqual(found.tolist(), list(expected.values()))
        self.assertEqual(time_bucket(-torch.tensor([60, 86400])).tolist(), [13, 37])

    def test_thresholds(self) -> None:
        self.assertEqual(len(THRESHOLDS), TIME_BUCKETS)
        self.assertEqual(THRESHOLDS[:4].tolist(), [0, 2, 2, 3])

    def test_equals_formula_around_every_bound_of_a_lifetime(self) -> None:
        for bound in THRESHOLDS[THRESHOLDS < 1_400_000_000].tolist():
            for delta in range(max(1, bound - 2), bound + 3):
                expected = math.floor(math.log(delta) / 0.301)
                self.assertEqual(time_bucket(torch.tensor(delta)).item(), expected, delta)


if __name__ == "__main__":
    unittest.main()
