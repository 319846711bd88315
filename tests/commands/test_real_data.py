"""All of two real logs through replay: a record for every event, nothing lost, no gaps.

The data is not part of the project: $FRESHET_TEST_DATA, or ../shared/data beside it. Where it is absent, this says so
and skips (exit code 77).
"""

import collections
import csv
import gzip
import os
import pathlib
import re
import subprocess
import sys
import time

from support import CommandTest, main, parse_lines, write_model

PROJECT = pathlib.Path(__file__).resolve().parents[2]
DATA = pathlib.Path(os.environ.get("FRESHET_TEST_DATA", PROJECT.parent / "shared/data"))
ML_1M = DATA / "ml-1m/events.csv.gz"
GLOBO = DATA / "globo-news-clicks/clicks-2017-10-01-to-12.csv.gz"
HEAD = re.compile(
    rb'\{"user_id":"([^"]+)","generated_at":\d+,"sequence_number":(\d+),"model":\{"name":"model","version":"[0-9a-f]{16}"\},'
    rb'"source":\{"topic":"[^"]+","partition":(\d+),"offset":(\d+),"event_time":(\d+)\},"items":\[\{"item_id":"'
)


class LogTest(CommandTest):
    """Holds answers against the log that they answer."""

    top_k = 10

    def read(self, path, user, item):
        """Events by user, and the items, of a log."""
        events, items = collections.Counter(), {}
        with gzip.open(path, "rt", newline="") as file:
            rows = csv.reader(file)
            names = next(rows)
            user_at, item_at = names.index(user), names.index(item)
            for row in rows:
                events[row[user_at]] += 1
                items[row[item_at]] = True
        return events, list(items)

    def check(self, lines, events):
        """Each of `lines` is a whole record; every user's are numbered from 1 to the number of his events, and the
        records that they answer are all there are in each partition."""
        counts, offsets = collections.Counter(), collections.defaultdict(set)
        for number, line in enumerate(lines):
            head = HEAD.match(line)
            self.assertIsNotNone(head, line[:300])
            user = head[1].decode()
            counts[user] += 1
            self.assertEqual(int(head[2]), counts[user], f"user {user}")
            offsets[int(head[3])].add(int(head[4]))
            if number % 997 == 0:
                (record,) = parse_lines(line)
                self.assertEqual(len(record["items"]), self.top_k)
        self.assertEqual(counts, events)
        for partition, found in offsets.items():
            self.assertEqual(found, set(range(len(found))), f"partition {partition}")
        self.assertEqual(sum(map(len, offsets.values())), events.total())

    def report(self, began, error):
        print(f"{time.monotonic() - began:.0f} s in all;", error.strip().splitlines()[-1], flush=True)


class RealDataTest(LogTest):
    def settings_of(self, user, item, time_column, unit):
        write_model(self.path("model"), self.items, types=["view"], dim=32, layers=2, heads=2, window=20)
        return self.settings(
            source__format="csv", source__mapping__user_id=user, source__mapping__item_id=item,
            source__mapping__event_type="{constant: view}", source__mapping__event_id="{constant: ''}",
            source__mapping__timestamp=f"{{path: {time_column}, unit: {unit}}}", recommend__top_k=self.top_k,
            processing__workers="auto",
        )  # fmt: skip

    def test_ml_1m_to_a_file(self):
        began = time.monotonic()
        events, self.items = self.read(ML_1M, "user", "item")
        self.assertEqual((events.total(), len(events), len(self.items)), (999_611, 6_040, 3_416))
        settings = self.settings_of("user", "item", "timestamp", "s")
        done = self.run_program("replay", "--input", ML_1M, "--output", self.path("out.jsonl"), settings=settings)
        with open(self.path("out.jsonl"), "rb") as lines:
            self.check(lines, events)
        self.assertEqual(self.path("out.jsonl.dead-letters.jsonl").read_bytes(), b"")
        self.assertIn("999611 recommendations, 0 dead letters, 0 repeats dropped, 0 without a known item", done.stderr)
        self.report(began, done.stderr)

    def test_globo_to_standard_output(self):
        began = time.monotonic()
        events, self.items = self.read(GLOBO, "user_id", "click_article_id")
        self.assertEqual(events.total(), 2_409_924)
        settings = self.settings_of("user_id", "click_article_id", "click_timestamp", "ms")
        with open(self.path("stderr"), "wb") as error:
            command = self.command(["replay", "--input", GLOBO], settings)
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=error, env=self.environment) as process:
                self.check(process.stdout, events)
        text = self.path("stderr").read_text()
        self.assertEqual(process.returncode, 0, text)
        self.assertEqual(self.path("state/dead-letters.jsonl").read_bytes(), b"")
        self.assertIn("2409924 recommendations, 0 dead letters, 0 repeats dropped, 0 without a known item", text)
        self.report(began, text)


def main_with(*logs):
    """The tests, or why there are none."""
    missing = [str(path) for path in logs if not path.is_file()]
    if missing:
        print(f"skipped: {', '.join(missing)} not there; FRESHET_TEST_DATA names the folder of the data", flush=True)
        sys.exit(1 if os.environ.get("FRESHET_TEST_DATA") else 77)  # what was promised must be there
    main()


if __name__ == "__main__":
    main_with(ML_1M, GLOBO)
