"""One cell of the join matrix: a server behind hopspan with some rungs, and its requests."""

import concurrent.futures
import http.client
import json
import os
import re
import socket
import sys
import threading
import time

from . import rungs
from .callee import Callee
from .servers import BIN, HERE, RUNGS, SERVERS
from .spans import Receiver

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(HERE)), "deploy", "demo", "driver"))

from processes import Failed, Process, get, stop_all, wait_until  # noqa: E402

__all__ = ["Cell", "Failed", "trace_of", "own_trace_of"]


def free_ports(count):
    """Ports that were free when asked for, all at once so that they differ."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def trace_of(number):
    return "%032x" % (number + (1 << 64))


def own_trace_of(number):
    return "%032x" % (number + (2 << 64))


class Cell:
    def __init__(self, hopspan, server, rung, folder):
        _, command, self.ways = SERVERS[server]
        self.name, self.server, self.rung = "%s, %s" % (server, rung), server, rung
        self.callee, self.receiver, self.failures = Callee(), Receiver(), []
        self.to = "http://127.0.0.1:%d" % self.callee.port
        port, *doors = free_ports(5)
        self.doors = dict(zip(("inbound", "outbound", "status", "admin"), doors))
        base = os.path.join(folder, "%s-%s" % (server, rung))
        app = "unix:%s.sock" % base if server.startswith("unix") else "127.0.0.1:%d" % port
        run = [hopspan, "run", "--app", app]
        for door, number in self.doors.items():
            run += ["--" + door, "127.0.0.1:%d" % number]
        settings, shim = RUNGS[rung]
        if settings is not None:
            with open(base + ".yaml", "w") as file:
                json.dump({"correlation": settings}, file)  # JSON is YAML
            run += ["--config", base + ".yaml"]
        run += [] if shim else ["--no-shim"]
        run += ["--", *(part.format(app=app, port=port) for part in command)]
        self.process = Process(self.name, run, self.environment(), HERE, base + ".log")

    def environment(self):
        env = {key: value for key, value in os.environ.items() if not re.fullmatch(r"(?i)(otel|hopspan)_.*|\w*_proxy", key)}
        env.update(PATH=BIN + os.pathsep + env["PATH"], FANOUT_IDLE=self.to, OTEL_BSP_MAX_QUEUE_SIZE="100000")
        env["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:%d" % self.receiver.server_port
        return env

    def url(self, door, path):
        return "http://127.0.0.1:%d%s" % (self.doors[door], path)

    def wait_ready(self):
        """Until the app answers and the rung is there. Raises where hopspan says that it is not."""
        wait_until(self.name, lambda: get(self.url("inbound", "/healthz"))[0] == 200, [self.process])
        for rung in {"all": ["token", "thread", "serial"], "off": []}.get(self.rung, [self.rung]):
            if rungs.forbidden(rung):
                continue
            state, told = wait_until(rung, lambda rung=rung: self.settled(rung), [self.process])
            if state != "ready":
                raise Failed("the machine allows the %s rung, and hopspan says: %s" % (rung, told))

    def settled(self, rung):
        """What hopspan says of a rung, once it knows."""
        state, told = rungs.standing(get(self.url("admin", "/correlation"))[1], rung)
        return None if state == "waiting" else (state, told)

    def way(self, number):
        return self.ways[number % len(self.ways)]

    def load(self, count, clients):
        numbers = iter(range(1, count + 1))
        lock = threading.Lock()

        def client():
            connection = http.client.HTTPConnection("127.0.0.1", self.doors["inbound"], timeout=120)
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return connection.close()
                self.ask(connection, number)
                self.callee.ended(number)

        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            for done in [pool.submit(client) for _ in range(clients)]:
                done.result()
        self.seconds = time.monotonic() - began

    def ask(self, connection, number):
        path = "/%s/?number=%d&to=%s&gate=127.0.0.1:%d" % (self.way(number), number, self.to, self.callee.gate)
        try:
            connection.request("GET", path, headers={"traceparent": "00-%s-00000000000000aa-01" % trace_of(number)})
            response = connection.getresponse()
            body = response.read()
            if response.status != 200:
                self.failures.append("%s: %d %s" % (path, response.status, body[:100]))
        except (OSError, http.client.HTTPException) as error:
            self.failures.append("%s: %r" % (path, error))
            connection.close()

    def settle(self, count):
        """Waits for calls that come after their requests."""
        ways = [self.way(number).split("/")[1] for number in range(1, count + 1)]
        late = {"late": sum(way.startswith("late") for way in ways), "closing": ways.count("closing")}

        def came():
            causes = [cause for _, cause, _, _ in list(self.callee.calls)]
            return all(causes.count(cause) >= wanted for cause, wanted in late.items())

        wait_until("late calls of " + self.name, came, [self.process])
        for rung, times in rungs.disagreements(get(self.url("admin", "/correlation"))[1]).items():
            self.failures.append("the %s rung disagreed with a stronger one %d times" % (rung, times))

    def stop(self):
        """Ends hopspan, which flushes its spans, and the app with it."""
        stop_all([self.process])
        self.callee.close()
        self.receiver.shutdown()
        self.receiver.server_close()
