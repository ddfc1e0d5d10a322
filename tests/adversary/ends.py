"""Both ends of the road: clients whose requests each have a trace of their own, and the callee that sees whose came.

`Ends` notes every call as (number of its cause, act, number of the request whose trace it came with); 0 is none.
"""

import asyncio
import contextlib

#: Traces of the clients' requests: above what a number takes; others are hopspan's own, for calls without a parent.
MARK = 0xADBE << 64


class Ends:
    """All in one event loop."""

    def __init__(self):
        self.calls = []
        self.failures = []
        self.strangers = 0  # calls with a header of hopspan's own
        self.numbers = 0
        self.over = {}  # number: an event, for those that wait for it

    @contextlib.asynccontextmanager
    async def listening(self):
        self.callee = await asyncio.start_server(self.called, "127.0.0.1", 0, backlog=512)
        try:
            yield self.callee.sockets[0].getsockname()[1]
        finally:
            self.callee.close()

    async def called(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1").split("\r\n")
                method, path, _ = head[0].split(" ")
                number, act = path.rsplit("/", 2)[-2:]
                if act == "ended":
                    await self.event(int(number)).wait()
                    writer.write(b".")
                    return
                fields = {line.split(": ", 1)[0].lower(): line.split(": ", 1)[1] for line in head[1:] if line}
                if method == "POST":
                    await reader.readexactly(int(fields["content-length"]))
                self.strangers += any("hopspan" in name for name in fields)
                self.calls.append((int(number), act, self.claimed(fields["traceparent"])))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    def claimed(self, traceparent):
        trace = int(traceparent.split("-")[1], 16)
        return trace - MARK if MARK < trace <= MARK + self.numbers else 0

    def event(self, number):
        return self.over.setdefault(number, asyncio.Event())

    async def client(self, port, paths, keep, direct=None):
        """Requests for `paths`, one after the other, to hopspan; past it to `direct` where a path says so."""
        connection = None
        for path, past in paths:
            self.numbers += 1
            number = self.numbers
            try:
                if connection is None or past:
                    connection = await self.connect(direct if past else port)
                await asyncio.wait_for(self.request(connection, number, path, past), 30)
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
                self.failures.append("%s: %r" % (path, error))
                keep = False
            else:
                self.event(number).set()
            if past or not keep:
                connection[1].close()
                connection = None
        if connection:
            connection[1].close()

    async def connect(self, place):
        """To a port, or a unix socket's path."""
        if isinstance(place, int):
            return await asyncio.open_connection("127.0.0.1", place)
        return await asyncio.open_unix_connection(place)

    async def request(self, connection, number, path, past):
        reader, writer = connection
        lines = ["GET /%s HTTP/1.1" % path, "host: a", "number: %d" % (0 if past else number)]
        if not past:
            lines.append("traceparent: 00-%032x-00000000000000aa-01" % (MARK + number))
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1").lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        await reader.readexactly(length)
        if "hopspan-token" in head:
            self.strangers += 1
