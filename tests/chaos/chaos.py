"""Exactly once under faults, on a real Apache Kafka: see run.sh."""

import argparse
import collections
import pathlib
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback

from cluster import Cluster, Failure
from faults import FAIL_POINTS, Faults, Skipped, deal
from feeder import Feeder
from verify import DIFFERENCES_SHOWN, verify

FAULT_S = 7  # that one takes on average, for the rate of the events
CONVERGED_S = 240
ALL_POINTS = 200  # faults after which each fail point must have been passed
PROGRESS_S = 60


class Run:
    def __init__(self, options, directory):
        self.options, self.directory = options, directory
        self.numbers = random.Random(options.seed)
        self.done = collections.Counter()
        self.skipped = collections.Counter()
        self.stalls = 0

    def inject(self):
        faults = Faults(self.cluster, self.numbers)
        kinds = deal(self.numbers) if not self.options.only else self.only()
        began = time.monotonic()
        while sum(self.done.values()) < self.options.faults:
            if self.options.minutes and time.monotonic() - began > 60 * self.options.minutes:
                break
            kind, *arguments = next(kinds)
            name = " ".join([kind, *arguments])
            try:
                what = getattr(faults, kind)(*arguments)
                self.done[name] += 1
                self.cluster.note(f"fault {sum(self.done.values())}: {name}: {what}")
            except Skipped as skipped:
                self.skipped[name] += 1
                self.cluster.note(f"no fault: {name}: {skipped}")
            self.go_on()

    def only(self):
        while True:
            yield self.numbers.choice(self.options.only).split(" ")

    def go_on(self):
        """Most faults meet instances that work again; some come right after another."""
        for instance in self.cluster.instances:
            if not instance.wanted:
                instance.start()
        seen = len(self.cluster.reader.records)
        if self.numbers.random() < 0.7:
            if not self.cluster.wait_for(lambda: len(self.cluster.reader.records) > seen, PROGRESS_S):
                self.stalls += 1
                self.cluster.note(f"nothing was answered for {PROGRESS_S} s")
        self.cluster.wait(self.numbers.uniform(0, 1))

    def converge(self):
        """The feeder ends, the group reaches the end of the input, the instances end."""
        if not self.feeder.finish(CONVERGED_S):
            raise Failure("the feeder cannot deliver")
        for refused in self.feeder.producer.refused:
            self.cluster.note(f"the feeder: {refused}")
        ends = self.cluster.ends()
        if not self.cluster.wait_for(lambda: self.cluster.committed() == ends, CONVERGED_S):
            raise Failure(f"after {CONVERGED_S} s without faults the group is at {self.cluster.committed()} of {ends}")
        for instance in self.cluster.instances:
            instance.stop()

    def run(self):
        began = time.monotonic()
        self.cluster = Cluster(self.directory, self.options.instances, self.options.mutation)
        try:
            rate = self.options.events / (self.options.faults * FAULT_S)
            self.feeder = Feeder(self.cluster.broker.address, self.options.seed, rate)
            for instance in self.cluster.instances:
                instance.start()
            self.cluster.wait_for(lambda: self.cluster.reader.records, CONVERGED_S)
            self.inject()
            self.cluster.note("no more faults")
            self.converge()
            verdict = verify(self.cluster, self.feeder)
            if sum(self.done.values()) >= ALL_POINTS:
                for name in FAIL_POINTS:
                    if not any(kind.startswith(f"fail_point {name} ") for kind in self.done):
                        verdict.differ("fail points that no process came by", name)
        finally:
            self.cluster.close()
        verdict.figures["longest stop"] = f"{self.cluster.longest_stop_s:.1f} s"
        verdict.figures["aborted transactions"] = self.cluster.aborts
        verdict.figures["restarts"] = self.cluster.restarts
        verdict.figures["exit codes"] = ", ".join(
            f"{code}: {count}" for code, count in sorted(self.cluster.exit_table().items())
        )  # fmt: skip
        verdict.figures["stalls"] = self.stalls
        verdict.figures["time"] = f"{time.monotonic() - began:.0f} s"
        return verdict

    def print(self, verdict):
        print("\n| fault | times |\n|---|---|")
        for name, times in sorted(self.done.items()):
            print(f"| {name} | {times} |")
        for name, times in sorted(self.skipped.items()):
            print(f"| (not injected: {name}) | {times} |")
        print(f"\n| seed {self.options.seed} | {sum(self.done.values())} faults |\n|---|---|")
        for name, value in verdict.figures.items():
            print(f"| {name} | {value} |")
        for what, where in verdict.differences.items():
            print(f"\nDIFFERENT: {what}: {len(where)}")
            for each in where[:DIFFERENCES_SHOWN]:
                print(f"  {each}")


def parse():
    parser = argparse.ArgumentParser(description="Exactly once under faults, on a real Apache Kafka.")
    parser.add_argument("--faults", type=int, default=24)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--minutes", type=float, help="no new fault after these")
    parser.add_argument("--events", type=int, default=12_000, help="about so many")
    parser.add_argument("--instances", type=int, choices=(1, 2, 3), default=3)
    parser.add_argument("--directory", type=pathlib.Path, help="for logs and state; a new one where none is named")
    parser.add_argument("--only", action="append", help='this kind of fault, such as "fail_point before_commit abort"')
    parser.add_argument("--mutation", default="", help="of the program, a defect that must be found")
    return parser.parse_args()


def main():
    options = parse()
    directory = options.directory or pathlib.Path(tempfile.mkdtemp(prefix="freshet-chaos-"))
    directory.mkdir(parents=True, exist_ok=True)
    print(f"seed {options.seed}, logs in {directory}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))  # nothing stays behind
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))  # of a process that crashes: it lies with its logs
    run = Run(options, directory.resolve())
    try:
        verdict = run.run()
    except Failure as failure:
        print(f"\nFAIL: {failure}\nseed {options.seed}, logs in {directory}")
        return 1
    except Exception:  # a defect of the proof itself
        traceback.print_exc()
        return 2
    run.print(verdict)
    if verdict.good:
        shutil.rmtree(directory / "kafka")
    print(f"\n{'PASS' if verdict.good else 'FAIL'}: seed {options.seed}, logs in {directory}")
    return 0 if verdict.good else 1


if __name__ == "__main__":
    sys.exit(main())
