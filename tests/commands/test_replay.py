"""freshet replay: what comes out of log files, whatever their form."""

import gzip
import json
import random
import re
import subprocess

from support import (
    SEED,
    START_MS,
    TYPES,
    CommandTest,
    as_float32,
    as_lines,
    event,
    main,
    random_log,
    read_output,
    write_model,
    zstd_compress,
)

ITEMS = 40


class ReplayTest(CommandTest):
    def setUp(self):
        super().setUp()
        self.numbers = random.Random(SEED)
        write_model(self.path("model"), [f"i{n}" for n in range(1, ITEMS + 1)])
        self.log = random_log(self.numbers, users=30, items=ITEMS, events=900)

    def test_every_event_is_answered_or_a_dead_letter(self):
        lines = as_lines(self.log).splitlines(keepends=True)
        for at in (0, 400, 902):
            lines.insert(at, b"{}\n")
        events = self.write("events.jsonl", b"".join(lines))
        summary = self.replay(events)
        records, letters = read_output(self.path("out.jsonl")), self.dead_letters()
        self.assertEqual(len(records) + len(letters), len(lines))
        self.assertEqual([letter["offset"] for letter in letters], [0, 400, 902])
        self.assert_numbered(records, self.log)
        self.assertIn("replayed 900 events: 900 recommendations, 3 dead letters, 0 repeats dropped", summary)
        self.assertEqual(summary.count("900 events"), 1, "the end is told once")
        self.assertIn("0 duplicates dropped", summary)

    def test_duplicates_are_dropped_and_not_answered_again(self):
        log, sent, answered, of_user = self.log, [], [], {}
        for number, entry in enumerate(log):
            if number % 5 == 0:  # some carry no id
                sent.append(entry)
                answered.append(entry)
                continue
            mine = of_user.setdefault(entry["user_id"], [])
            mine.append({**entry, "event_id": f"e{number}"})
            sent.append(mine[-1])
            answered.append(entry)
            if number % 3 == 0:
                sent.append(self.numbers.choice(mine[-64:]))
        duplicates = len(sent) - len(log)
        self.assertGreater(duplicates, 200)
        # An id that another user has, and one that the user has had 65 ids ago, are no duplicates.
        old = [event("old", "i1", START_MS + n, event_id=f"e{n % 65}") for n in range(66)]
        sent += old
        answered += old
        lines = as_lines(sent).splitlines(keepends=True)
        half = [self.write("1.jsonl", b"".join(lines[:500])), self.write("2.jsonl", b"".join(lines[500:]))]
        summary = self.replay(*half, processing__workers=2)
        self.assertIn(f"replayed {len(answered)} events: {len(answered)} recommendations, 0 dead letters, 0 repeats "
                      f"dropped, 0 without a known item, {duplicates} duplicates dropped", summary)  # fmt: skip
        records = read_output(self.path("out.jsonl"))
        self.assert_numbered(records, answered)

        # In two runs, and in small batches.
        first = self.replay(half[0], output="parts.jsonl", state="parts", processing__max_batch=3)
        second = self.replay(*half, output="parts.jsonl", state="parts", processing__max_batch=3)
        dropped = [int(re.search(r"(\d+) duplicates dropped", text).group(1)) for text in (first, second)]
        self.assertEqual(sum(dropped), duplicates)
        self.assertTrue(all(dropped))
        self.assert_same_answers(read_output(self.path("parts.jsonl")), records)
        self.assertEqual(self.digest("parts"), self.digest())

        # With the ids switched off they are events as any other.
        off = {"source__mapping__event_id": "{constant: ''}"}
        summary = self.replay(*half, output="off.jsonl", state="off", **off)
        self.assertIn("0 duplicates dropped", summary)
        self.assert_numbered(read_output(self.path("off.jsonl")), sent)

    def test_the_form_of_a_recommendation(self):
        events = self.write("events.jsonl", as_lines(self.log))
        self.replay(events, sink__include_user_vector="true")
        inspected = json.loads(self.run_program("model", "inspect", self.path("model"), "--json").stdout)
        seen = {}
        for line in self.path("out.jsonl").read_bytes().splitlines():
            record = json.loads(line)
            self.assertEqual(
                list(record), ["user_id", "generated_at", "sequence_number", "model", "source", "items", "user_vector"]
            )
            self.assertEqual(record["model"], {"name": "model", "version": inspected["version"]})
            source = record["source"]
            cause = self.log[source["offset"]]
            self.assertEqual(source, {
                "topic": "events.jsonl", "partition": 0, "offset": source["offset"], "event_time": cause["timestamp"]
            })  # fmt: skip
            self.assertEqual(record["user_id"], cause["user_id"])
            self.assertGreater(record["generated_at"], START_MS)
            history = seen.setdefault(cause["user_id"], [])
            history.append(cause["item_id"])
            # Kept history: what an exact rebuild of 2 layers with 8 events each needs.
            self.check_items(record["items"], set(history[-15:]))
            self.assertEqual(len(record["user_vector"]), 16)
            self.assertAlmostEqual(sum(value * value for value in record["user_vector"]), 1, delta=1e-5)
            for number in re.findall(rb'(?:"score":|[\[,])(-?[0-9.e+-]+)(?=[},\]])', line):
                self.check_float(number.decode())

    def check_items(self, items, seen):
        self.assertTrue(all(list(item) == ["item_id", "score"] for item in items))
        scores = [item["score"] for item in items]
        self.assertEqual(scores, sorted(scores, reverse=True))
        ids = {item["item_id"] for item in items}
        self.assertEqual(len(ids), 5)
        self.assertFalse(ids & seen, "seen items are left out")
        self.assertNotIn("[unknown]", ids)

    def check_float(self, text):
        """No text with fewer digits names the same 32-bit float as `text`."""
        digits = len(text.split("e")[0].lstrip("-").replace(".", "").strip("0"))
        single = as_float32(float(text))
        self.assertLessEqual(digits, 9, text)
        for fewer in range(1, digits):
            self.assertNotEqual(as_float32(float(f"{single:.{fewer}g}")), single, text)

    def test_seen_items_may_be_kept(self):
        events = self.write("events.jsonl", as_lines(self.log))
        self.replay(events, recommend__exclude_seen="false", recommend__top_k=1000)
        for record in read_output(self.path("out.jsonl")):
            self.assertEqual({item["item_id"] for item in record["items"]}, {f"i{n}" for n in range(1, ITEMS + 1)})

    def test_emit(self):
        events = self.write("events.jsonl", as_lines(self.log))
        newest, digests = {}, set()
        for emit in ("every", "latest", "final", "none"):
            output, state = f"{emit}.jsonl", f"state-{emit}"
            self.replay(events, output=output, emit=emit, state=state)
            digests.add(self.digest(state))
            if emit == "none":
                self.assertFalse(self.path(output).exists())
                continue
            records = read_output(self.path(output))
            newest[emit] = {record["user_id"]: record for record in records}
            self.assertEqual(len(records), {"every": 900, "final": 30}.get(emit, len(records)))
            if emit == "latest":
                self.assertLess(len(records), 900)
                self.assertGreater(len(records), 30)
        self.assertEqual(len(digests), 1, "what is emitted never changes the state")
        for emit in ("latest", "final"):
            self.assert_same_answers(list(newest["every"].values()), list(newest[emit].values()))

    def test_final_once(self):
        events = self.write("events.jsonl", as_lines(self.log))
        for workers in (1, 1, 2):
            self.replay(events, emit="final", processing__workers=workers)
            self.assertEqual(len(read_output(self.path("out.jsonl"))), 30)

    def test_compressed_outputs_hold_the_same(self):
        events = self.write("events.jsonl", as_lines(self.log))
        answers = {}
        for suffix in ("", ".gz", ".zst"):
            output = "out.jsonl" + suffix
            self.replay(events, output=output, state="state" + suffix, processing__commit_interval="1ms")
            answers[suffix] = read_output(self.path(output))
        self.assert_same_answers(answers[""], answers[".gz"])
        self.assert_same_answers(answers[""], answers[".zst"])

    def test_standard_output_is_the_default(self):
        events = self.write("events.jsonl", as_lines(self.log))
        for output in ([], ["--output", "-"]):
            settings = self.settings(f"state{len(output)}")
            done = self.run_program("replay", "--input", events, *output, settings=settings)
            self.assert_numbered([json.loads(line) for line in done.stdout.splitlines()], self.log)
            self.assertTrue((settings["state.directory"] / "dead-letters.jsonl").exists())

    def test_several_files_are_one_log(self):
        parts = [self.log[:300], self.log[300:301], self.log[301:]]
        names = [
            self.write("a.jsonl", as_lines(parts[0])),
            self.write("no-telling-name", gzip.compress(as_lines(parts[1][:1])) + gzip.compress(b"")),
            self.write(
                "c.jsonl.zst", zstd_compress(as_lines(parts[2][:100])) + zstd_compress(as_lines(parts[2][100:]))
            ),
        ]
        self.replay(*names)
        records = read_output(self.path("out.jsonl"))
        self.assert_numbered(records, self.log)
        topics = [path.name for path in names]
        for record in records:
            source = record["source"]
            cause = parts[topics.index(source["topic"])][source["offset"]]
            self.assertEqual((record["user_id"], source["event_time"]), (cause["user_id"], cause["timestamp"]))
        self.replay(self.write("whole.jsonl", as_lines(self.log)), output="whole", state="state-2")
        self.assertEqual(self.digest(), self.digest("state-2"), "states do not depend on how the log is cut into files")

    def test_later_files_go_on_where_the_log_ended(self):
        first, second = self.write("1.jsonl", as_lines(self.log[:500])), self.write("2.jsonl", as_lines(self.log[500:]))
        self.replay(first)
        self.replay(second)
        self.replay(first, second)
        self.assert_numbered(read_output(self.path("out.jsonl")), self.log)

    def columns(self, delimiter, time):
        header = ["user_id", "session_id", "click_article_id", "click_timestamp", "kind"]
        rows = [
            [entry["user_id"], "s1", entry["item_id"], str(time(entry["timestamp"])), entry["event_type"]]
            for entry in self.log
        ]
        return "".join(delimiter.join(row) + "\n" for row in [header, *rows])

    def assert_as_json(self, *inputs, **settings):
        """The same state and answers as the same log in the default form."""
        self.replay(self.write("events.jsonl", as_lines(self.log)), output="expected.jsonl", state="expected")
        self.replay(*inputs, **settings)
        self.assertEqual(self.digest(), self.digest("expected"))
        records, expected = read_output(self.path("out.jsonl")), read_output(self.path("expected.jsonl"))
        for record in records + expected:
            record["source"]["topic"] = ""
        self.assert_same_answers(records, expected)

    MAPPING = {
        "source__mapping__user_id": "user_id", "source__mapping__item_id": "click_article_id",
        "source__mapping__event_id": "{constant: ''}",
    }  # fmt: skip

    def test_csv_with_its_own_columns(self):
        for entry in self.log:
            entry["event_type"] = "cart"
        events = self.write("clicks.csv.gz", gzip.compress(self.columns(",", lambda ms: ms).encode()))
        self.assert_as_json(
            events, **self.MAPPING, source__format="csv", source__mapping__event_type="{constant: cart}",
            source__mapping__timestamp="{path: click_timestamp, unit: ms}",
        )  # fmt: skip

    def test_tsv_with_values_of_its_own_and_seconds(self):
        table = dict(zip(TYPES, ("pv", "add", "buy")))
        for entry in self.log:
            entry["timestamp"] -= entry["timestamp"] % 1000
            entry["event_type"] = table[entry["event_type"]]
        events = self.write("clicks.tsv", self.columns("\t", lambda ms: ms // 1000).replace("\n", "\r\n"))
        for entry in self.log:
            entry["event_type"] = {kind: name for name, kind in table.items()}[entry["event_type"]]
        self.assert_as_json(
            events, **self.MAPPING, source__format="tsv",
            source__mapping__event_type="{path: kind, map: {pv: view, add: cart, buy: purchase}}",
            source__mapping__timestamp="{path: click_timestamp, unit: s}",
        )  # fmt: skip

    def test_json_with_its_own_pointers(self):
        def reshape(entry):
            visitor = {"visitor": {"id": entry["user_id"]}, "content": [{"article_id": entry["item_id"]}]}
            return {**visitor, "a/b": entry["event_type"], "ts": entry["timestamp"] * 1000}

        self.assert_as_json(
            self.write("clicks.jsonl", as_lines(map(reshape, self.log))), source__mapping__user_id="/visitor/id",
            source__mapping__item_id="/content/0/article_id", source__mapping__event_type="/a~1b",
            source__mapping__timestamp="{path: ts, unit: us}",
        )  # fmt: skip

    def test_configuration_from_a_file_and_the_environment(self):
        events = self.write("events.jsonl", as_lines(self.log))
        self.write("freshet.yaml", "recommend: {top_k: 3}\nmodel: {directory: model}\nstate: {directory: elsewhere}\n")
        self.environment["FRESHET_STATE__DIRECTORY"] = "here"
        self.run_program("replay", "-c", "freshet.yaml", "--input", events, "--output", "out.jsonl")
        self.assertTrue(all(len(record["items"]) == 3 for record in read_output(self.path("out.jsonl"))))
        self.assertTrue(self.path("here").is_dir())
        self.assertFalse(self.path("elsewhere").exists())

    def test_results_on_stdout_all_else_on_stderr(self):
        events = self.write("events.jsonl", as_lines([event("u1", "i1")]) + b"broken\n")
        done = self.run_program("replay", "--input", events, settings=self.settings(log__format="json"))
        self.assertEqual(len(done.stdout.splitlines()), 1)
        for line in done.stderr.splitlines():
            self.assertEqual(list(json.loads(line)), ["time", "level", "message"])

    def test_an_input_is_never_an_output(self):
        events = self.write("events.jsonl", as_lines(self.log))
        (self.directory / "folder").mkdir()
        self.path("link.jsonl").symlink_to(events)
        for output in (events, self.path("folder/../events.jsonl"), self.path("link.jsonl")):
            done = self.run_program("replay", "--input", events, "--output", output, settings=self.settings(), expect=2)
            self.assert_error(done.stderr, "--output", "input")
        self.assertEqual(events.read_bytes(), as_lines(self.log))
        letters = self.write("out.jsonl.dead-letters.jsonl", as_lines(self.log))
        error = self.replay(letters, expect=2)
        self.assert_error(error, letters)
        self.assertEqual(letters.read_bytes(), as_lines(self.log))

    def test_a_reader_that_goes_away(self):
        events = self.write("events.jsonl", as_lines(self.log * 5))
        command = self.command(["replay", "--input", events], self.settings())
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment) as process:
            process.stdout.readline()
            process.stdout.close()
            error = process.stderr.read().decode()
        self.assertEqual(process.returncode, 1, error)
        self.assert_error(error, "standard output", "Broken pipe")


if __name__ == "__main__":
    main()
