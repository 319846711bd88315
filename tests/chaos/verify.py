"""Whether what readers saw and what is on disk is what a run without faults gives."""

import collections
import contextlib
import json

from cluster import (
    ANSWERS, EVENTS, LETTERS, ORACLE, ORACLE_ANSWERS, ORACLE_LETTERS, PARTITIONS, WAIT_S, Failure, Instance,
)  # fmt: skip
from support import CommandTest

DUPLICATES_AMONG = 64  # of a user's event ids
DIFFERENCES_SHOWN = 10  # of each kind


class Verdict:
    def __init__(self):
        self.differences = collections.OrderedDict()  # what -> its differences
        self.figures = collections.OrderedDict()

    def differ(self, what, where):
        self.differences.setdefault(what, []).append(where)

    def expect_equal(self, what, found, expected):
        if found != expected:
            self.differ(what, f"found {found}, expected {expected}")

    @property
    def good(self):
        return not self.differences


def answers_of(records):
    return [record for record in records if record.value is not None]


def place(record):
    """(partition, offset) of the event that a recommendation answers."""
    source = json.loads(record.value)["source"]
    return source["partition"], source["offset"]


def by_place(records, verdict, what, place_of):
    """place -> record; each place may come once."""
    found = {}
    for record in records:
        at = place_of(record)
        if at in found:
            verdict.differ(f"{what} came twice", f"{at}: offsets {found[at].offset} and {record.offset}")
        found[at] = record
    return found


def compare_keys(verdict, what, found, expected):
    for at in sorted(expected.keys() - found.keys()):
        verdict.differ(f"{what} missing", at)
    for at in sorted(found.keys() - expected.keys()):
        verdict.differ(f"{what} nobody expects", at)


def check_same_items(verdict, what, items, others, where):
    try:
        CommandTest().assert_same_items(items, others, where)
    except AssertionError as error:
        verdict.differ(what, str(error).splitlines()[0])


def check_answers(verdict, records, oracle):
    found = by_place(answers_of(records), verdict, "answers", place)
    expected = by_place(answers_of(oracle), verdict, "the oracle's answers", place)
    compare_keys(verdict, "answers", found, expected)
    for at in found.keys() & expected.keys():
        ours, theirs = json.loads(found[at].value), json.loads(expected[at].value)
        for field in ("user_id", "sequence_number", "source", "model"):
            verdict.expect_equal(f"{field} of answers", (at, ours[field]), (at, theirs[field]))
        check_same_items(verdict, "items of answers", ours["items"], theirs["items"], at)


def check_order(verdict, records):
    """A reader that read all along saw each user's answers as 1, 2, 3 and so on, and from 1 again behind a tombstone."""
    last = collections.Counter()
    for record in records:
        if record.value is None:
            last[record.key.decode()] = 0
            continue
        answer = json.loads(record.value)
        user = answer["user_id"]
        if answer["sequence_number"] != last[user] + 1:
            verdict.differ(
                "order of a user's answers",
                f"{user}: {answer['sequence_number']} after {last[user]} at {record.partition}@{record.offset}",
            )
        last[user] = answer["sequence_number"]
        verdict.expect_equal("key of an answer", record.key, user.encode())
    return last


def is_event(value):
    try:
        event = json.loads(value)
        return bool(event["user_id"] and event["item_id"]) and isinstance(event["timestamp"], int)
    except (ValueError, TypeError, KeyError):
        return False


def check_letters(verdict, letters, events):
    """Each record that is no event, once, as it was."""
    found = by_place(
        letters, verdict, "dead letters",
        lambda letter: (int(letter.headers["freshet.partition"]), int(letter.headers["freshet.offset"])),
    )  # fmt: skip
    bad = {(r.partition, r.offset): r for r in answers_of(events) if not is_event(r.value)}
    compare_keys(verdict, "dead letters", found, bad)
    for at in found.keys() & bad.keys():
        verdict.expect_equal("topic of dead letters", found[at].headers["freshet.topic"], EVENTS)
        verdict.expect_equal("dead letters", (at, found[at].key, found[at].value), (at, bad[at].key, bad[at].value))


def told(records):
    """user -> what the consumers are told, in order: the places that are answered, and None where the user is forgotten."""
    by_user = collections.defaultdict(list)
    for record in records:
        by_user[record.key.decode()].append(None if record.value is None else place(record))
    return dict(by_user)


def expected_to_be_told(events):
    """Likewise, of the input alone: all events but those that repeat one of the last 64 ids since the user was forgotten."""
    by_user, ids = collections.defaultdict(list), collections.defaultdict(lambda: collections.deque(maxlen=DUPLICATES_AMONG))
    for record in events:
        if record.value is None:
            by_user[record.key.decode()].append(None)
            ids.pop(record.key.decode(), None)
            continue
        if not is_event(record.value):
            continue
        event = json.loads(record.value)
        user, event_id = event["user_id"], event.get("event_id")
        if event_id is not None:
            if event_id in ids[user]:
                continue
            ids[user].append(event_id)
        by_user[user].append((record.partition, record.offset))
    return dict(by_user)


def since_forgotten(places):
    return places[::-1].index(None) if None in places else len(places)


def check_accepted(verdict, events, answers, last):
    """Without the oracle: an answer for each event that is no duplicate, a tombstone for each of the input, each user's in the
    order of the input, and each user's numbers end with their events since they were forgotten."""
    expected, found = expected_to_be_told(events), told(answers)
    for user in sorted(expected.keys() | found.keys()):
        verdict.expect_equal("what is told of a user", (user, found.get(user)), (user, expected.get(user)))
    verdict.expect_equal(
        "answers by user", dict(last), {user: since_forgotten(places) for user, places in expected.items()}
    )
    good = sum(is_event(record.value) for record in answers_of(events))
    verdict.figures["events"] = good
    verdict.figures["duplicates among them"] = good - sum(len(places) - places.count(None) for places in expected.values())
    verdict.figures["users"] = len(expected)
    verdict.figures["deletions of users"] = len(events) - len(answers_of(events))
    verdict.figures["dead letters"] = len(answers_of(events)) - good
    verdict.figures["answers"] = len(answers_of(answers))


def read_to_the_end(cluster, reader, *topics):
    ends = {}
    for topic in topics:
        stable = cluster.ends(topic, 1 if "letters" in topic else PARTITIONS, "read_committed")
        ends.update({(topic, partition): end for partition, end in enumerate(stable)})
    if not cluster.wait_for(lambda: all(reader.positions[at] >= end for at, end in ends.items()), WAIT_S):
        raise Failure(f"a reader does not reach the end: {reader.positions} of {ends}")


def check_transactions(cluster, verdict):
    """The last stable offset is the end: no transaction is open."""
    for topic, partitions in ((ANSWERS, PARTITIONS), (LETTERS, 1), (f"{cluster.application}-snapshots", PARTITIONS)):
        def closed(topic=topic, partitions=partitions):
            return cluster.ends(topic, partitions, "read_committed") == cluster.ends(topic, partitions)

        if not cluster.wait_for(closed, 30):  # that of a dead process ends by its timeout, 10 s
            verdict.differ("hanging transactions", topic)


def run_oracle(cluster):
    """The same input without faults, in one process: its answers, its dead letters' count and its state's digest."""
    oracle = Instance(cluster, ORACLE, ORACLE, ORACLE_ANSWERS, ORACLE_LETTERS)
    cluster.mutation, mutation = "", cluster.mutation
    cluster.run_alone(oracle, ORACLE)
    with contextlib.closing(cluster.read(ORACLE_ANSWERS, ORACLE_LETTERS)) as reader:
        read_to_the_end(cluster, reader, ORACLE_ANSWERS, ORACLE_LETTERS)
        answers = reader.of(ORACLE_ANSWERS)
    places = told(answers)
    live = cluster.recommendations(oracle, sorted(places))
    for user, items in live.items():
        if (places[user][-1] is None) != (items == []):
            raise Failure(f"the oracle's answer for {user}: {items}, the last of {places[user]}")
    oracle.stop()
    cluster.mutation = mutation
    return answers, live, oracle.digest()


def check_states(cluster, verdict, live, digest):
    """Each instance's state, brought to the end of the input in a run of its own, is the oracle's. Its keys and values, built
    anew from what is on disk, give what the oracle's give, which were never anything but appended to."""
    for instance in cluster.instances:
        cluster.run_alone(instance)
        again = cluster.recommendations(instance, sorted(live))
        for user, items in again.items():
            check_same_items(verdict, "what keys and values give", items, live[user], (instance.name, user))
        instance.stop()
        verdict.expect_equal("state", (instance.name, instance.digest()), (instance.name, digest))


def verify(cluster, feeder):
    verdict = Verdict()
    with contextlib.closing(cluster.read(EVENTS)) as reader:
        read_to_the_end(cluster, reader, EVENTS)
        events = reader.of(EVENTS)
    there = {(record.partition, record.offset) for record in events}
    for at in feeder.producer.acknowledged:
        if at not in there:
            verdict.differ("acknowledged events that the broker lost", at)
    answers, live, digest = run_oracle(cluster)
    check_states(cluster, verdict, live, digest)
    check_transactions(cluster, verdict)
    verdict.expect_equal("the group's offsets", cluster.committed(), cluster.ends())
    read_to_the_end(cluster, cluster.reader, ANSWERS, LETTERS)
    seen = cluster.reader.of(ANSWERS)
    last = check_order(verdict, seen)
    check_answers(verdict, seen, answers)
    check_letters(verdict, cluster.reader.of(LETTERS), events)
    check_accepted(verdict, events, seen, last)
    for _, name, code, log, said in cluster.exits:
        unheard = code == -15 and len(said) <= 1  # told to stop before it could listen
        if code not in (0, 1, -9) and not unheard:
            verdict.differ("exit codes", f"{name}: {code} ({log}): {said[-1:]}")
    if cluster.broker.lost_markers() > 0:
        verdict.differ("transactions that the broker itself left without markers", cluster.broker.lost_markers())
    for problem in cluster.reader.problems:
        verdict.differ("problems of the reader", problem)
    return verdict
