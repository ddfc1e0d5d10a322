"""The service that is called: an HTTP/1.1 server in a thread that notes whose trace each call came with.

On a port of its own it also tells an app's late work when its request has ended.
"""

import asyncio
import threading
from collections import Counter


class Callee:
    """`calls`: (way, cause, number, trace ID or None) of each, in order of arrival."""

    def __init__(self, delay=0.003):
        self.delay = delay
        self.calls = []
        self.strangers = Counter()  # header names that should not have come, and more than one trace
        self.over = {}  # number to an event
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        threading.Thread(target=self.run, args=(ready,), daemon=True).start()
        ready.wait()

    def run(self, ready):
        asyncio.set_event_loop(self.loop)
        # All of 127.0.0.0/8, since a tunnel says whose it is by the address it leads to; nobody else is answered.
        server = self.loop.run_until_complete(asyncio.start_server(self.serve, "0.0.0.0", 0, backlog=1000))
        gate = self.loop.run_until_complete(asyncio.start_server(self.wait, "127.0.0.1", 0, backlog=1000))
        self.port, self.gate = (served.sockets[0].getsockname()[1] for served in (server, gate))
        ready.set()
        self.loop.run_forever()

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)

    def event(self, number):
        if number not in self.over:
            self.over[number] = asyncio.Event()
        return self.over[number]

    def ended(self, number):
        """The client has the whole response."""
        self.loop.call_soon_threadsafe(lambda: self.event(number).set())

    async def wait(self, reader, writer):
        number = int(await reader.readline() or 0)
        await self.event(number).wait()
        writer.write(b".")
        writer.close()

    async def serve(self, reader, writer):
        try:
            while writer.get_extra_info("peername")[0].startswith("127."):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1")
                self.note(head)
                await asyncio.sleep(self.delay)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    def note(self, head):
        line, *fields = head.split("\r\n")
        headers = [field.split(": ", 1) for field in fields if field]
        for name, _ in headers:
            if "hopspan" in name.lower():
                self.strangers[name] += 1
        parents = [value for name, value in headers if name.lower() == "traceparent"]
        _, way, cause, number = line.split(" ")[1].split("/")
        if len(parents) != (0 if cause == "inside" else 1):
            self.strangers["%d traceparents" % len(parents)] += 1
        self.calls.append((way, cause, int(number), parents[0].split("-")[1] if parents else None))
