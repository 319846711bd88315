"""Cleaning: each step alone against a loop, and the command on a small export that has all that can be wrong."""

import json
import tempfile
import unittest
from collections import Counter
from pathlib import Path

import numpy as np

from freshet_training import exports, sequences
from freshet_training.exports import Names
from freshet_training.prepare import Log, PrepareOptions, backwards, faster, rare, repeats
from freshet_training.sequences import History
from tests.command_line import run

Row = tuple[int, int, int, int]  # user, item, type, time


def log_of(*rows: Row) -> Log:
    users, items, types, times = (np.array(column, np.int64) for column in zip(*rows))
    return Log(users, History(items.astype(np.int32), types.astype(np.int32), times))


def random_rows(seed: int) -> list[Row]:
    """Few values, so that everything repeats."""
    random = np.random.default_rng(seed)
    users = np.sort(random.integers(0, 6, 150)).tolist()
    return [(user, *map(int, random.integers(0, (6, 2, 60)))) for user in users]


class Steps(unittest.TestCase):
    def test_repeats(self) -> None:
        for seed in range(20):
            rows = random_rows(seed)
            seen: set[Row] = set()
            expected = []
            for row in rows:
                expected.append(row in seen and row[1] > 0)
                seen.add(row)
            self.assertEqual(repeats(log_of(*rows)).tolist(), expected)

    def test_backwards(self) -> None:
        for seed in range(20):
            rows, newest = random_rows(seed), Counter[int]()
            expected = []
            for user, _, _, time in rows:
                newest[user] = max(newest[user], time)
                expected.append(newest[user] - time > 20)
            log = log_of(*rows)
            before = log.events.times.copy()
            self.assertEqual(backwards(log, 20).tolist(), expected)
            self.assertEqual(log.events.times.tolist(), before.tolist())

    def test_faster(self) -> None:
        for seed in range(20):
            rows = random_rows(seed)
            for most, seconds in ((3, 5), (6, 10), (1, 1), (200, 1000)):
                robots = set()
                for user, _, _, begin in rows:
                    if sum(u == user and begin <= time < begin + seconds for u, _, _, time in rows) > most:
                        robots.add(user)
                found = faster(log_of(*rows), most, seconds)
                self.assertEqual(found.tolist(), [row[0] in robots for row in rows])

    def test_rare_goes_on_until_all_is_frequent(self) -> None:
        # Item 3 is rare; without it user 1 is; without that one item 2 is, and then user 0.
        chain = [(0, 1, 1, 0), (0, 2, 1, 1), (1, 2, 1, 2), (1, 3, 1, 3), (2, 1, 1, 4), (2, 1, 1, 5)]
        self.assertEqual(rare(log_of(*chain), 2, 2).tolist(), [True, True, True, True, False, False])
        for seed in range(20):
            rows = random_rows(seed)
            left = [row for row, drop in zip(rows, rare(log_of(*rows), 22, 18).tolist()) if not drop]
            kept = list(rows)
            while True:
                users, items = Counter(row[0] for row in kept), Counter(row[1] for row in kept)
                smaller = [row for row in kept if users[row[0]] >= 22 and (items[row[1]] >= 18 or row[1] == 0)]
                if smaller == kept:
                    break
                kept = smaller
            self.assertEqual(left, kept)


ALL: dict[str, list[tuple[str, str, int]]] = {
    "ann": [("a", "view", 100), ("a", "view", 100), ("a", "buy", 100), ("b", "view", 200), ("c", "view", 150)],
    "robot": [("a", "view", 300 + at // 4) for at in range(12)] + [("rare", "view", 900)],
    "bob": [("b", "view", 5), ("b", "view", 500), ("a", "view", 90_000), ("a", "view", 600), ("rare", "view", 700)],
    "carl": [("a", "view", 1), ("b", "view", 99_999)],
}


class Command(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.data, self.output = Path(directory.name) / "export", Path(directory.name) / "clean"
        self.report = Path(directory.name) / "report.json"
        names = Names(["[unknown]", "a", "b", "c", "rare"], ["[unknown]", "view", "buy"], list(ALL))
        events = [event for history in ALL.values() for event in history]
        columns = zip(*((names.items.index(i), names.types.index(t), time) for i, t, time in events))
        offsets = np.cumsum([0, *map(len, ALL.values())])
        exports.write(self.data, offsets, History(*(np.array(column) for column in columns)), names)

    def prepare(self, *arguments: str) -> tuple[int, str]:
        line = ["--data", str(self.data), "--output", str(self.output), "--report", str(self.report), *arguments]
        code, _, errors = run("prepare", *line)
        return code, errors

    def written(self) -> dict[str, list[tuple[str, str, int]]]:
        data = sequences.load(self.output)
        names, found = exports.names(data), {}
        for user, name in enumerate(names.users):
            history = data.history(user)
            rows = zip(history.items.tolist(), history.types.tolist(), history.times.tolist())
            found[name] = [(names.items[item], names.types[kind], time) for item, kind, time in rows]
        return found

    def test_repeats_go_and_the_rest_stays_byte_for_byte(self) -> None:
        code, errors = self.prepare()
        self.assertEqual(code, 0, errors)
        self.assertEqual(self.written(), {name: list(dict.fromkeys(history)) for name, history in ALL.items()})
        self.assertRegex(errors, r"repeats +-10 +0 +0\n    user ann: view a at 1970-01-01T00:01:40Z\n")
        code, _ = self.prepare("--keep-repeats")
        self.assertEqual(code, 0)
        for name in ("sequences.safetensors", "items.tsv", "event_types.tsv", "users.tsv"):
            self.assertEqual((self.output / name).read_bytes(), (self.data / name).read_bytes())

    def test_every_step_counts_what_it_drops(self) -> None:
        flags = ["--not-before", "1970-01-01T00:00:50Z", "--not-after", "80000", "--backwards", "40", "--max-rate"]
        code, errors = self.prepare(*flags, "3/5", "--min-user-events", "2", "--min-item-events", "2")
        self.assertEqual(code, 0, errors)
        ann = [("a", "view", 100), ("a", "buy", 100), ("b", "view", 200)]
        self.assertEqual(self.written(), {"ann": ann, "bob": [("b", "view", 500), ("a", "view", 600)]})
        steps = json.loads(self.report.read_text("utf-8"))["steps"]
        self.assertEqual(
            [(step["name"], step["events"], step["users"], step["items"]) for step in steps],
            [
                ("read", 25, 4, 4),
                ("before 1970-01-01T00:00:50Z", -2, 0, 0),
                ("after 1970-01-01T22:13:20Z", -2, -1, 0),
                ("backwards by more than 40 s", -1, 0, -1),
                ("more than 3 events in 5 s", -13, -1, 0),
                ("repeats", -1, 0, 0),
                ("users of fewer than 2, items of fewer than 2", -1, 0, -1),
                ("written", 5, 2, 2),
            ],
        )
        self.assertEqual(steps[3]["examples"], ["user ann: view c at 1970-01-01T00:02:30Z"])
        self.assertEqual(len(steps[4]["examples"]), 5)

    def test_rows_are_renumbered_only_where_support_removes_items(self) -> None:
        for flags, names in ((["--min-user-events", "4"], "abc rare"), (["--min-item-events", "2"], "ab rare")):
            code, errors = self.prepare(*flags)
            self.assertEqual(code, 0, errors)
            self.assertEqual(exports.names(sequences.load(self.output)).items[1:], [*names.split()[0], "rare"])

    def test_share(self) -> None:
        code, _ = self.prepare("--max-share", "0.5")  # 13 of 25
        self.assertEqual(code, 0)
        self.assertNotIn("robot", self.written())

    def test_a_prepared_export_trains(self) -> None:
        self.prepare()
        line = ["--data", str(self.output), "--output", str(self.output / "model"), "--epochs", "1", "--threads", "1"]
        code, _, errors = run("train", *line, "--dim", "8", "--layers", "1")
        self.assertEqual(code, 0, errors)

    def test_an_export_without_users_calls_them_by_their_row(self) -> None:
        (self.data / "users.tsv").unlink()
        code, _ = self.prepare("--max-share", "0.5")
        self.assertEqual((code, list(self.written())), (0, ["0", "2", "3"]))
        (self.data / "users.tsv").write_text("0\tann\n", "utf-8")
        self.assertRegex(self.prepare()[1], "users.tsv: 1 users, expected 4 as in sequences.safetensors")

    def test_options_out_of_range(self) -> None:
        for options, expected in (
            ({"rate": (0, 5)}, "expected 1 or more of each"),
            ({"share": 2}, "a share of 2 of all events: expected above 0"),
            ({"backwards_s": -1}, "backwards by -1 s: expected 0 or more"),
        ):
            with self.assertRaisesRegex(ValueError, expected):
                PrepareOptions(**options)

    def test_refusals(self) -> None:
        for flags, status, expected in (
            (["--not-after", "soon"], 2, "--not-after: soon: expected a time such as"),
            (["--max-rate", "many"], 2, "--max-rate: many: expected N/S, such as 100/60"),
            (["--max-rate", "0/5"], 2, "both whole numbers from 1 to"),
            (["--max-share", "2"], 2, "--max-share: 2: expected a number above 0 to 1"),
            (["--backwards", "-1"], 2, "--backwards: -1: expected a whole number from 0 to"),
            (["--min-user-events", "100"], 1, "no event is left; nothing was written to"),
        ):
            code, errors = self.prepare(*flags)
            self.assertEqual(code, status)
            self.assertIn(expected, errors)
            self.assertFalse(self.output.exists())
        self.assertEqual(json.loads(self.report.read_text("utf-8"))["steps"][-1]["events"], 0)
        code, errors = self.prepare("--output", str(self.data))
        self.assertEqual(code, 2)
        self.assertIn(f"--data {self.data} is read from there, expected another path", errors)


if __name__ == "__main__":
    unittest.main()
