"""What the program writes and reads, beside docs/schemas: the schemas, the golden files, and those of each release.

`test_records.py --write` writes the golden files anew. Needs jsonschema, protobuf and protoc.
"""

import copy
import importlib.util
import json
import os
import re
import sys
import unittest

import support
from support import CommandTest, as_lines, event, read_output, write_model

BAD = [
    b"not an event",
    b'{"user_id":"u1","timestamp":1506826800026}',
    b'{"user_id":"\xff","item_id":"i1","timestamp":1506826800026}',
    b'{"user_id":"u1","item_id":"i1","timestamp":1506826800}',
]
GENERATE = ["--users", 3, "--items", 5, "--events", 10, "--seed", 1]
SQL_TYPES = {
    "STRING": "string", "VARCHAR": "string", "INT": "integer", "BIGINT": "integer", "FLOAT": "number", "DOUBLE": "number",
}  # fmt: skip
TOO_LONG = 17 << 20  # bytes of a line, of which 16 MiB are kept


def comparable(record):
    """Without the time of writing and the words for people (some are simdjson's), and with the scores apart, whose last digits depend on the CPU."""
    record = copy.deepcopy(record)
    record.pop("generated_at", None)
    record.pop("message", None)
    numbers = record.pop("user_vector", []) + [item.pop("score") for item in record.get("items", [])]
    return record, numbers


class Program(CommandTest):
    """The golden events, and a few that are none, through the program."""

    def written(self, directory):
        write_model(self.path("model"), [f"i{n}" for n in range(1, 6)], dim=4, seed=1)
        (self.path("event.jsonl")).write_bytes((directory / "golden/event.jsonl").read_bytes())
        self.write("bad.jsonl", b"\n".join(BAD) + b"\n")
        self.replay("event.jsonl", "bad.jsonl", recommend__top_k=3)
        self.replay("event.jsonl", output="vector.jsonl", state="vector", recommend__top_k=3, sink__include_user_vector="true")
        self.run_program("generate", *GENERATE, "--output", "generated/log.jsonl")
        return {
            "recommendation": read_output(self.path("out.jsonl")),
            "recommendation.user_vector": read_output(self.path("vector.jsonl")),
            "dead-letter": self.dead_letters(),
            "item": read_output(self.path("generated/items.jsonl")),
        }


class RecordsTest(Program):
    def assert_valid(self, records, schema, where):
        self.assertTrue(records, where)
        for record in records:
            self.assertEqual(schemas.complaints(record, schema), [], f"{where}: {record}")

    def test_what_is_written_is_in_the_schema_and_in_the_golden_files(self):
        for name, records in self.written(schemas.SCHEMAS).items():
            schema = schemas.closed(schemas.schema(name.split(".")[0]))
            self.assert_valid(records, schema, name)
            golden = schemas.golden(name)
            self.assert_valid(golden, schema, name)
            self.assertEqual(len(records), len(golden), name)
            for found, expected in zip(records, golden):
                (found, numbers), (expected, others) = comparable(found), comparable(expected)
                self.assertEqual(json.dumps(found), json.dumps(expected), f"{name}: the order of fields counts")
                self.assertEqual(len(numbers), len(others))
                for number, other in zip(numbers, others):
                    self.assertAlmostEqual(number, other, delta=1e-4, msg=name)

    def test_generated_events_are_in_the_schema(self):
        self.run_program("generate", *GENERATE, "--output", "log.jsonl")
        self.assert_valid(read_output(self.path("log.jsonl")), schemas.schema("event"), "generate")

    def test_a_record_of_which_only_the_beginning_is_kept(self):
        write_model(self.path("model"), ["i1"], dim=4)
        self.replay(self.write("log.jsonl", b"x" * TOO_LONG + b"\n"))
        (letter,) = self.dead_letters()
        self.assertEqual(letter["truncated_bytes"], TOO_LONG)
        letter["value"] = letter["value"][:100]  # which the validator would look through
        self.assert_valid([letter], schemas.closed(schemas.schema("dead-letter")), "truncated")

    def test_the_program_accepts_what_the_event_schema_does(self):
        events = [
            event("u1", "i1"), event(7, 1.5), event("u1", "i1", "1506826800026"), event("u1", "i1", 1506826800026.5),
            event("u1", "i1", event_type=None, event_id=None), event("u1", "i1", event_type="", event_id=12),
            event("u1", "i1", event_type=3), event("u1", "i1", anything={"x": []}), event("u1", "i1", 4102444799999),
            event("", "i1"), event("u1", None), event("u1", ["i1"]), event(True, "i1"), event("u\0", "i1"),
            event("u1", "i1", event_type=[]), event("u1", "i1", event_id={}), event("u1", "i1", -1),
            event("u1", "i1", "now"), event("u1", "i1", 4102444800000), event("u1", "i1", None),
            event("u" * 1025, "i1"), event("u1", "i1", event_id="e" * 1025), {"user_id": "u1", "item_id": "i1"},
        ]  # fmt: skip
        write_model(self.path("model"), ["i1"], dim=4)
        self.replay(self.write("log.jsonl", as_lines(events)))
        refused = {letter["offset"] for letter in self.dead_letters()}
        schema = schemas.schema("event")
        for number, record in enumerate(events):
            self.assertEqual(number in refused, bool(schemas.complaints(record, schema)), record)


class ReleasesTest(Program):
    """A program that was written to the records of a release works with those of today, and the other way round."""

    def setUp(self):
        super().setUp()
        self.releases = sorted((schemas.SCHEMAS / "released").iterdir())
        self.assertTrue(self.releases)

    def test_the_schemas(self):
        for release in self.releases:
            for path in release.glob("*.schema.json"):
                kind = path.name.removesuffix(".schema.json")
                new = schemas.schema(kind)
                self.assertEqual(schemas.breaks(kind, schemas.schema(kind, release), new), [], f"{kind} of {release.name}")

    def test_old_readers_read_new_records(self):
        for release in self.releases:
            for name, records in self.written(release).items():
                schema = schemas.schema(name.split(".")[0], release)
                for record in [*records, *schemas.golden(name)]:
                    self.assertEqual(schemas.complaints(record, schema), [], f"{name} of {release.name}")

    def test_new_readers_read_old_records(self):
        for release in self.releases:
            for path in (release / "golden").glob("*.jsonl"):
                name = path.name.removesuffix(".jsonl")
                for record in schemas.golden(name, release):
                    self.assertEqual(schemas.complaints(record, schemas.schema(name.split(".")[0])), [], release.name)
            self.written(release)
            old = len(schemas.golden("event", release))
            answers = read_output(self.path("out.jsonl"))
            self.assertEqual([answer["source"]["offset"] for answer in answers], list(range(old)), "an old event was refused")


class BreaksTest(unittest.TestCase):
    """The check itself: it must find what it is there for."""

    def found(self, kind, change):
        old = schemas.schema(kind)
        new = copy.deepcopy(old)
        change(new["properties"], new["required"])
        return schemas.breaks(kind, old, new)

    def test_what_breaks_a_reader(self):
        for change, expected in [
            (lambda fields, _: fields.pop("sequence_number"), ["/sequence_number: gone"]),
            (lambda fields, _: fields["items"]["items"]["properties"].pop("score"), ["/items[]/score: gone"]),
            (lambda fields, _: fields["source"]["properties"]["offset"].update(type="string"), ["/source/offset: type string is new"]),
            (lambda fields, _: fields["generated_at"].update(type=["integer", "null"]), ["/generated_at: type null is new"]),
            (lambda _, required: required.remove("items"), ["/items: required in one only"]),
        ]:  # fmt: skip
            self.assertEqual(self.found("recommendation", change), expected)

    def test_what_breaks_a_producer(self):
        for change, expected in [
            (lambda fields, _: fields.pop("event_id"), ["/event_id: gone"]),
            (lambda fields, _: fields["user_id"].update({"$ref": "#/$defs/text"}), ["/user_id: type integer is refused"]),
            (lambda _, required: required.append("event_type"), ["/event_type: required in one only"]),
        ]:
            old = schemas.schema("event")
            new = copy.deepcopy(old)
            new["$defs"]["text"] = {"type": ["string", "number"]} if "refused" not in expected[0] else {"type": "string"}
            change(new["properties"], new["required"])
            self.assertIn(expected[0], schemas.breaks("event", old, new))

    def test_what_breaks_nobody(self):
        self.assertEqual(self.found("recommendation", lambda fields, _: fields.update(more={"type": "string"})), [])
        self.assertEqual(self.found("recommendation", lambda _, required: required.append("user_vector")), [])
        self.assertEqual(self.found("event", lambda fields, _: fields["event_id"].update(type=["string", "number", "null", "boolean"])), [])
        self.assertEqual(self.found("event", lambda _, required: required.remove("timestamp")), [])


class MessagesTest(unittest.TestCase):
    """The .proto files beside the JSON schemas, and beside those of each release."""

    KINDS = ("event", "recommendation", "item")

    def test_fields_are_those_of_the_json_schemas(self):
        for kind in self.KINDS:
            schema = schemas.schema(kind)
            expected = {path.replace("[]", "") for path in schemas.fields(schema, schema)} - {"", "/properties"}
            found = schemas.messages(kind)
            root = next(iter(found))

            def paths(message, prefix=""):
                for name, _, _, type_name in found[message].values():
                    yield f"{prefix}/{name}"
                    if type_name:
                        yield from paths(type_name.removeprefix("."), f"{prefix}/{name}")

            self.assertLessEqual(expected, set(paths(root)), kind)
            self.assertLessEqual(set(paths(root)) - expected, {"/content"}, kind)

    def test_nothing_that_was_released_is_broken(self):
        for release in (schemas.SCHEMAS / "released").iterdir():
            for file in release.glob("*.proto"):
                self.assertEqual(schemas.message_breaks(schemas.messages(file.stem, release), schemas.messages(file.stem)), [])

    def test_what_breaks(self):
        old = schemas.messages("recommendation")
        for change, expected in [
            (lambda fields: fields.pop(2), "field 2: score TYPE_FLOAT LABEL_OPTIONAL : gone"),
            (lambda fields: fields.update({2: ("score", "TYPE_DOUBLE", "LABEL_OPTIONAL", "")}), "score TYPE_DOUBLE"),
            (lambda fields: fields.update({2: ("value", "TYPE_FLOAT", "LABEL_OPTIONAL", "")}), "value TYPE_FLOAT"),
        ]:
            new = copy.deepcopy(old)
            change(new["freshet.v1.Recommendation.Item"])
            (found,) = schemas.message_breaks(old, new)
            self.assertIn(expected, found)
        new = copy.deepcopy(old)
        new["freshet.v1.Recommendation"][8] = ("more", "TYPE_STRING", "LABEL_OPTIONAL", "")
        self.assertEqual(schemas.message_breaks(old, new), [])
        self.assertEqual(schemas.message_breaks(old, {name: old[name] for name in list(old)[:1]})[0][-4:], "gone")


def parts(text):
    """What stands between the commas that are in no brackets."""
    depth, begin = 0, 0
    for at, character in enumerate(text):
        depth += (character in "<(") - (character in ">)")
        if character == "," and depth == 0:
            yield text[begin:at].strip()
            begin = at + 1
    yield text[begin:].strip()


def columns(text, path=""):
    """path -> JSON type, of the columns of a table or the fields of a ROW or STRUCT, and all below them."""
    found = {}
    for part in parts(text):
        name, declared = re.match(r"`?(\w+)`? (.*)", part, re.DOTALL).groups()
        if name == "PRIMARY":
            continue
        below = f"{path}/{name}"
        while array := re.fullmatch(r"ARRAY<(.*)>", declared):
            found[below] = "array"
            below, declared = below + "[]", array[1]
        if structure := re.fullmatch(r"(?:ROW|STRUCT)<(.*)>", declared):
            found[below] = "object"
            found.update(columns(structure[1], below))
        else:
            found[below] = SQL_TYPES[declared.split()[0]]
    return found


class TablesTest(unittest.TestCase):
    """The table definitions of docs/consume.md."""

    def test_columns_are_the_fields_of_the_schema(self):
        schema = schemas.schema("recommendation")
        fields = {path: types for path, (types, _) in schemas.fields(schema, schema).items() if path}
        text = (schemas.SCHEMAS.parent / "consume.md").read_text()
        tables = re.findall(r"TABLE recommendations \(\n(.*?)\n\) WITH", text, re.DOTALL)
        self.assertEqual(len(tables), 2)
        for table in tables:
            found = columns(table)
            self.assertEqual(found.keys(), fields.keys())
            for path, name in found.items():
                self.assertIn(name, fields[path], path)


class DocumentedTest(unittest.TestCase):
    def test_examples_of_the_documents_are_in_the_schemas(self):
        text = (schemas.SCHEMAS.parent / "records.md").read_text()
        for kind in ("event", "recommendation", "dead-letter"):
            section = text.split(f"\n## {kind.replace('-', ' ').capitalize()}\n")[1]
            record = json.loads(re.search(r"```json\n(.*?)```", section, re.S)[1])
            self.assertEqual(schemas.complaints(record, schemas.closed(schemas.schema(kind))), [])

    def test_every_error_of_a_dead_letter_is_a_word(self):
        pattern = re.compile(schemas.schema("dead-letter")["properties"]["error"]["pattern"])
        section = (schemas.SCHEMAS.parent / "records.md").read_text().split("| `freshet.error` |")[1]
        words = [word for row in re.findall(r"^\| (`.*?) \|", section, re.M) for word in re.findall(r"`(\w+)`", row)]
        self.assertGreater(len(words), 20)
        self.assertTrue(all(pattern.fullmatch(word) for word in words))


def write_golden_files():
    program = Program()
    program.setUp()
    for name, records in program.written(schemas.SCHEMAS).items():
        lines = "".join(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n" for record in records)
        (schemas.SCHEMAS / f"golden/{name}.jsonl").write_text(lines)
    program.doCleanups()


if __name__ == "__main__":
    missing = [name for name in ("jsonschema", "google.protobuf") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"skipped: this Python has no {missing[0]} (deploy/install-dependencies.sh test)")
        sys.exit(1 if os.environ.get("FRESHET_TEST_NO_SKIP") else 77)
    import schemas

    if sys.argv[1:] == ["--write"]:
        write_golden_files()
    else:
        support.main()
