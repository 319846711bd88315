"""HTTP clients for bench/kafka.py, in a process of their own: `http_load.py lookups|siege PORT USERS`, until its input ends;
then figures as JSON. Look-ups are h2load's (nghttp2-client), which takes a hundredth of a core for them, not a quarter.
"""

import asyncio
import collections
import contextlib
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

LOOKUPS, CLIENTS = 500, 16  # a second, over so many connections
IDLE, SLOW = 1000, 100  # connections that say nothing, and that never end their header
CHECKS = 20  # of /healthz a second, while besieged


class Client:
    """One keep-alive connection, opened again where the server has closed it."""

    def __init__(self, port):
        self.port, self.reader, self.writer = port, None, None

    async def get(self, path):
        """Status and body, and milliseconds."""
        began = time.perf_counter()
        for _ in range(2):
            try:
                if self.writer is None:
                    self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
                self.writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
                body = await self.reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
                return int(head.split(" ")[1]), body, 1000 * (time.perf_counter() - began)
            except (OSError, asyncio.IncompleteReadError):
                self.writer = None
        return 0, b"", 1000 * (time.perf_counter() - began)


class Load:
    def __init__(self, port, users):
        self.port, self.users = port, users
        self.statuses, self.taken = collections.Counter(), []

    @contextlib.contextmanager
    def look_ups(self):
        """A process for each connection, since h2load's connections all ask in one order."""
        with tempfile.TemporaryDirectory() as directory:
            paths, running = [pathlib.Path(directory) / str(n) for n in range(CLIENTS)], []
            for path in paths:
                users = random.sample(range(self.users), self.users)
                path.write_text("".join(f"http://127.0.0.1:{self.port}/v1/recommendations/u{user}\n" for user in users))
                command = ["h2load", "--h1", "-c1", f"--rps={LOOKUPS / CLIENTS}", "-D86400", f"-i{path}", f"--log-file={path}.log"]
                running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
            try:
                yield
            finally:
                for process in running:
                    process.terminate()
                    process.wait()
            for path in paths:
                for line in path.with_suffix(".log").read_text().splitlines()[:-1]:  # the last may be cut off
                    _, status, us = line.split("\t")[:3]
                    self.statuses[int(status)] += 1
                    self.taken.append(int(us) / 1000)

    async def ask(self, rate, path, counted=True):
        """Asks at a steady rate, whatever an answer takes (but one at a time)."""
        client, due = Client(self.port), time.monotonic() + random.random() / rate
        while True:
            await asyncio.sleep(max(0, due - time.monotonic()))
            due += 1 / rate
            status, _, ms = await client.get(path())
            self.statuses[status] += 1
            if counted:
                self.taken.append(ms)

    async def hold(self, slow):
        """A connection that says nothing, or a byte of a header a second; slow ones come again when they have been closed."""
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(b"GET /healthz HTTP/1.1\r\nX-Slow: " if slow else b"")
                closed = asyncio.ensure_future(reader.read())
                with contextlib.closing(writer):
                    while not (await asyncio.wait([closed], timeout=1))[0]:
                        writer.write(b"x" if slow else b"")
                    closed.result()
            self.statuses["closed"] += 1
            await asyncio.sleep(1 if slow else 3600)

    def tasks(self, kind):
        if kind == "lookups":
            return [self.ask(1, lambda: "/metrics", counted=False)]
        return [self.hold(slow=i < SLOW) for i in range(SLOW + IDLE)] + [self.ask(CHECKS, lambda: "/healthz")]


async def main(kind, port, users):
    load = Load(int(port), int(users))
    tasks = [asyncio.ensure_future(task) for task in load.tasks(kind)]
    with load.look_ups() if kind == "lookups" else contextlib.nullcontext():
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    taken = sorted(load.taken) or [float("nan")]
    print(json.dumps({"statuses": load.statuses, "answers": len(load.taken), "p50_ms": taken[len(taken) // 2],
                      "p99_ms": taken[len(taken) * 99 // 100]}))  # fmt: skip


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
