"""A TCP proxy in front of a Kafka broker that knows whose connection is whose (client.id) and what a request is.

All connections pass until a rule says otherwise. A rule is for some clients, or for all (None).
"""

import asyncio
import socket
import struct
import threading

END_TXN = 26  # of Kafka's API keys


def client_of(request):
    """client.id in a request's header: api_key int16, api_version int16, correlation_id int32, nullable string."""
    (size,) = struct.unpack_from(">h", request, 8)
    return request[10 : 10 + max(size, 0)].decode(errors="replace")


class Connection:
    def __init__(self, proxy, reader, writer):
        self.proxy, self.reader, self.writer = proxy, reader, writer
        self.client, self.broker, self.muted = None, None, False

    async def run(self):
        try:
            from_broker, self.broker = await asyncio.open_connection("127.0.0.1", self.proxy.broker_port)
        except OSError:  # the broker is down
            return self.reset()
        replies = asyncio.ensure_future(self.replies(from_broker))
        try:
            await self.requests()
        except (OSError, asyncio.IncompleteReadError):
            pass
        if self.muted:  # somebody else ends it
            return
        self.reset()
        replies.cancel()

    async def requests(self):
        while True:
            head = await self.reader.readexactly(4)
            request = await self.reader.readexactly(struct.unpack(">i", head)[0])
            if self.client is None:
                self.client = client_of(request)
            if self.proxy.refuses(self):
                return
            await self.proxy.hold(self)
            if struct.unpack_from(">h", request)[0] == END_TXN and self.proxy.takes_end(self):
                await self.end_strangely(head + request)
                return
            self.broker.write(head + request)
            await self.broker.drain()

    async def replies(self, from_broker):
        try:
            while data := await from_broker.read(1 << 16):
                await self.proxy.hold(self)
                if not self.muted:
                    self.writer.write(data)
                    await self.writer.drain()
        except (OSError, asyncio.CancelledError):
            pass
        self.reset()

    async def end_strangely(self, request):
        """The request to end a transaction: its reply is lost, or it arrives when the client has long given it up."""
        self.muted = True
        how, delay = self.proxy.end
        self.proxy.end = None
        self.proxy.strange_ends += 1
        if how == "late":
            self.abort(self.writer)
            await asyncio.sleep(delay)
        self.broker.write(request)
        await self.broker.drain()
        await asyncio.sleep(0.5)
        self.reset()

    @staticmethod
    def abort(writer):
        if writer is None or writer.transport.is_closing():
            return
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, no orderly end
        writer.transport.abort()

    def reset(self):
        self.abort(self.writer)
        self.abort(self.broker)
        self.proxy.connections.discard(self)


class Proxy:
    """Runs in a thread of its own; its methods may be called from any other."""

    def __init__(self):
        self.broker_port = None
        self.connections = set()
        self.strange_ends = 0
        self.heal_now()
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        server = asyncio.run_coroutine_threadsafe(asyncio.start_server(self.accept, "127.0.0.1", 0), self.loop).result()
        self.port = server.sockets[0].getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"

    async def accept(self, reader, writer):
        connection = Connection(self, reader, writer)
        self.connections.add(connection)
        if self.refuses(connection):
            return connection.reset()
        await connection.run()

    @staticmethod
    def matches(clients, connection):
        return clients is None or connection.client in clients

    def refuses(self, connection):
        return self.refused is not False and self.matches(self.refused, connection)

    def takes_end(self, connection):
        return self.end is not None and self.matches(self.end_clients, connection)

    async def hold(self, connection):
        if self.delay_s > 0 and self.matches(self.delayed, connection):
            await asyncio.sleep(self.delay_s)
        while self.dropped is not False and self.matches(self.dropped, connection):
            await asyncio.sleep(0.05)

    def heal_now(self):
        self.refused = self.dropped = self.delayed = False
        self.delay_s = 0
        self.end, self.end_clients = None, None

    def call(self, function):
        done = threading.Event()
        self.loop.call_soon_threadsafe(lambda: (function(), done.set()))
        done.wait(30)

    def heal(self):
        self.call(self.heal_now)

    def cut(self, clients):
        """Resets their connections."""
        self.call(lambda: [each.reset() for each in list(self.connections) if self.matches(clients, each)])

    def refuse(self, clients):
        """Resets their connections, old and new, until heal()."""
        self.refused = clients
        self.cut(clients)

    def drop(self, clients):
        """Nothing passes until heal(), nobody is told."""
        self.dropped = clients

    def slow(self, clients, seconds):
        """Each request and each reply waits, until heal()."""
        self.delayed, self.delay_s = clients, seconds

    def strange_end(self, clients, how, delay=0.0):
        """What becomes of their next EndTxn: "lost" (it is done, the reply is lost) or "late" (it comes after `delay`)."""
        self.end_clients, self.end = clients, (how, delay)
