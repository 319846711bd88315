"""Protobuf in and out of freshet run on a real broker: what it answers is what it answers to the same events in JSON.

By a Python that has Kafka's client and Protobuf (deploy/install-dependencies.sh test); protoc makes the classes.
"""

import contextlib
import http.client
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys

from kafka_support import ADDRESS, ROOT, read
from run_kafka_test import EVENTS, PARTITIONS, KafkaCase
from support import main

SCHEMA_ID = 7
ENVELOPE = b"\0" + SCHEMA_ID.to_bytes(4, "big") + b"\0"

SHOP = """
syntax = "proto3";
package shop.v1;
import "google/protobuf/timestamp.proto";
message Visit {
  message Visitor { string id = 1; }
  enum Kind { UNKNOWN = 0; VIEW = 1; CART = 2; PURCHASE = 3; }
  message Click {
    Visitor visitor = 20;
    bytes sku = 2;
    Kind kind = 3;
    google.protobuf.Timestamp at = 4;
    string page = 5;
  }
}
"""


class ProtobufTest(KafkaCase):
    guarantee = "exactly_once"

    def setUp(self):
        super().setUp()
        self.path("shop.proto").write_text(SHOP)
        self.protoc(ROOT / "docs/schemas", "--python_out=.", "event.proto", "recommendation.proto")
        self.protoc(self.path("."), "--python_out=.", "--include_imports", "--descriptor_set_out=shop.pb", "shop.proto")
        sys.path.insert(0, str(self.directory))
        self.addCleanup(sys.path.remove, str(self.directory))
        self.Event = importlib.import_module("event_pb2").Event
        self.Recommendation = importlib.import_module("recommendation_pb2").Recommendation
        self.Click = importlib.import_module("shop_pb2").Visit.Click

    def protoc(self, directory, *arguments):
        subprocess.run(["protoc", f"-I{directory}", *arguments], check=True, cwd=self.directory)

    def publish(self, values):
        """(user, bytes) each."""
        producer = confluent_kafka.Producer({"bootstrap.servers": ADDRESS, "partitioner": "murmur2_random"})
        for user, value in values:
            producer.produce(self.events, value, user)
            producer.poll(0)
        self.assertEqual(producer.flush(60), 0)

    def messages(self):
        """(key, value) of the committed recommendations."""
        consumer = confluent_kafka.Consumer({
            "bootstrap.servers": ADDRESS, "group.id": self.application + "-test", "isolation.level": "read_committed",
            "enable.partition.eof": True, "enable.auto.commit": False,
        })  # fmt: skip
        consumer.assign([confluent_kafka.TopicPartition(self.answers, number, 0) for number in range(PARTITIONS)])
        found, ended = [], set()
        while len(ended) < PARTITIONS:
            message = consumer.poll(60)
            self.assertIsNotNone(message, "the topic does not end")
            if message.error():
                ended.add(message.partition())
            else:
                found.append((message.key().decode(), message.value()))
        consumer.close()
        return found

    def found(self):
        """The same in the form of JSON."""
        return [self.parsed(key, value) for key, value in self.messages()]

    def parsed(self, key, value):
        self.assertEqual(value[: len(ENVELOPE)], ENVELOPE)
        record = self.Recommendation.FromString(value[len(ENVELOPE) :])
        self.assertEqual(record.user_id, key)
        return {
            "user_id": record.user_id, "generated_at": record.generated_at, "sequence_number": record.sequence_number,
            "model": {"name": record.model.name, "version": record.model.version},
            "source": {"topic": record.source.topic, "partition": record.source.partition,
                       "offset": record.source.offset, "event_time": record.source.event_time},
            "items": [{"item_id": item.item_id, "score": item.score} for item in record.items],
        }  # fmt: skip

    def port(self, process):
        return int(re.search(r"on port (\d+)", self.said(process))[1])

    def send(self, process, body):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port(process), timeout=10)) as connection:
            connection.request("POST", "/v1/events", body)
            return connection.getresponse().status

    def test_our_messages(self):
        values = []
        for number, event in enumerate(self.log):
            value = self.Event(**event).SerializeToString()
            values.append((event["user_id"], value if number % 2 else ENVELOPE + value))
        process = self.start(source__format="protobuf", sink__format="protobuf", sink__protobuf__schema_id=SCHEMA_ID)
        other = ENVELOPE[:-1] + b"\2\2" + self.Event(user_id="u1").SerializeToString()
        self.publish([("bad", b'{"user_id":"u1"}'), ("bad", other), *values[:-1]])
        self.wait_for_answers(EVENTS - 1)
        self.assertEqual(self.send(process, values[-1][1]), 202)
        self.assertEqual(self.send(process, b"\x0a\x7f"), 400)
        self.wait_for_answers(EVENTS)
        found = self.found()
        self.assert_answered(found)
        letters = [letter["headers"] for letter in read(self.letters)]
        errors = sorted(headers[headers.index("freshet.error") + 1] for headers in letters)
        self.assertEqual(errors, ["invalid_protobuf", "other_message"])

        serve = self.start_command("serve", serve__directory=str(self.path("served")))
        self.wait_until_ready(serve)
        for record in {record["user_id"]: record for record in found}.values():
            status, body = self.ask(serve, f"/v1/recommendations/{record['user_id']}")
            self.assertEqual(status, 200)
            served = json.loads(body)
            for item, published in zip(served["items"], record["items"], strict=True):
                item["score"] = published["score"] = round(published["score"], 5)  # the one is a float's shortest text
            self.assertEqual(served, record)
        self.stop(serve)
        self.stop(process)

    def test_messages_of_a_shop_of_its_own(self):
        values = []
        for event in self.log:
            click = self.Click(sku=event["item_id"].encode(), kind=event["event_type"].upper(), page="home")
            click.visitor.id = event["user_id"]
            click.at.FromMilliseconds(event["timestamp"])
            # The index of Click: the second message within the first of its file, both zigzag.
            values.append((event["user_id"], ENVELOPE[:-1] + b"\4\0\2" + click.SerializeToString()))
        self.publish(values)
        process = self.start(
            source__format="protobuf", source__protobuf__descriptor_set=self.path("shop.pb"),
            source__protobuf__message="shop.v1.Visit.Click", source__mapping__user_id="/visitor/id",
            source__mapping__item_id="/sku", source__mapping__timestamp="/at",
            source__mapping__event_type="{path: /kind, map: {VIEW: view, CART: cart, PURCHASE: purchase}}",
            sink__format="protobuf", sink__protobuf__schema_id=SCHEMA_ID,
        )  # fmt: skip
        self.stop_once_answered(process, EVENTS)
        self.assert_answered(self.found())

    def test_log_files_are_refused(self):
        said = self.replay(self.write("log.jsonl", "{}\n"), expect=2, source__format="protobuf")
        self.assert_error(said, "source.format: protobuf: log files have lines")


if __name__ == "__main__":
    missing = [name for name in ("confluent_kafka", "google.protobuf") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"skipped: this Python has no {missing[0]} (deploy/install-dependencies.sh test)")
        sys.exit(1 if os.environ.get("FRESHET_TEST_NO_SKIP") else 77)
    import confluent_kafka

    main()
