"""What is told to the libraries before they are loaded."""

import unittest

from freshet_training import threads


class Prepare(unittest.TestCase):
    def environment(self, *line: str, **given: str) -> dict[str, str]:
        threads.prepare(["-m", *line], given)
        return given

    def test_threads_are_those_of_the_command_line_in_every_library(self) -> None:
        passive = {"OMP_WAIT_POLICY": "passive"}
        two = {**passive, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
        self.assertEqual(self.environment("train", "--threads", "2", "--data", "x"), two)
        self.assertEqual(self.environment("train", "--data", "x", "--threads=2"), two)
        for line in (["train"], ["train", "--threads", "0"], ["train", "--threads", "x"], ["train", "--threads"]):
            self.assertEqual(self.environment(*line), passive)

    def test_what_is_set_already_stays(self) -> None:
        given = {"OMP_WAIT_POLICY": "active", "OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "4"}
        self.assertEqual(self.environment("train", "--threads", "2", **given), given)


if __name__ == "__main__":
    unittest.main()
