"""Runs the servers of the join matrix, one after another, and prints what became of their calls. See ../joins."""

import argparse
import concurrent.futures
import http.client
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time

from .callee import Callee

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, os.path.join(ROOT, "deploy", "demo", "driver"))

from processes import Failed, Process, get, stop_all, wait_until  # noqa: E402

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.path.dirname(sys.executable)
CALLS = 3

GUNICORN = ["gunicorn", "--config", HERE + "/gunicorn.conf.py", "--bind", "127.0.0.1:{port}", "--backlog", "2048"]
UWSGI = ["pyuwsgi", "--http-socket", "127.0.0.1:{port}", "--master", "--die-on-term", "--need-app", "--listen", "100"]
UWSGI += ["--module", "fanout.wsgi", "--virtualenv", os.path.dirname(BIN), "--disable-logging", "--enable-threads"]

CLIENTS = ["fresh", "pooled", "urllib", "httpx"]
STARTED = ["threads", "executor", "common_executor", "common_pool", "nested", "stream", "gather"]
OUTLIVING = ["late_thread", "late_executor", "order"]
BLOCKING = ["sync/" + way for way in CLIENTS + STARTED + OUTLIVING]
GREENLETS = ["sync/" + way for way in ("greenlets", "greenlet_pool", "native_threads", "late_greenlet")]
AWAITING = "fresh pooled aiohttp gather aiohttp_gather tasks to_thread in_executor in_sync stream late_task order"
AWAITING = ["async/" + way for way in AWAITING.split()] + ["sync/fresh", "sync/threads", "sync/executor", "sync/late_thread"]

#: name: (the program that must be there, its command, the ways of its requests)
SERVERS = {
    "sync-4": ("gunicorn", [*GUNICORN, "--workers", "4", "fanout.wsgi"], BLOCKING),
    "preload-4": ("gunicorn", [*GUNICORN, "--workers", "4", "--preload", "fanout.wsgi"], BLOCKING),
    "gthread-1x8": ("gunicorn", [*GUNICORN, "--workers", "1", "--threads", "8", "fanout.wsgi"], BLOCKING),
    "gthread-4x4": ("gunicorn", [*GUNICORN, "--workers", "4", "--threads", "4", "fanout.wsgi"], BLOCKING),
    "uwsgi-4": ("pyuwsgi", [*UWSGI, "--processes", "4"], BLOCKING),
    "uwsgi-1x4": ("pyuwsgi", [*UWSGI, "--processes", "1", "--threads", "4"], BLOCKING),
    "uvicorn": (
        "uvicorn",
        ["uvicorn", "--port", "{port}", "--no-access-log", "--backlog", "2048", "fanout.asgi:application"],
        AWAITING,
    ),
    "gunicorn-uvicorn-2": (
        "uvicorn",
        [*GUNICORN, "--workers", "2", "--worker-class", "uvicorn.workers.UvicornWorker", "fanout.asgi:application"],
        AWAITING,
    ),
    "gevent-2": (
        "gevent",
        [*GUNICORN, "--workers", "2", "--worker-class", "gevent", "fanout.wsgi"],
        # asgiref: no second event loop in a thread, and all greenlets are in one.
        [way for way in BLOCKING if way != "sync/gather"] + GREENLETS,
    ),
}
FAST = ["gthread-4x4", "uvicorn", "gevent-2"]


def missing(program):
    """Why a server cannot run here, or None."""
    if program == "gevent":
        try:
            import gevent  # noqa: F401
        except ImportError:
            return "gevent is not in the environment (tests/django/venv matrix)"
    elif shutil.which(program, path=BIN) is None:
        return program + " is not in the environment (tests/django/venv matrix)"
    return None


class Ports:
    """Free ones: asked for all at once, so that they differ."""

    def __init__(self):
        import socket

        names = ("app", "inbound", "outbound", "status", "admin")
        sockets = [socket.socket() for _ in names]
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        for name, held in zip(names, sockets):
            setattr(self, name, held.getsockname()[1])
        for held in sockets:
            held.close()


class Cell:
    """One server and its requests."""

    def __init__(self, hopspan, name, shim, folder):
        _, command, self.ways = SERVERS[name]
        self.name, self.ports, self.callee = name, Ports(), Callee()
        self.to = "http://127.0.0.1:%d" % self.callee.port
        run = [hopspan, "run", "--app", "127.0.0.1:%d" % self.ports.app]
        for door in ("inbound", "outbound", "status", "admin"):
            run += ["--" + door, "127.0.0.1:%d" % getattr(self.ports, door)]
        run += [] if shim else ["--no-shim"]
        run += ["--", *(part.format(port=self.ports.app) for part in command)]
        env = {key: value for key, value in os.environ.items() if not re.fullmatch(r"(?i)(otel|hopspan)_.*|\w*_proxy", key)}
        env.update(PATH=BIN + os.pathsep + env["PATH"], OTEL_TRACES_EXPORTER="none", FANOUT_IDLE=self.to)
        self.process = Process(name, run, env, HERE, os.path.join(folder, name + ".log"))
        self.failures = []

    def wait_ready(self):
        url = "http://127.0.0.1:%d/healthz" % self.ports.inbound
        wait_until(self.name, lambda: get(url)[0] == 200, [self.process])

    def load(self, count, clients):
        numbers = iter(range(1, count + 1))
        lock = threading.Lock()

        def client():
            connection = http.client.HTTPConnection("127.0.0.1", self.ports.inbound, timeout=120)
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return connection.close()
                way = self.ways[number % len(self.ways)]
                path = "/%s/?number=%d&to=%s&gate=127.0.0.1:%d" % (way, number, self.to, self.callee.gate)
                try:
                    connection.request("GET", path, headers={"traceparent": "00-%s-00000000000000aa-01" % trace_of(number)})
                    response = connection.getresponse()
                    body = response.read()
                    if response.status != 200:
                        self.failures.append("%s: %d %s" % (path, response.status, body[:100]))
                except (OSError, http.client.HTTPException) as error:
                    self.failures.append("%s: %r" % (path, error))
                    connection.close()
                self.callee.ended(number)

        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            for done in [pool.submit(client) for _ in range(clients)]:
                done.result()
        self.seconds = time.monotonic() - began

    def settle(self, count):
        """Waits for calls that come after their requests."""
        late = sum(self.ways[number % len(self.ways)].split("/")[1].startswith("late") for number in range(1, count + 1))
        came = lambda: sum(cause == "late" for _, cause, _, _ in list(self.callee.calls))  # noqa: E731
        wait_until("late calls of " + self.name, lambda: came() >= late, [self.process])

    def metrics(self):
        """Counts of joins by evidence, and of reasons for none."""
        text = get("http://127.0.0.1:%d/metrics" % self.ports.status)[1].decode()
        found = re.findall(r'^hopspan_joins(?:_abstained)?_total\{\w+="(\w+)"\} (\d+)', text, re.M)
        return {label: int(count) for label, count in found}


def trace_of(number):
    return "%032x" % (number + (1 << 64))


class Tally:
    """What became of the calls of one way."""

    def __init__(self):
        self.exact = self.wrong = self.none = self.unrelated = self.wanted = 0


def tally(cell, count):
    """By way. `wanted` are the calls that a request caused while it was in flight."""
    ways, complaints = {}, list(cell.failures)
    numbers = {trace_of(number): number for number in range(1, count + 1)}
    for number in range(1, count + 1):
        name = cell.ways[number % len(cell.ways)].replace("/", "-")
        ways.setdefault(name, Tally()).wanted += CALLS
    for way, cause, number, trace in list(cell.callee.calls):
        row = ways.setdefault(way, Tally())
        joined = numbers.get(trace)
        if cause == "caused" and joined == number:
            row.exact += 1
        elif cause == "ordered" and joined == number:
            row.unrelated += 1  # the first order, of the request that started the worker
        elif joined is not None:
            row.wrong += 1
            complaints.append("%s: a call %s of %d came with the trace of %d" % (way, cause, number, joined))
        elif cause == "caused":
            row.none += 1
        else:
            row.unrelated += 1
    for name, row in ways.items():
        if row.wanted != row.exact + row.none + row.wrong and row.wanted and not row.wrong:
            complaints.append("%s: %d calls came, not %d" % (name, row.exact + row.none, row.wanted))
    for header, times in cell.callee.strangers.items():
        complaints.append("%s reached the callee %d times" % (header, times))
    return ways, complaints


def show(cell, ways, count):
    print("\n%s: %d requests in %.0f s; %s" % (cell.name, count, cell.seconds, cell.metrics()))
    print("  %-24s %8s %8s %8s %8s   %s" % ("way", "caused", "exact", "wrong", "none", "for nobody or late: none"))
    total = Tally()
    for name, row in sorted(ways.items()):
        print("  %-24s %8d %8d %8d %8d %8d" % (name, row.wanted, row.exact, row.wrong, row.none, row.unrelated))
        for field in vars(total):
            setattr(total, field, getattr(total, field) + getattr(row, field))
    print("  %-24s %8d %8d %8d %8d %8d" % ("all", total.wanted, total.exact, total.wrong, total.none, total.unrelated), flush=True)
    return total


def run(given, name, folder):
    """One server; its total and complaints, or why it was skipped."""
    cell = Cell(given.hopspan, name, not given.no_shim, folder)
    try:
        cell.wait_ready()
        count = given.requests or (400 if given.fast else 1500)
        cell.load(count, given.clients)
        cell.settle(count)
        ways, complaints = tally(cell, count)
        return show(cell, ways, count), complaints
    finally:
        stop_all([cell.process])
        cell.callee.loop.call_soon_threadsafe(cell.callee.loop.stop)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("hopspan")
    parser.add_argument("servers", nargs="*")
    for option in ("--requests", "--clients"):
        parser.add_argument(option, type=int)
    for option in ("--fast", "--no-shim"):
        parser.add_argument(option, action="store_true")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows, skipped, bad = [], [], []
    with tempfile.TemporaryDirectory(prefix="hopspan-joins-") as folder:
        for name in given.servers or (FAST if given.fast else SERVERS):
            why = missing(SERVERS[name][0])
            if why:
                skipped.append("%s: %s" % (name, why))
                continue
            try:
                total, complaints = run(given, name, folder)
            except Failed as failure:
                bad.append("%s: %s" % (name, failure))
                continue
            rows.append((name, total))
            bad += ["%s: %s" % (name, complaint) for complaint in complaints[:10]]
            if total.none and not given.no_shim:
                bad.append("%s: %d calls were not joined" % (name, total.none))
    print("\n%-20s %8s %8s %8s %8s %9s" % ("server", "caused", "exact", "wrong", "none", "exact %"))
    for name, total in rows:
        share = 100 * total.exact / max(1, total.wanted)
        print("%-20s %8d %8d %8d %8d %8.2f%%" % (name, total.wanted, total.exact, total.wrong, total.none, share))
    for line in skipped:
        print("skipped " + line)
    for line in bad:
        print("BAD " + line, file=sys.stderr)
    return 1 if bad or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
