"""freshet run where a broker refuses: what it may not do, too few replicas, no transactions, another number of partitions."""

import contextlib
import re
import shutil
import socket
import struct
import subprocess
import threading
import time

from own_broker import JARS, OwnBroker, java

BROKER = OwnBroker("refusals")
OWN, local_kafka = BROKER.directory, BROKER.do


def start_broker():
    """One with an authorizer, which the broker of the other tests does without: everybody may do what no ACL mentions."""
    local_kafka("start", "--port", "0")
    local_kafka("stop")
    with open(OWN / "server.properties", "a") as properties:
        properties.write("authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n"
                         "allow.everyone.if.no.acl.found=true\n")  # fmt: skip
    local_kafka("start")


start_broker()

from kafka_support import ADDRESS, kcat, new_topics, produce, read  # noqa: E402  # they read $FRESHET_TEST_KAFKA
from run_kafka_test import KafkaCase  # noqa: E402
from support import main  # noqa: E402


def tool(name, *arguments):
    java(name, "--bootstrap-server", ADDRESS, *arguments)


def allow_only(topic, *operations):
    """Nothing else is allowed on a topic that an ACL mentions."""
    words = [word for operation in operations for word in ("--operation", operation)]
    tool("org.apache.kafka.tools.AclCommand", "--add", "--allow-principal", "User:ANONYMOUS", "--topic", topic, *words)
    time.sleep(1)  # brokers hear of it a moment later


def allow_everything(topic):
    tool("org.apache.kafka.tools.AclCommand", "--remove", "--force", "--topic", topic)
    time.sleep(1)  # brokers hear of it a moment later


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


class SecondBroker:
    """Of the same cluster, for topics with two replicas."""

    def __init__(self):
        directory = OWN / "second"
        directory.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        properties = (OWN / "server.properties").read_text()
        for pattern, value in (("process.roles", "broker"), ("node.id", "2"), ("log.dirs", directory / "data"),
                               ("listeners", f"PLAINTEXT://127.0.0.1:{port}"),
                               ("advertised.listeners", f"PLAINTEXT://127.0.0.1:{port}")):  # fmt: skip
            properties = re.sub(f"(?m)^{pattern}=.*", f"{pattern}={value}", properties)
        self.properties = directory / "server.properties"
        self.properties.write_text(properties)
        cluster = re.search("cluster.id=(.*)", (OWN / "data" / "meta.properties").read_text())[1]
        java("kafka.tools.StorageTool", "format", "-t", cluster, "-c", self.properties)
        self.start()

    def start(self):
        command = ["java", "-Xmx256m", "-cp", str(JARS), "kafka.Kafka", str(self.properties)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while b"broker 2 at" not in kcat("-L"):
            time.sleep(0.5)

    def kill(self):
        """Until the cluster knows."""
        self.process.kill()
        self.process.wait()
        while b"broker 2 at" in kcat("-L"):
            time.sleep(0.5)


class Old:
    """A broker from before transactions: its versions of the protocol, and where the topics are."""

    APIS = {0: (0, 2), 1: (0, 3), 2: (0, 1), 3: (0, 2), 8: (0, 2), 9: (0, 2), 10: (0, 0), 11: (0, 1), 12: (0, 0),
            13: (0, 0), 14: (0, 0), 15: (0, 0), 16: (0, 0), 18: (0, 0), 19: (0, 1), 20: (0, 1)}  # fmt: skip

    def __init__(self, topics):
        self.topics = topics  # name -> partitions
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    def serve(self, connection):
        with connection, connection.makefile("rb") as requests:
            while len(size := requests.read(4)) == 4:
                request = requests.read(struct.unpack(">i", size)[0])
                api, version, correlation = struct.unpack(">hhi", request[:8])
                body = {18: self.versions, 3: self.metadata, 10: self.coordinator}.get(api)
                if body is None:
                    return  # as a broker does that does not know it
                answer = struct.pack(">i", correlation) + body(version, request)
                connection.sendall(struct.pack(">i", len(answer)) + answer)

    def versions(self, version, _request):
        known = b"".join(struct.pack(">hhh", api, *versions) for api, versions in self.APIS.items())
        return struct.pack(">hi", 35 if version > 0 else 0, len(self.APIS)) + known

    def address(self):
        return struct.pack(">i", 1) + text("127.0.0.1") + struct.pack(">i", self.port)

    def coordinator(self, _version, _request):
        return struct.pack(">h", 0) + self.address()

    def metadata(self, version, request):
        broker = self.address() + struct.pack(">h", -1)
        topics, asked = b"", [name for name in self.topics if text(name) in request] or self.topics
        for name in asked:
            partitions = self.topics[name]
            topics += struct.pack(">h", 0) + text(name) + b"\0" + struct.pack(">i", partitions)
            for partition in range(partitions):
                topics += struct.pack(">hiiiiii", 0, partition, 1, 1, 1, 1, 1)
        cluster = text("old") if version >= 2 else b""
        return struct.pack(">i", 1) + broker + cluster + struct.pack(">ii", 1, len(asked)) + topics


class WithoutCoordinator(Old):
    """Knows transactions, and no coordinator of them."""

    APIS = {**Old.APIS, 3: (0, 1), 10: (0, 1), 22: (0, 1), 24: (0, 0), 25: (0, 0), 26: (0, 0), 28: (0, 0)}

    def coordinator(self, version, _request):
        nobody = struct.pack(">i", -1) + text("") + struct.pack(">i", -1)
        not_available = struct.pack(">h", 15)
        return struct.pack(">i", 0) + not_available + text("") + nobody if version > 0 else not_available + nobody


class RefusalsTest(KafkaCase):
    guarantee = "exactly_once"

    def feed(self):
        produce(self.events, self.lines())

    def fails(self, *expected, code=1, **settings):
        process = self.start(**settings)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        self.assertEqual(process.poll(), code, self.said(process))
        self.assert_error(self.said(process), *expected)
        self.processes.remove(process)  # its end was wanted
        process.log.close()

    def test_a_topic_that_may_not_be_written(self):
        self.feed()
        allow_only(self.answers, "Read", "Describe")
        self.fails(self.answers, "authorization")
        self.assertEqual(self.found(), [])
        allow_everything(self.answers)
        self.stop_once_answered(self.start(), len(self.log))

        allow_only(self.letters, "Read", "Describe")
        produce(self.events, ["no event"])
        self.fails(self.letters, "authorization")
        self.assertEqual(read(self.letters), [])
        allow_everything(self.letters)
        process = self.start()
        self.wait_for(lambda: read(self.letters), "the dead letter does not come")
        self.stop(process)
        self.assertEqual(len(read(self.letters)), 1)
        self.assert_answered(self.found())

    def test_a_topic_that_may_not_be_read(self):
        self.feed()
        allow_only(self.events, "Write", "Describe")
        self.fails(self.events, "authorization")
        allow_everything(self.events)
        self.stop_once_answered(self.start(), len(self.log))
        self.assert_answered(self.found())

    def test_too_few_replicas_are_waited_for(self):
        self.feed()
        second = SecondBroker()
        self.addCleanup(second.kill)
        self.answers += "-replicated"
        tool("org.apache.kafka.tools.TopicCommand", "--create", "--topic", self.answers, "--partitions", "4",
             "--replication-factor", "2", "--config", "min.insync.replicas=2")  # fmt: skip
        second.kill()
        process = self.start()
        self.wait_for(lambda: "wait for delivery" in self.said(process), "the log says nothing")
        self.assertIsNone(process.poll())
        self.assertEqual(self.found(), [])
        second.start()
        self.stop_once_answered(process, len(self.log))
        self.assert_answered(self.found())

    def test_a_broker_without_transactions(self):
        old = Old({name: 1 for name in (self.events, self.answers, self.letters)})
        self.addCleanup(old.listener.close)
        self.fails("exactly_once needs brokers with transactions", code=2, snapshots__topic="none",
                   kafka__bootstrap_servers=f"127.0.0.1:{old.port}")  # fmt: skip

    def test_who_waits_for_transactions_at_the_start_is_told_to_stop(self):
        broker = WithoutCoordinator({name: 1 for name in (self.events, self.answers, self.letters)})
        self.addCleanup(broker.listener.close)
        process = self.start(snapshots__topic="none", kafka__bootstrap_servers=f"127.0.0.1:{broker.port}")
        self.wait_for(lambda: "transactional.id" in self.said(process), "the log does not say what it waits for")
        self.assertIsNone(process.poll())
        self.stop(process)

    def test_a_topic_with_other_partitions(self):
        self.feed()
        self.stop_once_answered(self.start(), len(self.log))
        tool("org.apache.kafka.tools.TopicCommand", "--alter", "--topic", self.events, "--partitions", "7")
        self.fails(self.events, "4", "7", "partitions", code=3)

    def test_a_topic_that_gains_partitions_under_a_running_process(self):
        self.feed()
        process = self.start()
        self.wait_for_answers(len(self.log))
        tool("org.apache.kafka.tools.TopicCommand", "--alter", "--topic", self.events, "--partitions", "7")
        produce(self.events, self.lines())
        self.assertEqual(process.wait(60), 3, self.said(process))
        self.assert_error(self.said(process), self.events, "4", "7", "partitions")
        self.processes.remove(process)  # its end was wanted
        process.log.close()

    def test_a_topic_that_is_deleted_under_a_running_process(self):
        self.feed()
        process = self.start()
        self.wait_for_answers(len(self.log))
        tool("org.apache.kafka.tools.TopicCommand", "--delete", "--topic", self.answers)
        produce(self.events, self.lines())
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        self.assertEqual(process.poll(), 1, self.said(process))
        self.assertIn(f"topic {self.answers} does not exist", self.said(process))
        self.processes.remove(process)  # its end was wanted
        process.log.close()
        self.fails(self.answers, "does not exist", code=2)

    def test_a_name_with_a_slip_in_it_does_not_hold_on_to_the_state_directory(self):
        self.feed()
        self.fails("does not exist", "no-such", code=2, source__topic="no-such")
        self.stop_once_answered(self.start(), len(self.log))
        self.assert_answered(self.found())

    def test_two_applications_of_one_name_that_read_different_topics(self):
        self.feed()
        process = self.start(snapshots__interval="1s")
        self.wait_for_answers(len(self.log))
        self.wait_for_snapshot()
        self.stop(process)
        (others,) = new_topics(4, "others")
        self.fails("holds the snapshot of application", self.events, "expected that of", others, code=2,
                   source__topic=others, state="other-state")  # fmt: skip

    def test_a_snapshot_record_that_is_damaged(self):
        self.feed()
        process = self.start(snapshots__interval="1s")
        self.wait_for_answers(len(self.log))
        self.wait_for_snapshot()
        self.stop(process)
        topic = f"{self.application}-snapshots"
        kcat("-P", "-t", topic, "-p", "0", "-K", "\t", input=b"uSomebody\t\x01crc!no snapshot\n")
        self.fails(f"{topic}[0] offset ", "its checksum is not that of its bytes", state="other-state")

    def test_input_and_output_are_the_same_topic(self):
        self.fails(self.events, "sink.topic", code=2, sink__topic=self.events)


if __name__ == "__main__":
    try:
        main()
    finally:
        local_kafka("stop")
        shutil.rmtree(OWN, ignore_errors=True)
