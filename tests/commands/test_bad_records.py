"""Records that are no events: each becomes a dead letter that says why, and the events around it are answered."""

import base64
import gzip
import json

from support import START_MS, CommandTest, as_lines, event, main, read_output, write_model, zstd_compress

ITEMS = [f"i{n}" for n in range(1, 21)]
MIB = 1 << 20


def line(**fields):
    return json.dumps({"user_id": "bad", "item_id": "i1", "timestamp": START_MS, **fields}).encode()


def without(field):
    record = json.loads(line())
    del record[field]
    return json.dumps(record).encode()


# record, freshet.error, what the message says
BAD = [
    (b"{", "invalid_json", "found 1 bytes, \"{\", expected one whole JSON object"),
    (b"click", "invalid_json", "found 5 bytes, \"click\", expected"),
    (line() + b"}", "invalid_json", ""),
    (line()[:-1], "invalid_json", ""),
    (b'{"user_id":"bad" "item_id":"i1"}', "invalid_json", ""),
    (b"\x00" * 100, "invalid_json", ""),
    (b"[" * 100_000, "invalid_json", "at most 128 levels deep"),
    (line(properties={"deep": 1}).replace(b"1}", b"[" * 200 + b"]" * 200 + b"}"), "invalid_json", "128 levels deep"),
    (b"[]", "not_an_object", "found an array, expected a JSON object"),
    (b"null", "not_an_object", "found null"),
    (b"42", "not_an_object", "found a number"),
    (b'"x"', "not_an_object", "found a string"),
    (b"{}", "missing_user_id", "user_id (/user_id): absent or null"),
    (without("user_id"), "missing_user_id", "absent or null"),
    (without("item_id"), "missing_item_id", "item_id (/item_id): absent or null"),
    (without("timestamp"), "missing_timestamp", "timestamp (/timestamp): absent, null or empty"),
    (line(user_id=None), "missing_user_id", "absent or null"),
    (line(item_id=None), "missing_item_id", "absent or null"),
    (line(timestamp=None), "missing_timestamp", "absent, null or empty"),
    (line(user_id=""), "empty_user_id", "user_id (/user_id): empty"),
    (line(item_id=""), "empty_item_id", "item_id (/item_id): empty"),
    (line(user_id="a" * 1025), "user_id_too_long", "1025 bytes, at most 1024 are accepted; found \"aaa"),
    (line(item_id="é" * 513), "item_id_too_long", "1026 bytes, at most 1024"),
    (line(event_type="t" * 2000), "event_type_too_long", "2000 bytes"),
    (line(event_id="e" * 2000), "event_id_too_long", "2000 bytes"),
    (line(user_id={"id": 1}), "invalid_user_id", "found an object, expected a string or a number"),
    (line(item_id=["i1"]), "invalid_item_id", "found an array, expected a string or a number"),
    (line(item_id=True), "invalid_item_id", "found a boolean, expected a string or a number"),
    (line(event_type=[]), "invalid_event_type", "found an array"),
    (line(user_id="a\0b"), "invalid_user_id", "a NUL byte in \"a\\u0000b\""),
    (line(item_id="\0"), "invalid_item_id", "a NUL byte"),
    (line(user_id="BAD").replace(b"BAD", b"\xff\xfe"), "invalid_utf8", "not UTF-8"),
    (line(user_id="BAD").replace(b"BAD", b"\xed\xa0\x80"), "invalid_utf8", "not UTF-8"),
    (line(properties="BAD").replace(b"BAD", b"\xc3("), "invalid_utf8", "not UTF-8"),
    (line(timestamp=-1), "timestamp_out_of_range", "found \"-1\", which is before 1970"),
    (line(timestamp=4102444800000), "timestamp_out_of_range", "which is after 2100"),
    (line(timestamp=START_MS * 1000), "timestamp_out_of_range", "set source.mapping.timestamp.unit to us"),
    (line(timestamp=10**20), "timestamp_out_of_range", "which is after 2100"),
    (line(timestamp=0).replace(b": 0", b": 1e30"), "timestamp_out_of_range", "which is after 2100"),
    (line(timestamp=0).replace(b": 0", b": 1e400"), "invalid_json", "number"),
    (line(timestamp=START_MS // 1000), "timestamp_looks_like_seconds", "set source.mapping.timestamp.unit to s"),
    (line(timestamp="soon"), "invalid_timestamp", "found \"soon\", expected milliseconds since 1970"),
    (line(timestamp="2017-10-01T03:00:00Z"), "invalid_timestamp", "expected milliseconds since 1970"),
    (line(timestamp=True), "invalid_timestamp", "found a boolean, expected milliseconds"),
    (line(timestamp=[START_MS]), "invalid_timestamp", "found an array"),
    (line(timestamp="") , "missing_timestamp", "absent, null or empty"),
    (b"x" * (10 * MIB), "record_too_large", "has 10485760 bytes, at most 1048576 are accepted (source.max_record)"),
    (line(properties="x" * MIB), "record_too_large", "(source.max_record)"),
]  # fmt: skip


class BadRecordsTest(CommandTest):
    def setUp(self):
        super().setUp()
        write_model(self.path("model"), ITEMS)

    def good(self, count, user="u"):
        return [event(f"{user}{n % 3}", ITEMS[n % 20], START_MS + n) for n in range(count)]

    def check_letter(self, letter, original, topic, offset, code, message):
        self.assertEqual(letter["error"], code, original[:80])
        self.assertIn(message, letter["message"])
        self.assertEqual((letter["topic"], letter["partition"], letter["offset"]), (topic, 0, offset))
        self.assertEqual(letter["key"], "")
        value = base64.b64decode(letter["value_base64"]) if "value_base64" in letter else letter["value"].encode()
        self.assertEqual(value, original)

    def test_each_kind_between_good_events(self):
        log = self.good(len(BAD) + 1)
        lines = [as_lines([log[0]])]
        for entry, (bad, _, _) in zip(log[1:], BAD):
            lines += [bad + b"\n", as_lines([entry])]
        summary = self.replay(self.write("events.jsonl", b"".join(lines)[:-1]))  # the last line has no end
        self.assert_numbered(read_output(self.path("out.jsonl")), log)
        letters = self.dead_letters()
        self.assertEqual(len(letters), len(BAD))
        for number, (letter, (bad, code, message)) in enumerate(zip(letters, BAD)):
            self.check_letter(letter, bad, "events.jsonl", 2 * number + 1, code, message)
        self.assertIn(f"{len(log)} recommendations, {len(BAD)} dead letters", summary)

    def test_a_line_beyond_what_is_kept(self):
        lines = as_lines(self.good(2)).splitlines()
        huge = b"y" * (17 * MIB)
        self.replay(self.write("events.jsonl", b"\n".join([lines[0], huge, lines[1], huge])))
        self.assertEqual(len(read_output(self.path("out.jsonl"))), 2)
        for letter, offset in zip(self.dead_letters(), (1, 3)):
            self.assertEqual(letter["truncated_bytes"], len(huge))
            self.check_letter(letter, huge[: 16 * MIB], "events.jsonl", offset, "record_too_large", str(len(huge)))

    def test_what_is_no_mistake(self):
        """Numbers as ids keep their digits; empty lines, a byte order mark and CR LF are no records."""
        lines = [
            b'\xef\xbb\xbf{"user_id":42,"item_id":1,"timestamp":1506826800000}\r\n', b"\n", b"\r\n",
            b'{"user_id":1.0,"item_id":"i1","timestamp":"1506826800001"}\n',
            b'{"user_id":123456789012345678901234567890,"item_id":-7,"timestamp":1506826800002.9}\n',
            '{"user_id":"Жанна \\"\\n\\u0001","item_id":"i1","timestamp":0,"event_type":null}\n'.encode(),
            b'{"user_id":"' + b"u" * 1024 + b'","item_id":"' + b"i" * 1024 + b'","timestamp":4102444799999}',
        ]  # fmt: skip
        self.replay(self.write("events.jsonl", b"".join(lines)))
        self.assertEqual(self.dead_letters(), [])
        records = read_output(self.path("out.jsonl"))
        self.assertEqual(
            [record["user_id"] for record in records],
            ["42", "1.0", "123456789012345678901234567890", 'Жанна "\n\x01', "u" * 1024],
        )
        self.assertEqual([record["source"]["offset"] for record in records], list(range(5)))
        self.assertEqual([record["source"]["event_time"] - START_MS for record in records[:3]], [0, 1, 2])
        got = json.loads(self.run_program("state", "get", records[3]["user_id"], settings=self.settings()).stdout)
        self.assertEqual(got["user_id"], records[3]["user_id"])

    def test_unknown_items_and_types_are_answered(self):
        """They are row 0: which of them it is makes no difference to the answer, and neither does a later model's."""
        log = []
        for user, item, kind in (
            ("a", "new1", "view"),
            ("b", "new2", "view"),
            ("c", "i2", "zoom"),
            ("d", "i2", "poke"),
        ):
            log += [event(user, "i1"), {**event(user, item, START_MS + 5000), "event_type": kind},
                    event(user, "i3", START_MS + 9000)]  # fmt: skip
        summary = self.replay(self.write("events.jsonl", as_lines(log)))
        self.assertIn("12 recommendations, 0 dead letters, 0 repeats dropped, 2 without a known item", summary)
        records = {(r["user_id"], r["sequence_number"]): r["items"] for r in read_output(self.path("out.jsonl"))}
        for ours, theirs in (("a", "b"), ("c", "d")):
            for number in (1, 2, 3):
                self.assert_same_items(records[ours, number], records[theirs, number], (ours, number))
        self.assertNotEqual(records["a", 2], records["c", 2])
        known = json.loads(self.run_program("state", "get", "a", settings=self.settings()).stdout)["tokens"]
        self.assertEqual([token["item_id"] for token in known], ["i1", "[unknown]", "i3"])

    def test_repeats_and_disorder_in_time(self):
        log = [event("u", "i1", START_MS + delta) for delta in (0, 0, 0, 500, -86_400_000, 10**11, 1)]
        self.replay(self.write("events.jsonl", as_lines(log)))
        self.assert_numbered(read_output(self.path("out.jsonl")), log)
        user = json.loads(self.run_program("state", "get", "u", settings=self.settings()).stdout)
        self.assertEqual([token["timestamp"] for token in user["tokens"]], [entry["timestamp"] for entry in log])

    def broken(self, data):
        return data[: len(data) * 2 // 3]

    def test_compressed_input_that_breaks_off(self):
        later = self.write("later.jsonl", as_lines(self.good(20, "later")))
        log = self.good(3000)
        for number, compress in enumerate((gzip.compress, zstd_compress)):
            cut = self.write(f"cut{number}", self.broken(compress(as_lines(log))))
            output = f"out{number}.jsonl"
            self.replay(cut, later, output=output, state=output + ".state")
            records = read_output(self.path(output))
            first = [record for record in records if record["source"]["topic"] == cut.name]
            self.assertGreaterEqual(len(first), 1 if number == 0 else 0)
            self.assert_numbered(first, log[: len(first)])
            self.assertEqual(len(records), len(first) + 20)
            (letter,) = self.dead_letters(output)
            self.assertEqual((letter["error"], letter["topic"]), ("truncated_input", cut.name))
            self.assertEqual(letter["offset"], len(first))
            self.assertIn(f"{cut}: byte {cut.stat().st_size}: the compressed data breaks off", letter["message"])

    def test_compressed_input_that_is_damaged(self):
        good = gzip.compress(as_lines(self.good(3000)))
        half = len(good) // 2
        damaged = self.write("damaged.gz", good[:half] + bytes(64) + good[half + 64 :])
        self.replay(damaged, self.write("later.jsonl", as_lines(self.good(20, "later"))))
        letters = self.dead_letters()
        self.assertEqual([letter["error"] for letter in letters if letter["error"] == "truncated_input"],
                         ["truncated_input"])  # fmt: skip
        self.assertIn(str(damaged), letters[-1]["message"])
        self.assertGreaterEqual(len(read_output(self.path("out.jsonl"))), 20)

    def test_not_gzip_by_name_only(self):
        self.replay(self.write("plain.jsonl.gz", as_lines(self.good(5))))
        self.assertEqual(len(read_output(self.path("out.jsonl"))), 5)

    def test_empty_files(self):
        empties = [self.write("empty.jsonl", ""), self.write("ends.jsonl", "\n\r\n\n"),
                   self.write("empty.gz", gzip.compress(b""))]  # fmt: skip
        self.replay(*empties)
        self.assertEqual(self.path("out.jsonl").read_bytes(), b"")
        self.assertEqual(self.dead_letters(), [])
        csv = {"source__format": "csv", "source__mapping__timestamp": "{path: timestamp}"}
        self.replay(empties[0], self.write("h.csv", "user_id,item_id,timestamp\n"), output="2.jsonl", state="2", **csv)
        self.assertEqual(self.path("2.jsonl").read_bytes(), b"")

    def test_bad_rows(self):
        rows = [
            (b"u,i1,1506826800000", None, ""),
            (b"u,i1", "too_few_fields", "found 2 fields, expected 3"),
            (b"u,i1,1506826800000,9", "too_many_fields", "found 4 fields, expected 3"),
            (b'"u"",i1,1506826800000', "invalid_csv", "a quoted field is not closed"),
            (b'"u"x,i1,1506826800000', "invalid_csv", "text follows its closing quote"),
            (b"u\xff,i1,1506826800000", "invalid_utf8", "not UTF-8"),
            (b",i1,1506826800000", "empty_user_id", "user_id (/user_id): empty"),
            (b"u,i1,soon", "invalid_timestamp", "found \"soon\""),
            (b'"a ""quoted"", user",i2,1506826800001', None, ""),
        ]  # fmt: skip
        self.replay(
            self.write("e.csv", b"user_id,item_id,timestamp\n" + b"".join(row + b"\n" for row, _, _ in rows)),
            source__format="csv",
        )
        self.assertEqual([r["user_id"] for r in read_output(self.path("out.jsonl"))], ["u", 'a "quoted", user'])
        letters = iter(self.dead_letters())
        for offset, (row, code, message) in enumerate(rows):
            if code is not None:
                self.check_letter(next(letters), row, "e.csv", offset, code, message)

    def test_missing_columns(self):
        events = self.write("clicks.csv", "user,article,ts\nu,i1,1506826800000\n")
        settings = {"source__format": "csv", "source__mapping__user_id": "user"}
        error = self.replay(events, source__mapping__item_id="click_article_id", expect=2, **settings)
        self.assert_error(
            error, events, 'source.mapping.item_id: no column "click_article_id"; the columns are user, article, ts'
        )
        self.assertFalse(self.path("out.jsonl").exists() and self.path("out.jsonl").stat().st_size)


if __name__ == "__main__":
    main()
