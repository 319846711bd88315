"""A seeded clickstream, slowly: a hundred users of whom a few are hot, repeats, wishes to be forgotten, and records that are no events."""

import collections
import json
import random
import threading
import time

from cluster import EVENTS, ITEMS
from kafka_client import KafkaError, Producer
from support import START_MS, TYPES

USERS = 100
HOT_USERS = 4
BAD = (
    b"not an event", b'{"user_id":"u1"}', b'{"user_id":"u2","item_id":"i1","event_type":"view","timestamp":"noon"}',
    b'{"user_id":"","item_id":"i1","event_type":"view","timestamp":1506826800000}', b"[1,2,3]", b"\xff\xfe\x00",
)  # fmt: skip


def clickstream(seed):
    """(key, value) without end."""
    numbers = random.Random(seed)
    time_ms, recent, numbered = START_MS, collections.deque(maxlen=400), 0
    while True:
        time_ms += numbers.choice((0, 1, 900, 60_000, 3_600_000, -30_000))
        chance = numbers.random()
        if chance < 0.01:
            yield b"bad%d" % numbers.randrange(20), numbers.choice(BAD)
            continue
        if chance < 0.02:
            yield b"u%d" % numbers.randrange(HOT_USERS if numbers.random() < 0.3 else USERS), None
            continue
        if chance < 0.04 and recent:
            yield numbers.choice(recent)  # somebody's producer tried again, sooner or later
            continue
        user = f"u{numbers.randrange(HOT_USERS if numbers.random() < 0.3 else USERS)}"
        item = f"i{1 + numbers.randrange(ITEMS + 5)}"  # some of which the model does not know
        event = {"user_id": user, "item_id": item, "event_type": numbers.choice(TYPES), "timestamp": time_ms}
        if chance < 0.8:  # the others carry no id, and are never duplicates
            numbered += 1
            event["event_id"] = f"e{numbered}"
        recent.append((user.encode(), json.dumps(event).encode()))
        yield recent[-1]


class Feeder:
    """Produces in bursts, `rate` events a second on average, in a thread until finish()."""

    def __init__(self, address, seed, rate):
        self.address, self.rate = address, rate
        self.stream, self.numbers = clickstream(seed), random.Random(seed + 1)
        self.producer = Producer(address, EVENTS)
        self.stopping = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        due = time.monotonic()
        while not self.stopping:
            burst = self.numbers.choice((1, 1, 2, 5, 10, 40))
            for _ in range(burst):
                try:
                    self.producer.produce(*next(self.stream))
                except KafkaError:  # a long outage; what does not go in is no input
                    time.sleep(1)
            due = max(due + burst / self.rate, time.monotonic() - 5)
            time.sleep(max(0.0, due - time.monotonic()))

    def finish(self, seconds):
        """Ends; whether the broker has answered for everything."""
        self.stopping = True
        self.thread.join()
        return self.producer.flush(seconds)
