"""The little of librdkafka that the proof needs, through ctypes: no package besides the library freshet itself links."""

import ctypes
import threading
import time
from ctypes import POINTER, byref, c_char_p, c_int, c_int32, c_int64, c_size_t, c_void_p

PRODUCER, CONSUMER = 0, 1
PARTITION_EOF = -191
COPY = 2  # RD_KAFKA_MSG_F_COPY
ANY_PARTITION = -1
WAIT_MS = 5000


class Message(ctypes.Structure):
    _fields_ = [
        ("err", c_int), ("topic", c_void_p), ("partition", c_int32), ("payload", c_void_p), ("size", c_size_t),
        ("key", c_void_p), ("key_size", c_size_t), ("offset", c_int64), ("private", c_void_p),
    ]  # fmt: skip


class TopicPartition(ctypes.Structure):
    _fields_ = [
        ("topic", c_char_p), ("partition", c_int32), ("offset", c_int64), ("metadata", c_void_p),
        ("metadata_size", c_size_t), ("opaque", c_void_p), ("err", c_int), ("private", c_void_p),
    ]  # fmt: skip


class TopicPartitions(ctypes.Structure):
    _fields_ = [("count", c_int), ("size", c_int), ("elements", POINTER(TopicPartition))]


DELIVERED = ctypes.CFUNCTYPE(None, c_void_p, POINTER(Message), c_void_p)


def load():
    library = ctypes.CDLL("librdkafka.so.1")
    pointers = {
        "rd_kafka_conf_new": [], "rd_kafka_new": [c_int, c_void_p, c_char_p, c_size_t],
        "rd_kafka_topic_new": [c_void_p, c_char_p, c_void_p], "rd_kafka_queue_new": [c_void_p],
        "rd_kafka_queue_poll": [c_void_p, c_int], "rd_kafka_event_CreateTopics_result": [c_void_p],
        "rd_kafka_CreateTopics_result_topics": [c_void_p, POINTER(c_size_t)],
        "rd_kafka_NewTopic_new": [c_char_p, c_int, c_int, c_char_p, c_size_t],
    }  # fmt: skip
    for name, arguments in pointers.items():
        getattr(library, name).restype = c_void_p
        getattr(library, name).argtypes = arguments
    others = {
        "rd_kafka_conf_set": [c_void_p, c_char_p, c_char_p, c_char_p, c_size_t],
        "rd_kafka_conf_set_dr_msg_cb": [c_void_p, DELIVERED], "rd_kafka_destroy": [c_void_p],
        "rd_kafka_poll": [c_void_p, c_int], "rd_kafka_outq_len": [c_void_p], "rd_kafka_flush": [c_void_p, c_int],
        "rd_kafka_produce": [c_void_p, c_int32, c_int, c_char_p, c_size_t, c_char_p, c_size_t, c_void_p],
        "rd_kafka_topic_partition_list_destroy": [POINTER(TopicPartitions)],
        "rd_kafka_assign": [c_void_p, POINTER(TopicPartitions)], "rd_kafka_message_destroy": [POINTER(Message)],
        "rd_kafka_committed": [c_void_p, POINTER(TopicPartitions), c_int],
        "rd_kafka_message_headers": [POINTER(Message), POINTER(c_void_p)],
        "rd_kafka_header_get_all": [c_void_p, c_size_t, POINTER(c_char_p), POINTER(c_void_p), POINTER(c_size_t)],
        "rd_kafka_query_watermark_offsets": [c_void_p, c_char_p, c_int32, POINTER(c_int64), POINTER(c_int64), c_int],
        "rd_kafka_CreateTopics": [c_void_p, POINTER(c_void_p), c_size_t, c_void_p, c_void_p],
        "rd_kafka_event_destroy": [c_void_p], "rd_kafka_event_error": [c_void_p],
        "rd_kafka_topic_result_error": [c_void_p], "rd_kafka_queue_destroy": [c_void_p],
    }  # fmt: skip
    for name, arguments in others.items():
        getattr(library, name).argtypes = arguments
    for name in ("rd_kafka_err2str", "rd_kafka_topic_name"):
        getattr(library, name).restype = c_char_p
    library.rd_kafka_topic_name.argtypes = [c_void_p]
    library.rd_kafka_consumer_poll.restype = POINTER(Message)
    library.rd_kafka_consumer_poll.argtypes = [c_void_p, c_int]
    library.rd_kafka_topic_partition_list_new.restype = POINTER(TopicPartitions)
    library.rd_kafka_topic_partition_list_add.restype = POINTER(TopicPartition)
    library.rd_kafka_topic_partition_list_add.argtypes = [POINTER(TopicPartitions), c_char_p, c_int32]
    return library


library = load()


class KafkaError(Exception):
    pass


def check(code, what):
    if code != 0:
        raise KafkaError(f"{what}: {library.rd_kafka_err2str(code).decode()}")


class Client:
    def __init__(self, kind, address, **settings):
        self.conf = library.rd_kafka_conf_new()
        message = ctypes.create_string_buffer(512)
        settings = {"bootstrap.servers": address, "log_level": 0, "reconnect.backoff.max.ms": 1000, **settings}
        for name, value in settings.items():
            name = name.replace("__", ".")
            if library.rd_kafka_conf_set(self.conf, name.encode(), str(value).encode(), message, 512) != 0:
                raise KafkaError(message.value.decode())
        self.configure()
        self.handle = library.rd_kafka_new(kind, self.conf, message, 512)
        if not self.handle:
            raise KafkaError(message.value.decode())

    def configure(self):
        pass

    def close(self):
        library.rd_kafka_destroy(self.handle)


class Producer(Client):
    """Idempotent and keyed, as a user's events go. `acknowledged`: (partition, offset) of what the broker has taken."""

    def __init__(self, address, topic):
        self.acknowledged, self.refused = [], []
        self.callback = DELIVERED(self.delivered)
        super().__init__(
            PRODUCER, address, enable__idempotence="true", partitioner="murmur2_random", linger__ms=5,
            message__timeout__ms=600_000, client__id="chaos-feeder",
        )  # fmt: skip
        self.topic = library.rd_kafka_topic_new(self.handle, topic.encode(), None)

    def configure(self):
        library.rd_kafka_conf_set_dr_msg_cb(self.conf, self.callback)

    def delivered(self, _client, message, _opaque):
        message = message.contents
        if message.err == 0:
            self.acknowledged.append((message.partition, message.offset))
        else:
            self.refused.append(library.rd_kafka_err2str(message.err).decode())

    def produce(self, key, value):
        """`value` None: a tombstone."""
        refused = library.rd_kafka_produce(
            self.topic, ANY_PARTITION, COPY, value, len(value or b""), key, len(key), None
        )  # fmt: skip
        if refused != 0:
            raise KafkaError("the feeder's queue is full")
        library.rd_kafka_poll(self.handle, 0)

    def flush(self, seconds):
        deadline = time.monotonic() + seconds
        while library.rd_kafka_outq_len(self.handle) > 0 and time.monotonic() < deadline:
            library.rd_kafka_flush(self.handle, 500)
        return library.rd_kafka_outq_len(self.handle) == 0


class Record:
    __slots__ = ("topic", "partition", "offset", "key", "value", "headers")

    def __init__(self, message):
        self.topic = library.rd_kafka_topic_name(message.contents.topic).decode()
        self.partition, self.offset = message.contents.partition, message.contents.offset
        self.key = ctypes.string_at(message.contents.key, message.contents.key_size)
        payload = message.contents.payload
        self.value = None if payload is None else ctypes.string_at(payload, message.contents.size)
        self.headers = {}
        headers, name, value, size = c_void_p(), c_char_p(), c_void_p(), c_size_t()
        if library.rd_kafka_message_headers(message, byref(headers)) != 0:
            return
        index = 0
        while library.rd_kafka_header_get_all(headers, index, byref(name), byref(value), byref(size)) == 0:
            self.headers[name.value.decode()] = ctypes.string_at(value, size.value).decode(errors="replace")
            index += 1


class Reader(Client):
    """Reads `partitions` (topic, partition) from their beginning into memory, in a thread, until it is closed."""

    def __init__(self, address, partitions):
        super().__init__(
            CONSUMER, address, group__id="chaos-reader", isolation__level="read_committed", enable__auto__commit="false",
            enable__partition__eof="true", auto__offset__reset="error", client__id="chaos-reader",
            fetch__wait__max__ms=100,
        )  # fmt: skip
        self.records, self.problems = [], []
        self.positions = {partition: 0 for partition in partitions}  # behind markers, which are never delivered
        assigned = library.rd_kafka_topic_partition_list_new(len(partitions))
        for topic, partition in partitions:
            library.rd_kafka_topic_partition_list_add(assigned, topic.encode(), partition).contents.offset = 0
        check(library.rd_kafka_assign(self.handle, assigned), "assign")
        library.rd_kafka_topic_partition_list_destroy(assigned)
        self.closing = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.closing:
            message = library.rd_kafka_consumer_poll(self.handle, 200)
            if not message:
                continue
            fields = message.contents
            if fields.err == 0:
                record = Record(message)
                self.records.append(record)
                self.positions[record.topic, record.partition] = record.offset + 1
            elif fields.err == PARTITION_EOF:
                topic = library.rd_kafka_topic_name(fields.topic).decode()
                self.positions[topic, fields.partition] = fields.offset
            elif fields.err > 0 or fields.err == -140:  # the brokers' own errors, and an offset out of range
                self.problems.append(library.rd_kafka_err2str(fields.err).decode())
            library.rd_kafka_message_destroy(message)

    def of(self, topic):
        return [record for record in list(self.records) if record.topic == topic]

    def close(self):
        self.closing = True
        self.thread.join()
        super().close()


class Inspector(Client):
    """Watermarks, a group's offsets, new topics."""

    def __init__(self, address, group="chaos-inspector", isolation="read_uncommitted"):
        super().__init__(CONSUMER, address, group__id=group, isolation__level=isolation, client__id="chaos-inspector")

    def end(self, topic, partition):
        """The high watermark; for a read_committed inspector the last stable offset."""
        low, high = c_int64(), c_int64()
        code = library.rd_kafka_query_watermark_offsets(
            self.handle, topic.encode(), partition, byref(low), byref(high), WAIT_MS
        )  # fmt: skip
        check(code, f"end of {topic}[{partition}]")
        return high.value

    def committed(self, topic, partitions):
        """The group's offsets, -1 where there is none."""
        asked = library.rd_kafka_topic_partition_list_new(partitions)
        for partition in range(partitions):
            library.rd_kafka_topic_partition_list_add(asked, topic.encode(), partition)
        try:
            check(library.rd_kafka_committed(self.handle, asked, WAIT_MS), "committed offsets")
            elements = [asked.contents.elements[i] for i in range(partitions)]
            for element in elements:
                check(element.err, f"committed offset of {topic}[{element.partition}]")
            return [max(-1, element.offset) for element in elements]
        finally:
            library.rd_kafka_topic_partition_list_destroy(asked)

    def create_topics(self, topics):
        """topics: name -> partitions."""
        message = ctypes.create_string_buffer(512)
        made = [library.rd_kafka_NewTopic_new(name.encode(), n, 1, message, 512) for name, n in topics.items()]
        queue = library.rd_kafka_queue_new(self.handle)
        library.rd_kafka_CreateTopics(self.handle, (c_void_p * len(made))(*made), len(made), None, queue)
        event = library.rd_kafka_queue_poll(queue, 60_000)
        if not event:
            raise KafkaError("no answer to CreateTopics")
        check(library.rd_kafka_event_error(event), "CreateTopics")
        count = c_size_t()
        results = library.rd_kafka_CreateTopics_result_topics(
            library.rd_kafka_event_CreateTopics_result(event), byref(count)
        )  # fmt: skip
        for i in range(count.value):
            check(library.rd_kafka_topic_result_error((c_void_p * count.value).from_address(results)[i]), "new topic")
        library.rd_kafka_event_destroy(event)
        library.rd_kafka_queue_destroy(queue)
