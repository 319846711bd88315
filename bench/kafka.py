"""What bench/kafka.sh runs: freshet on a real broker, its cost, its latency, and how long it takes to come back.

$FRESHET names the program, $FRESHET_KAFKA_PROBE the one of bench/kafka_probe.h. Standard library only.
"""

import argparse
import collections
import contextlib
import http.client
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
PARTITIONS = 8
ITEMS = 2000  # as the demo model knows
GUARANTEES = ("exactly_once", "at_least_once")
WAIT_S = 600
READING = re.compile(r"reading from offset (\d+), committed (\w+)")
names = itertools.count()


class Failure(Exception):
    """What was measured counts for nothing: results are wrong, or a program ended."""


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise Failure(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Bench:
    """A broker, a log of clicks, and the topics and processes that come and go."""

    def __init__(self, flags, directory):
        self.flags, self.directory = flags, directory
        self.broker = directory / "kafka"
        self.local_kafka("start", "--port", "0")
        self.address = (self.broker / "address").read_text().strip()

    def local_kafka(self, *arguments):
        run(ROOT / "deploy" / "local-kafka.sh", *arguments, "--directory", self.broker)

    def log(self, name, users, events):
        """A generated clickstream; made once."""
        path = self.directory / f"{name}.jsonl"
        if not path.exists():
            run(os.environ["FRESHET"], "generate", "--users", users, "--items", ITEMS, "--events", events, "--seed", 1,
                "--output", path)  # fmt: skip
        return path

    def even_log(self, users, events):
        """Unlike of generated users, each of them comes, and equally often: a few at a time, which soon are hot."""
        path = self.directory / "even.jsonl"
        few, each = min(users, 10000), max(1, events // users)
        with open(path, "w", buffering=1 << 20) as out:
            for i in range(events):
                user = (i // (few * each) * few + i % few) % users
                out.write(f'{{"user_id":"u{user}","item_id":"i{i * 7919 % ITEMS}","event_type":"click",'
                          f'"timestamp":{1767225600000 + i}}}\n')  # fmt: skip
        return path

    def probe(self, *arguments):
        return run(os.environ["FRESHET_KAFKA_PROBE"], "--address", self.address, *arguments)

    def topics(self, *hints):
        made = [f"{hint}-{next(names)}" for hint in hints]
        self.probe("topics", "--partitions", PARTITIONS, *made)
        return made

    @contextlib.contextmanager
    def application(self, guarantee="exactly_once", **settings):
        """Topics and a state directory for an application, gone afterwards."""
        events, answers, letters = self.topics("events", "answers", "letters")
        application = Application(self, events, answers, letters, guarantee, settings)
        try:
            yield application
        finally:
            application.kill()
            shutil.rmtree(application.state, ignore_errors=True)
            self.probe("delete", events, answers, letters)


class Application:
    def __init__(self, bench, events, answers, letters, guarantee, settings):
        self.bench, self.events, self.answers = bench, events, answers
        self.name = f"bench-{events}"
        self.state = bench.directory / f"state-{events}"
        self.log = bench.directory / f"log-{events}"
        self.process = None
        self.settings = {
            "application": self.name, "kafka.bootstrap_servers": bench.address, "source.topic": events,
            "sink.topic": answers, "dead_letters.topic": letters, "processing.guarantee": guarantee,
            "processing.workers": 1, "processing.commit_interval": f"{bench.flags.commit_interval}ms",
            "recommend.top_k": bench.flags.top_k, "model.directory": ROOT / "models" / "demo",
            "http.listen": "127.0.0.1:0", "state.directory": self.state, **settings,
        }  # fmt: skip

    def words(self, command, *arguments):
        words = [os.environ["FRESHET"], command, *map(str, arguments)]
        for key, value in self.settings.items():
            words += ["--set", f"{key}={value}"]
        return words

    def launch(self):
        self.log.write_bytes(b"")
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.words("run"), stderr=log, stdout=log, env=clean_environment())

    def start(self):
        """Until every partition is assigned, restored and caught up; the seconds that took."""
        began = time.monotonic()
        self.launch()
        while not self.ready() or len(READING.findall(self.said())) < PARTITIONS:
            if self.process.poll() is not None or time.monotonic() - began > WAIT_S:
                raise Failure("freshet run does not become ready:\n" + self.said())
            time.sleep(0.02)
        return time.monotonic() - began

    def said(self):
        return self.log.read_text(errors="replace")

    def get(self, path):
        port = re.search(r"on port (\d+)", self.said())
        if port is None:
            return None, ""
        try:
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", int(port[1]), timeout=10)) as connection:
                connection.request("GET", path)
                answer = connection.getresponse()
                return answer.status, answer.read().decode()
        except OSError:
            return None, ""

    def ready(self):
        return self.get("/readyz")[0] == 200

    def cpu(self):
        """Seconds of the process, all threads."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mib(self):
        return int(re.search(r"VmHWM:\s*(\d+)", pathlib.Path(f"/proc/{self.process.pid}/status").read_text())[1]) / 1024

    def stop(self):
        """The seconds that SIGTERM takes."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(WAIT_S) != 0:
            raise Failure("freshet run failed:\n" + self.said())
        return time.monotonic() - began

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def flow(self, log, count, rate=0.0, skip=0, repeats=0):
        """Feeds events and waits for their answers; every event must have one, and only `repeats` of them a second."""
        seen = json.loads(self.bench.probe(
            "flow", "--events", self.events, "--answers", self.answers, "--input", log, "--skip", skip, "--count", count,
            "--rate", rate, "--warm-up", min(5, count / rate / 4) if rate else 0, "--wait", WAIT_S))  # fmt: skip
        if seen["missing"] or seen["gaps"] or seen["repeated"] > repeats:
            raise Failure(f"wrong answers: {seen}\n{self.said()}")
        return seen

    def feed(self, log, count):
        self.bench.probe("flow", "--events", self.events, "--input", log, "--count", count)

    def work_off(self, count):
        """Until all of the `count` events that were fed are answered; from now on, by the broker's clock, with nobody who feeds or reads."""
        since, before = time.time(), self.cpu()
        while self.counter("freshet_recommendations_total") < count:
            if self.process.poll() is not None:
                raise Failure("freshet run failed:\n" + self.said())
            time.sleep(0.5)
        cpu = self.cpu() - before
        seen = json.loads(self.bench.probe("review", "--answers", self.answers, "--count", count, "--since", int(1000 * since)))
        if seen["missing"] or seen["gaps"] or seen["repeated"] or not seen["seconds"]:
            raise Failure(f"wrong answers: {seen}\n{self.said()}")
        return {"rate": seen["counted"] / seen["seconds"], "cpu_us": 1e6 * cpu / seen["counted"]}

    def counter(self, name):
        found = re.search(rf"^{name} (\d+)", self.get("/metrics")[1], re.MULTILINE)
        return int(found[1]) if found else 0

    def measure(self, *arguments, **options):
        """A flow, with µs of CPU per event."""
        before = self.cpu()
        seen = self.flow(*arguments, **options)
        return {**seen, "cpu_us": 1e6 * (self.cpu() - before) / seen["answers"]}


def clean_environment():
    return {name: value for name, value in os.environ.items() if not name.upper().startswith("FRESHET_")}


def spread(values, form="{:.1f}"):
    values = [form.format(value) for value in (statistics.median(values), min(values), max(values))]
    return f"{values[0]} ({values[1]}–{values[2]})" if len(set(values)) > 1 else values[0]


rows = []


def tell(what, found, bar="", met=None):
    """A row of the table; printed at once, too, since the whole takes minutes."""
    verdict = "" if met is None else "met" if met else "MISSED"
    rows.append((what, found, bar, verdict, f"{os.getloadavg()[0]:.0f}"))
    print("  " + " | ".join(rows[-1]), file=sys.stderr, flush=True)


def warm(bench):
    """A broker that has just started is slow for half a minute: its code is not compiled yet."""
    log = bench.log("clicks", bench.flags.clickers, bench.flags.backlog)
    for guarantee in GUARANTEES:
        with bench.application(guarantee) as application:
            application.start()
            application.flow(log, bench.flags.backlog // 2, rate=3 * bench.flags.rate)
            application.stop()


def interleaved(bench, kinds, rate, count):
    """name -> measurements, one of each kind after the other; `kinds`: name -> settings."""
    found = {name: [] for name in kinds}
    for _ in range(bench.flags.repetitions):
        for name, settings in kinds.items():
            log = bench.log("clicks", bench.flags.clickers, max(bench.flags.backlog, count))
            with bench.application(**settings) as application:
                application.start()
                found[name].append(application.measure(log, count, rate=rate))
                application.stop()
    return found


def ratios(found, over, under):
    """Of neighbours in time, which had the same company."""
    return [a["cpu_us"] / b["cpu_us"] for a, b in zip(found[over], found[under])]


def steady(bench):
    """Latency and cost at a steady rate, and cost at full speed."""
    flags = bench.flags
    kinds = {guarantee: {"guarantee": guarantee} for guarantee in GUARANTEES}
    found = interleaved(bench, kinds, flags.rate, int(flags.rate * flags.seconds))
    interval = flags.commit_interval
    for guarantee, p50_bar, p99_bar in (("at_least_once", None, 10),
                                        ("exactly_once", interval / 2 + 20, interval + 50)):  # fmt: skip
        for name, bar in (("p50_ms", p50_bar), ("p99_ms", p99_bar)):
            values = [one[name] for one in found[guarantee]]
            tell(f"{guarantee}, {flags.rate:.0f} events/s: latency {name[:3]}, ms", spread(values),
                 f"≤ {bar:.0f}" if bar else "", statistics.median(values) <= bar if bar else None)  # fmt: skip
    tell_cost(f"{flags.rate:.0f} events/s", found)


def backlog(bench):
    kinds = {guarantee: {"guarantee": guarantee} for guarantee in GUARANTEES}
    found = interleaved(bench, kinds, 0, bench.flags.backlog)
    for guarantee in GUARANTEES:
        tell(f"{guarantee}, full speed: events/s",
             spread([one["answers"] / one["seconds"] for one in found[guarantee]], "{:.0f}"))  # fmt: skip
    tell_cost("full speed", found)


def tell_cost(where, found):
    for guarantee in GUARANTEES:
        tell(f"{guarantee}, {where}: CPU µs/event", spread([one["cpu_us"] for one in found[guarantee]]))
    ratio = ratios(found, "exactly_once", "at_least_once")
    tell(f"exactly once over at least once, {where}: CPU", spread(ratio, "{:.2f}"), "≤ 1.15",
         statistics.median(ratio) <= 1.15)  # fmt: skip


def snapshots(bench):
    """What snapshots cost at a steady rate; half of the interval is one walk through all users."""
    flags = bench.flags
    kinds = {"on": {"snapshots.interval": "10s"}, "off": {"snapshots.topic": "none"}}
    found = interleaved(bench, kinds, flags.rate, int(flags.rate * flags.seconds))
    for name in kinds:
        tell(f"snapshots {name} (interval 10 s), {flags.rate:.0f} events/s: CPU µs/event",
             spread([one["cpu_us"] for one in found[name]]))  # fmt: skip
    tell("snapshots on over off: CPU", spread(ratios(found, "on", "off"), "{:.2f}"))


@contextlib.contextmanager
def http_load(application, kind, users):
    """What bench/http_load.py finds meanwhile is in the dictionary that this gives, afterwards."""
    port = re.search(r"on port (\d+)", application.said())[1]
    load = subprocess.Popen([sys.executable, ROOT / "bench" / "http_load.py", kind, port, str(users)],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
    found = {}
    try:
        time.sleep(1)  # connections are there
        yield found
        found |= json.loads(load.communicate()[0])
    finally:
        load.kill()


def clients(bench):
    """What look-ups and scrapes, and connections that are of no use, cost a worker at full speed."""
    flags = bench.flags
    if shutil.which("h2load") is None:
        raise Failure("the case clients needs h2load: apt-get install nghttp2-client")
    log = bench.log("clicks", flags.clickers, flags.backlog)
    kinds = {"lookups": "500 look-ups/s and a scrape a second", "siege": "1,000 idle connections and 100 that never end a header"}
    flows, loads = {name: [] for name in ("alone", *kinds)}, {name: [] for name in kinds}
    for _ in range(flags.repetitions):
        for name, found in flows.items():
            with bench.application() as application:
                application.feed(log, flags.backlog)
                application.start()
                with http_load(application, name, flags.clickers) if name in kinds else contextlib.nullcontext({}) as load:
                    found.append(application.work_off(flags.backlog))
                application.stop()
            if name in kinds:
                loads[name].append(load)
    for name, what in kinds.items():
        speed = [a["rate"] / b["rate"] for a, b in zip(flows[name], flows["alone"])]
        tell(f"{what}: events/s beside none", spread(speed, "{:.3f}"), "≥ 0.97", statistics.median(speed) >= 0.97)
        cpu = [a["cpu_us"] / b["cpu_us"] for a, b in zip(flows[name], flows["alone"])]
        tell(f"{what}: CPU of the process beside none", spread(cpu, "{:.3f}"))
        answered, wrong = sum(load["answers"] for load in loads[name]), collections.Counter()
        for load in loads[name]:
            wrong.update({status: count for status, count in load["statuses"].items() if status not in ("200", "404", "closed")})
        p99 = [load["p99_ms"] for load in loads[name]]
        tell(f"{'look-ups' if name == 'lookups' else '/healthz'} meanwhile, {answered} answers: p99, ms", spread(p99),
             "" if name == "lookups" else "≤ 50", None if name == "lookups" else statistics.median(p99) <= 50)  # fmt: skip
        if wrong.total() > answered // 1000:  # a connection that was due to be closed as it asked
            raise Failure(f"{what}: answered with {dict(wrong)}")


class Feeding(threading.Thread):
    """A flow beside what is done to the process."""

    def __init__(self, *arguments, **options):
        super().__init__()
        self.arguments, self.options, self.seen, self.failure = arguments, options, None, None

    def run(self):
        application, *arguments = self.arguments
        try:
            self.seen = application.flow(*arguments, **self.options)
        except Exception as failure:  # given on by result()
            self.failure = failure

    def result(self):
        self.join()
        if self.failure is not None:
            raise self.failure
        return self.seen


def restart(bench):
    """SIGTERM and a new process under a steady flow: the longest time in which the reader saw nothing."""
    flags = bench.flags
    count = int(10 * flags.rate)
    log = bench.log("clicks", flags.clickers, max(flags.backlog, count))
    gaps, stops, starts = [], [], []
    for _ in range(flags.repetitions):
        with bench.application() as application:
            application.start()
            feeding = Feeding(application, log, count, rate=flags.rate)
            feeding.start()
            time.sleep(4)
            stops.append(application.stop())
            starts.append(application.start())
            gaps.append(feeding.result()["longest_gap_ms"] / 1000)
            application.stop()
    tell("clean restart: last commit of the old to first commit of the new process, s", spread(gaps, "{:.2f}"), "≤ 3",
         statistics.median(gaps) <= 3)  # fmt: skip
    tell("of these: SIGTERM to its end, s", spread(stops, "{:.2f}"))
    tell("and start to ready, s", spread(starts, "{:.2f}"))


def kills(bench):
    """kill -9 and a new process under a steady flow, again and again."""
    flags = bench.flags
    bound = flags.rate * flags.commit_interval / 1000
    times = 2 * flags.repetitions
    count = int((times + 1) * 3 * flags.rate)
    log = bench.log("clicks", flags.clickers, max(flags.backlog, count))
    for guarantee in GUARANTEES:
        replayed = []
        with bench.application(guarantee) as application:
            application.start()
            repeats = 0 if guarantee == "exactly_once" else count
            feeding = Feeding(application, log, count, rate=flags.rate, repeats=repeats)
            feeding.start()
            for _ in range(times):
                time.sleep(2)
                application.kill()
                application.start()
                found = [(own, group) for own, group in READING.findall(application.said()) if group != "nothing"]
                replayed.append(sum(max(0, int(group) - int(own)) for own, group in found))
            seen = feeding.result()
            application.stop()
        tell(f"kill -9 ({times} times), {guarantee}: events replayed silently", spread(replayed, "{:.0f}"),
             f"≤ {bound:.0f}", max(replayed) <= bound)  # fmt: skip
        tell(f"kill -9, {guarantee}: events answered again, in all", f"{seen['repeated']}",
             "0" if repeats == 0 else f"≤ {times * bound:.0f}", seen["repeated"] <= (times * bound if repeats else 0))  # fmt: skip
        tell(f"kill -9, {guarantee}: longest time without an answer, s", f"{seen['longest_gap_ms'] / 1000:.2f}")


def restore(bench):
    """An empty disk, a snapshot of all users, and an input that was read to its end."""
    flags = bench.flags
    more = 1000
    log = bench.even_log(flags.users, flags.events + more)
    settings = {"state.hot_cache": "256MiB", "state.block_cache": "64MiB", "state.write_buffer": "64MiB",
                # Whose name went with the disk would wait for the session of the one before.
                "kafka.properties.group.instance.id": "restored"}  # fmt: skip
    with bench.application(**settings) as application:
        bench.probe("flow", "--events", application.events, "--input", log, "--count", flags.events)
        run(*application.words("replay", "--from", "earliest", "--emit", "none"), env=clean_environment())
        bench.probe("topics", "--partitions", PARTITIONS, "--compacted", application.name + "-snapshots")
        written = json.loads(bench.probe(
            "snapshot", "--topic", application.name + "-snapshots", "--state", application.state, "--application",
            application.name, "--events", application.events))  # fmt: skip
        times, peaks = [], []
        for _ in range(flags.repetitions):
            shutil.rmtree(application.state)
            times.append(application.start())
            peaks.append(application.peak_mib())
            if sum(int(n) for n in re.findall(r"restored (\d+) records", application.said())) != written["users"]:
                raise Failure("not every user was restored:\n" + application.said())
            if len(times) == flags.repetitions:  # the restored users' numbers go on
                application.flow(log, more, skip=flags.events)
            application.stop()
        if written["users"] != flags.users:
            raise Failure(f"{written['users']} users in the snapshot")
        whose = f"{written['users']:,} users, {flags.events:,} events, {written['bytes'] >> 20} MiB"
        tell(f"restore of {whose}: start to ready, s", spread(times), "≤ 60", statistics.median(times) <= 60)
        allowed = 256 + 64 + 200  # what fills memtables is charged to the block cache
        tell("peak of resident memory until then, MiB", spread(peaks, "{:.0f}"), f"≤ {allowed}", max(peaks) <= allowed)
        bench.probe("delete", application.name + "-snapshots")


CASES = {"steady": steady, "backlog": backlog, "restart": restart, "kills": kills, "snapshots": snapshots,
         "restore": restore, "clients": clients}  # fmt: skip


def parse_flags():
    parser = argparse.ArgumentParser(prog="bench/kafka.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", choices=CASES, help="what to measure, repeatedly; default: all")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--rate", type=float, default=2000, help="events a second, where they come steadily")
    parser.add_argument("--seconds", type=float, default=30, help="of a steady flow")
    parser.add_argument("--backlog", type=int, default=200_000, help="events at full speed")
    parser.add_argument("--clickers", type=int, default=5000, help="users of these events")
    parser.add_argument("--commit-interval", type=int, default=100, help="ms")
    parser.add_argument("--top-k", type=int, default=100)
    parser.add_argument("--users", type=int, default=1_000_000, help="to restore")
    parser.add_argument("--events", type=int, default=20_000_000, help="of these users")
    parser.add_argument("--directory", type=pathlib.Path, help="for files; default: a new one, removed at the end")
    return parser.parse_args()


def machine():
    cpu = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return f"{cpu[1] if cpu else 'unknown CPU'}, {os.cpu_count()} cores"


def print_table():
    print(f"{machine()}\n")
    print("| what | found | bar | | load |\n|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def main():
    flags = parse_flags()
    directory = flags.directory or pathlib.Path(tempfile.mkdtemp(prefix="freshet-kafka-"))
    directory.mkdir(parents=True, exist_ok=True)
    bench = None
    try:
        bench = Bench(flags, directory)
        warm(bench)
        for case in flags.case or CASES:
            CASES[case](bench)
        print_table()
    except Failure as failure:
        sys.exit(f"bench/kafka.sh: {failure}")
    finally:
        if bench is not None:
            bench.local_kafka("stop")
        if flags.directory is None:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
