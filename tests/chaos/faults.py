"""The faults. Each is a function of the cluster and of the seeded numbers; it says what it did, or why it could not.

The service manager works on while a fault lasts: what ends is started again.
"""

import os
import random
import shutil
import signal
import subprocess

from cluster import SESSION_S

FAIL_POINTS = (
    "before_begin", "after_begin", "before_produce", "after_produce", "before_send_offsets", "after_send_offsets",
    "before_commit", "after_commit", "before_write_batch", "after_write_batch", "before_snapshot", "after_snapshot",
    "before_restore", "during_restore", "after_restore", "on_assigned", "after_assigned", "on_revoked", "after_revoked",
)  # fmt: skip
ACTIONS = ("abort", "stop", "delay", "error")
RARE = ("before_snapshot", "after_snapshot")  # come by now and then, others with each commit or batch
ONCE = FAIL_POINTS[12:]  # come by once for each partition that comes or goes, which may be a single one
REACHED_S = 30  # within which a process comes by its fail point


class Skipped(Exception):
    """This fault cannot be had here, or was not reached."""


class Faults:
    def __init__(self, cluster, numbers):
        self.cluster, self.numbers = cluster, numbers

    # Which, and for how long.

    def one(self):
        """A running instance."""
        cluster = self.cluster
        cluster.wait_for(cluster.running, 30)
        if not cluster.running():
            raise Skipped("no instance runs")
        return self.numbers.choice(cluster.running())

    def some(self):
        """client.ids that a fault of the network hits: one instance's, all instances', everybody's (None)."""
        chance = self.numbers.random()
        if chance < 0.6:
            return {self.one().name}
        return {instance.name for instance in self.cluster.instances} if chance < 0.8 else None

    def wait(self, low, high):
        seconds = self.numbers.uniform(low, high)
        self.cluster.wait(seconds)
        return f"{seconds:.1f} s"

    @staticmethod
    def called(clients):
        return "everybody" if clients is None else ", ".join(sorted(clients))

    # Processes.

    def kill(self):
        instance = self.one()
        instance.kill()
        return instance.name

    def kill_all(self):
        for instance in self.cluster.running():
            instance.kill()
        return "all instances"

    def zombie(self):
        """Stopped for longer than the session: others have its partitions when it wakes."""
        instance = self.one()
        instance.signal(signal.SIGSTOP)
        lasted = self.wait(SESSION_S + 1, SESSION_S + 4)
        instance.signal(signal.SIGCONT)
        return f"{instance.name} for {lasted}"

    def pause(self):
        instance = self.one()
        instance.signal(signal.SIGSTOP)
        lasted = self.wait(0.5, SESSION_S - 2)
        instance.signal(signal.SIGCONT)
        return f"{instance.name} for {lasted}"

    def restart(self):
        instance = self.one()
        instance.stop()
        instance.start()
        return instance.name

    def remove_and_add(self):
        """Stays away for so long that others take its partitions over; comes back with its old state."""
        instance = self.one()
        instance.stop()
        lasted = self.wait(SESSION_S + 1, SESSION_S + 3)
        instance.start()
        return f"{instance.name} away for {lasted}"

    # The broker.

    def broker_kill(self):
        self.cluster.broker.kill()
        lasted = self.wait(0, 2)
        self.cluster.broker.start_again()
        return f"down for {lasted} besides the start"

    def broker_restart(self):
        self.cluster.broker.stop()
        self.cluster.broker.start_again()
        return "cleanly"

    def broker_pause(self):
        """Longer than the instances' sessions, shorter than its own of 9 s: see deploy/local-kafka.sh fence."""
        self.cluster.broker.signal(signal.SIGSTOP)
        lasted = self.wait(1, SESSION_S + 1.5)
        self.cluster.broker.signal(signal.SIGCONT)
        return f"for {lasted}"

    def broker_hangs_and_kill(self):
        """Commits hang; instances are killed in the middle of them; the broker then goes on with what it has."""
        self.cluster.broker.signal(signal.SIGSTOP)
        lasted = self.wait(0.5, 3)
        victims = self.cluster.running() if self.numbers.random() < 0.5 else [self.one()]
        for instance in victims:
            instance.kill()
        self.cluster.broker.signal(signal.SIGCONT)
        return f"for {lasted}, killed {', '.join(instance.name for instance in victims)}"

    # The network.

    def cut(self):
        clients = self.some()
        times = self.numbers.randint(1, 4)
        for _ in range(times):
            self.cluster.proxy.cut(clients)
            self.wait(0.05, 0.5)
        return f"{self.called(clients)}, {times} times"

    def refuse(self):
        clients = self.some()
        self.cluster.proxy.refuse(clients)
        lasted = self.wait(1, SESSION_S + 3)
        self.cluster.proxy.heal()
        return f"{self.called(clients)} for {lasted}"

    def drop(self):
        """A cable pulled and put back, with or without the connections' end."""
        clients = self.some()
        self.cluster.proxy.drop(clients)
        lasted = self.wait(1, SESSION_S + 4)
        if self.numbers.random() < 0.5:
            self.cluster.proxy.cut(clients)
        self.cluster.proxy.heal()
        return f"{self.called(clients)} for {lasted}"

    def slow(self):
        clients = self.some()
        seconds = self.numbers.choice((0.02, 0.1, 0.4))
        self.cluster.proxy.slow(clients, seconds)
        lasted = self.wait(2, 6)
        self.cluster.proxy.heal()
        return f"{self.called(clients)} by {seconds} s for {lasted}"

    def strange_end(self, how):
        before = self.cluster.proxy.strange_ends
        clients = {self.one().name}
        self.cluster.proxy.strange_end(clients, how, self.numbers.choice((0.2, 1, 3, 8)))
        reached = self.cluster.wait_for(lambda: self.cluster.proxy.strange_ends > before, REACHED_S)
        self.cluster.proxy.heal()
        if not reached:
            raise Skipped("no transaction ended")
        return self.called(clients)

    def end_reply_lost(self):
        """The transaction is committed and the instance never hears of it over this connection."""
        return self.strange_end("lost")

    def end_late(self):
        """A request to end a transaction arrives when its client has sent it again over another connection."""
        return self.strange_end("late")

    # The disk.

    def disk_wiped(self):
        instance = self.one()
        self.take_down(instance)
        self.empty(instance.state)
        instance.start()
        return instance.name

    def disk_rolled_back(self):
        """An older copy of the state directory, taken while the instance was stopped."""
        instance = self.one()
        copy = instance.directory / "copy"
        self.take_down(instance)
        if instance.state.is_dir():
            shutil.copytree(instance.state, copy)
        instance.start()
        lasted = self.wait(2, 6)
        self.take_down(instance)
        self.empty(instance.state)
        shutil.copytree(copy, instance.state, dirs_exist_ok=True)
        shutil.rmtree(copy)
        instance.start()
        return f"{instance.name} by {lasted}"

    def disk_full(self):
        """A small file system below the state directory, filled while the instance works."""
        instance = self.one()
        if os.geteuid() != 0:
            raise Skipped("a file system of its own needs root")
        self.take_down(instance)
        self.mount(instance.state)
        instance.start()
        filler = instance.state / "filler"
        try:
            self.wait(0.5, 3)
            with filler.open("wb") as file:
                try:
                    while file.write(b"\0" * (1 << 20)):
                        file.flush()
                except OSError:
                    pass
            lasted = self.wait(2, 5)
        finally:
            filler.unlink(missing_ok=True)
            self.take_down(instance)
            self.unmount(instance.state)
        instance.start()
        return f"{instance.name} for {lasted}"

    def slow_disk(self):
        delay_ms = self.numbers.choice((5, 50, 500))
        instance = self.one()
        self.take_down(instance)
        instance.start(fail_points=f"before_write_batch=delay:{delay_ms}@0")
        lasted = self.wait(3, 6)
        self.take_down(instance)
        instance.start()
        return f"{instance.name} by {delay_ms} ms a commit for {lasted}"

    def take_down(self, instance):
        """In an orderly way or not."""
        if self.numbers.random() < 0.5:
            instance.wanted = False
            instance.kill()
            if instance.process is not None:
                self.cluster.record_exit(instance)
        else:
            instance.stop()

    @staticmethod
    def empty(directory):
        """Removes what is in it; it may be a mount point."""
        for path in directory.iterdir() if directory.is_dir() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def mount(self, state):
        """Puts a small tmpfs with the same content in the place of `state`."""
        small = state.with_name("small")
        small.mkdir(exist_ok=True)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", str(small)], capture_output=True, text=True
        )  # fmt: skip
        if mounted.returncode != 0:
            raise Skipped(f"a file system of its own needs mount: {mounted.stderr.strip()}")
        if state.is_dir():
            shutil.copytree(state, small, dirs_exist_ok=True)
            shutil.rmtree(state)
        state.symlink_to(small)

    @staticmethod
    def unmount(state):
        """What the small file system holds goes back to the large one."""
        small = state.resolve()
        state.unlink()
        shutil.copytree(small, state)
        subprocess.run(["umount", str(small)], check=True, capture_output=True)

    # Fail points.

    def fail_point(self, name, action):
        """The process ends, hangs, waits or fails at a named step (core/fail_point.h)."""
        instance = self.one()
        self.take_down(instance)
        if name.endswith("_restore"):
            self.empty(instance.state)
        at = self.numbers.randint(1, 1 if name in ONCE else 3 if name in RARE else 12)
        delay_ms = self.numbers.choice((100, 2000, 12_000))  # the last: longer than transactions may last
        how = f"delay:{delay_ms}" if action == "delay" else action
        instance.start(fail_points=f"{name}={how}@{at}", commit_interval=self.numbers.choice(("20ms", "500ms")))
        process = instance.process

        def reached():
            return instance.process is not process or f"fail point {name}: " in instance.said()

        if name.endswith("_revoked") and self.cluster.wait_for(lambda: "reading from" in instance.said(), REACHED_S):
            self.wait(0.2, 1)
            instance.signal(signal.SIGTERM)  # which gives the partitions back
        if not self.cluster.wait_for(reached, REACHED_S):
            raise Skipped(f"{name}={how}@{at} was not reached")
        if action == "stop":
            self.wait(0.2, SESSION_S + 3)
            instance.signal(signal.SIGCONT)
        elif action == "delay":
            self.cluster.wait(delay_ms / 1000)
        return f"{instance.name} at its {at}."


PLAIN = (
    "kill", "kill_all", "zombie", "pause", "restart", "remove_and_add", "broker_kill", "broker_restart", "broker_pause",
    "broker_hangs_and_kill", "cut", "refuse", "drop", "slow", "end_reply_lost", "end_late", "disk_wiped",
    "disk_rolled_back", "disk_full", "slow_disk",
)  # fmt: skip


def deal(numbers: random.Random):
    """Kinds without end: ("kill",) or ("fail_point", name, action). All of them come before one comes again."""
    plain, points = [], []
    while True:
        if not plain:
            plain = numbers.sample(PLAIN, len(PLAIN))
        if not points:
            points = [("fail_point", name, action) for name in FAIL_POINTS for action in ACTIONS]
            numbers.shuffle(points)
        yield (plain.pop(),) if numbers.random() < 0.6 else points.pop()
