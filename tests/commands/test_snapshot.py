"""freshet state snapshot, and freshet replay from what it wrote."""

import json
import random
import resource
import shutil

from support import (
    SEED,
    CommandTest,
    as_lines,
    main,
    random_log,
    read_output,
    write_model,
    zstd_compress,
    zstd_decompress,
)

ITEMS = 60
PARTITIONS = 4


class SnapshotTest(CommandTest):
    def setUp(self):
        super().setUp()
        write_model(self.path("model"), [f"i{n}" for n in range(1, ITEMS + 1)])
        self.log = random_log(random.Random(SEED), users=50, items=ITEMS, events=2000)
        self.first = self.write("1.jsonl", as_lines(self.log[:1200]))
        self.second = self.write("2.jsonl", as_lines(self.log[1200:]))

    def snapshot(self, output="backup", state="state", expect=0, limit=None, **more):
        bounded = {}
        if limit is not None:
            bounded["preexec_fn"] = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        words = ["state", "snapshot", "--output", self.path(output)]
        return self.run_program(*words, settings=self.settings(state, **more), expect=expect, **bounded)

    def start_from(self, *inputs, snapshot="backup", state="new", output="new.jsonl", expect=0, **more):
        words = ["replay", "--snapshot", self.path(snapshot), "--input", *inputs, "--output", self.path(output)]
        return self.run_program(*words, settings=self.settings(state, **more), expect=expect).stderr

    def content(self, directory="backup"):
        return {path.name: path.read_bytes() for path in sorted(self.path(directory).iterdir())}

    def test_it_goes_on_as_the_state_that_it_came_from(self):
        self.replay(self.first, self.second, output="expected.jsonl", state="expected")
        self.replay(self.first)
        done = json.loads(self.snapshot().stdout)
        names = [f"partition-0000{p}.snapshot.zst" for p in range(PARTITIONS)]
        self.assertEqual(list(self.content()), ["CONTENTS", "commits.json", *names])
        self.assertEqual([part["partition"] for part in done["partitions"]], [0, 1, 2, 3])
        users = {entry["user_id"] for entry in self.log[:1200]}
        self.assertEqual(sum(part["users"] for part in done["partitions"]), len(users))

        # Only the rest is named, and its index is that of a second file.
        said = self.start_from(self.second, processing__workers=2)
        self.assertIn("replayed 800 events: 800 recommendations, 0 dead letters, 0 repeats dropped", said)
        self.assertEqual(self.digest("new"), self.digest("expected"))
        answers = read_output(self.path("out.jsonl")) + read_output(self.path("new.jsonl"))
        self.assert_numbered(answers, self.log)
        self.assert_same_answers(answers, read_output(self.path("expected.jsonl")))
        self.assertIn("replayed 0 events", self.start_from(self.second))

        # With the output that it belongs to it goes on there.
        self.start_from(self.second, state="same", output="out.jsonl")
        self.assertEqual(len(read_output(self.path("out.jsonl"))), len(self.log))

    def test_a_snapshot_of_a_restored_state_is_the_same(self):
        self.replay(self.first)
        self.snapshot()
        self.start_from(self.first)
        self.snapshot("again", state="new")
        again, backup = self.content("again"), self.content()
        del again["commits.json"], backup["commits.json"]
        self.assertEqual(again, backup)

    def test_what_is_not_the_same_application_and_input(self):
        self.replay(self.first)
        self.snapshot()
        error = self.start_from(self.second, state="a", expect=2, application="another")
        self.assert_error(error, "partition-00000.snapshot.zst", "application freshet, log files", "another")
        error = self.start_from(self.second, state="b", expect=2, state__partitions=8)
        self.assert_error(error, "partition 0 of 4", "expected", "partition 0 of 8")
        self.assertIn("replayed 800", self.start_from(self.second, state="b"))  # bound to nothing by then
        self.replay(self.second, state="c")
        error = self.start_from(self.second, state="c", expect=3)
        self.assert_error(error, "does not begin with the inputs", self.first)
        error = self.start_from(self.second, snapshot="nowhere", state="d", expect=2)
        self.assert_error(error, "nowhere", "holds none of")

    def test_of_a_damaged_snapshot_nothing_is_restored(self):
        self.replay(self.first)
        self.snapshot()
        last = self.path("backup") / "partition-00003.snapshot.zst"
        whole = last.read_bytes()
        content = bytearray(zstd_decompress(whole))
        content[len(content) // 2] ^= 1
        other = self.content()["partition-00002.snapshot.zst"]
        for damaged, code, says in (
            (whole[: len(whole) // 2], 1, ["breaks off"]),
            (zstd_compress(bytes(content)), 1, ["record ", "at byte ", "of the content"]),
            (other, 2, ["partition 2 of 4", "partition 3 of 4"]),
        ):
            last.write_bytes(damaged)
            self.assert_error(self.start_from(self.second, expect=code), last, *says)
            self.assertFalse([path for path in self.path("new").iterdir() if path.name.startswith("partition-")])
        last.write_bytes(whole)
        self.assertIn("replayed 800 events", self.start_from(self.second))

    def test_what_is_not_a_whole_snapshot(self):
        self.replay(self.first)
        self.snapshot()
        for name, says in (("CONTENTS", "not a whole snapshot"), ("commits.json", "is missing, which CONTENTS names")):
            shutil.copytree(self.path("backup"), self.path("less"))
            (self.path("less") / name).unlink()
            error = self.start_from(self.first, self.second, snapshot="less", expect=1)
            self.assert_error(error, self.path("less"), name, says)
            shutil.rmtree(self.path("less"))
        self.assertIn("replayed 800 events", self.start_from(self.first, self.second))

    def test_state_that_is_gone_needs_its_inputs_again(self):
        self.replay(self.first, self.second, output="expected.jsonl", state="expected")
        self.replay(self.first)
        shutil.rmtree(self.path("state") / "partition-0")
        self.assert_error(self.replay(self.second, expect=3), self.first, "is not among the inputs")
        self.replay(self.first, self.second)
        self.assertEqual(self.digest(), self.digest("expected"))
        self.assert_numbered(read_output(self.path("out.jsonl")), self.log)

    def test_where_a_snapshot_cannot_be_written(self):
        self.replay(self.first)
        self.snapshot()
        before = self.content()
        self.assert_error(self.snapshot(expect=2).stderr, self.path("backup"), "expected a new or an empty directory")
        self.assertEqual(self.content(), before)
        self.assert_error(self.snapshot("full", limit=1000, expect=1).stderr, "full.incomplete", "File too large")
        error = self.snapshot("1.jsonl/backup", expect=1).stderr
        self.assert_error(error, "1.jsonl/backup.incomplete", "Not a directory")
        self.assert_error(self.snapshot("none", state="nowhere", expect=1).stderr, "nowhere", "no such file")
        self.assertFalse([path.name for path in self.directory.iterdir() if path.name.startswith(("full", "none"))])


if __name__ == "__main__":
    main()
