"""The demo: starts the viewer and three services behind hopspan, sends orders, shows a failing one as one trace.

Called by ../run, which has built hopspan and made the Python environment that this runs in.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import load
import orders
import tree
from layout import BASE, DEMO, ROOT, SERVICES, Ports
from processes import Failed, Process, get, stop_all, wait_until
from viewer import Viewer

class Interrupted(Exception):
    """INT or TERM came."""

    def __init__(self, number):
        super().__init__(number)
        self.number = number


class Demo:
    """What runs: the viewer and the services, each with its log under target/demo."""

    def __init__(self, hopspan, ports, shim=True):
        self.hopspan, self.ports, self.shim = hopspan, ports, shim
        self.state = ROOT / "target" / ("demo" if ports.base == BASE else f"demo-{ports.base}")
        shutil.rmtree(self.state, ignore_errors=True)
        self.state.mkdir(parents=True)
        self.processes = []  # in the order in which they are stopped
        self.viewer = Viewer(f"http://127.0.0.1:{ports.viewer['page']}")

    def env(self, service=None):
        """This environment without what would steer hopspan or `requests` from outside."""
        outside = re.compile(r"(?i)(otel|hopspan)_.*|(https?|all|no)_proxy")
        env = {name: value for name, value in os.environ.items() if not outside.fullmatch(name)}
        env["PATH"] = f"{pathlib.Path(sys.executable).parent}:{env.get('PATH', '')}"
        env.update(PYTHONDONTWRITEBYTECODE="1", DEMO_STATE=str(self.state))
        env["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{self.ports.viewer['http']}"
        env["OTEL_BSP_SCHEDULE_DELAY"] = "200"  # ms: someone is watching
        env["HOPSPAN_VIEW_PAGE"] = f"127.0.0.1:{self.ports.viewer['page']}"
        if service:
            env.update(SERVICE=service, DJANGO_SETTINGS_MODULE="settings", OTEL_SERVICE_NAME=service)
        return env

    def start(self, name, command, env, first=False):
        process = Process(name, command, env, DEMO / "services", self.state / f"{name}.log")
        self.processes.insert(0 if first else len(self.processes), process)
        return process

    def migrate(self):
        """inventory's database: made anew, so that every run starts with the same shelf."""
        command = [sys.executable, "-m", "django", "migrate", "--verbosity", "0"]
        env = dict(self.env("inventory"), PYTHONPATH=str(DEMO / "services"))
        done = subprocess.run(command, env=env, cwd=DEMO / "services", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            raise Failed("django migrate failed:\n" + done.stdout.decode(errors="replace"))

    def config(self, service):
        """The service's yaml file; with other ports, a copy that has them."""
        path = DEMO / f"{service}.yaml"
        if self.ports.base == BASE:
            return path
        moved = re.sub(r"\b70(\d\d)\b", lambda m: str(self.ports.base + int(m.group(1))), path.read_text())
        copy = self.state / path.name
        copy.write_text(moved)
        return copy

    def gunicorn(self, service):
        return ["gunicorn", "--bind", f"127.0.0.1:{self.ports.of(service, 'app')}", "wsgi"]

    def start_viewer(self):
        command = [self.hopspan, "view"]
        for name, port in self.ports.viewer.items():
            command += [f"--{name}", f"127.0.0.1:{port}"]
        viewer = self.start("viewer", command, self.env())
        wait_until("the viewer", lambda: get(self.viewer.address)[0], [viewer])

    def start_services(self):
        """All three at once; ready once hopspan says so and the app answers through it."""
        started = []
        for service in SERVICES:
            command = [self.hopspan, "run", "--app", f"127.0.0.1:{self.ports.of(service, 'app')}"]
            command += [] if self.shim else ["--no-shim"]
            command += ["--config", str(self.config(service)), "--", *self.gunicorn(service)]
            process = Process(service, command, self.env(service), DEMO / "services", self.state / f"{service}.log")
            self.processes.insert(len(started), process)  # callers first, the viewer last
            started.append(process)
        for service in SERVICES:
            ready = f"http://127.0.0.1:{self.ports.of(service, 'status')}/readyz"
            app = f"http://127.0.0.1:{self.ports.of(service, 'inbound')}/healthz"
            wait_until(f"{service} ready", lambda: get(ready)[0] == 200 and get(app)[0] == 200, started)

    def stop(self):
        """Ends all; a second signal ends it at once."""

        def now(number, _):
            for process in self.processes:
                for pid in process.members():
                    os.kill(pid, signal.SIGKILL)
            os._exit(128 + number)

        signal.signal(signal.SIGINT, now)
        signal.signal(signal.SIGTERM, now)
        killed = stop_all(self.processes)
        if killed:
            raise Failed(f"had to be killed after SIGTERM: {', '.join(killed)} (logs in {self.state})")

    def order_address(self):
        return ("127.0.0.1", self.ports.of("order", "inbound"))


def show_failing(demo):
    """Prints the waterfall of the newest failing trace by the command that a user would type. Returns its faults."""
    command = [demo.hopspan, "trace", "--errors"]
    env = dict(os.environ, HOPSPAN_VIEW_PAGE=demo.env()["HOPSPAN_VIEW_PAGE"])
    print(f"\n$ {shown(demo.hopspan)} trace --errors\n", flush=True)
    if subprocess.run(command, env=env).returncode != 0:
        raise Failed("hopspan trace --errors failed")
    print(flush=True)
    as_json = subprocess.run([*command, "--json"], env=env, stdout=subprocess.PIPE)
    if as_json.returncode != 0:
        raise Failed("hopspan trace --errors --json failed")
    return [f"trace --errors: {fault}" for fault in tree.faults(tree.spans_of(json.loads(as_json.stdout)))]


def shown(path):
    """A path as short as it can be typed from here."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)


def send_mix(demo):
    """The orders of the demo, one after another. Returns them with the status each got."""
    sent = []
    for number, sku in enumerate(orders.MIX, 1):
        order = orders.Order(f"demo-{number:02}-{sku}", sku)
        answer = orders.send(demo.order_address(), order)
        if answer.status != order.status:
            raise Failed(f"order {order.id}: status {answer.status}, not {order.status}\n{demo.state}/*.log may tell why")
        sent.append(order)
    by_status = {status: sum(order.status == status for order in sent) for status in (200, 402, 500)}
    print(f"sent {len(sent)} orders: {by_status[200]} placed, {by_status[402]} declined, {by_status[500]} failed (500)")
    return sent


def check_traces(demo, sent):
    """Faults of the sent orders' traces: each must be one whole tree."""
    found = demo.viewer.wait_for({order.id: order.spans for order in sent})
    wrong = []
    for order in sent:
        spans = found.get(order.id, [])
        wrong += [f"{order.id}: {fault}" for fault in tree.faults(spans, order.spans, order.status)]
    return wrong


def explore(demo):
    host = "http://127.0.0.1:%d" % demo.ports.of("order", "inbound")
    hopspan = shown(demo.hopspan)
    moved = "" if demo.ports.base == BASE else f" --viewer 127.0.0.1:{demo.ports.viewer['page']}"
    config = shown(demo.config("order"))
    print(
        f"""It is all up; look around (Ctrl-C ends it):

  curl -d sku=mug    {host}/orders/my-1/     placed
  curl -d sku=piano  {host}/orders/my-2/     declined by payment (402)
  curl -d sku=teapot {host}/orders/my-3/     sold out: breaks in inventory

  {hopspan} trace --last{moved}     the newest trace
  {hopspan} trace --errors{moved}   the newest with an error; --json for a script
  viewer    {demo.viewer.address}/
  metrics   http://127.0.0.1:{demo.ports.of('order', 'status')}/metrics
  config    edit {config}; it is reloaded at once
  logs      {shown(demo.state)}/*.log""",
        flush=True,
    )


def arguments():
    parser = argparse.ArgumentParser(
        prog="deploy/demo/run",
        description="One failing request across three uninstrumented Django services, read as one trace.",
        epilog="HOPSPAN_BIN: a hopspan binary to take instead of building one. PYTHON: the Python to use.",
    )
    parser.add_argument("--once", action="store_true", help="exit after the trace; non-zero if it is not one whole tree")
    parser.add_argument("--port", type=int, metavar="BASE", help="move every port of the demo (viewer: BASE+1 to +3)")
    parser.add_argument("--load", type=int, metavar="N", help="send N orders, compare each with a run without hopspan")
    parser.add_argument("--clients", type=int, default=32, metavar="C", help="concurrent clients of --load (32)")
    parser.add_argument("--no-shim", action="store_true", help="join by the serial proof alone, without the Python shim")
    parser.add_argument("--preflight", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--hopspan", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.port is not None and not 1024 <= given.port <= 65000:
        parser.error("--port: 1024 to 65000")
    return given


def run(demo, given):
    """The demo itself; the exit code."""
    demo.ports.check()
    began = time.monotonic()
    demo.migrate()
    direct = load.direct(demo, given.load, given.clients) if given.load else None
    demo.start_viewer()
    demo.start_services()
    print(f"viewer and three services behind hopspan are ready after {time.monotonic() - began:.1f} s", flush=True)
    if direct:
        return load.through_hopspan(demo, given.load, given.clients, direct)
    sent = send_mix(demo)
    wrong = check_traces(demo, sent)
    wrong += show_failing(demo)
    if wrong:
        print("NOT one whole tree each:\n  " + "\n  ".join(wrong), file=sys.stderr)
    else:
        failing = sent[-1]
        print(f"checked: {len(sent)} orders, one trace and one tree each; a failing one has {failing.spans} spans\n")
    if not given.once:
        explore(demo)
        while True:
            signal.pause()
    return 1 if wrong else 0


def interrupt(number, _):
    raise Interrupted(number)


def main():
    given = arguments()
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    demo, code = None, 1
    try:
        if given.preflight:
            Ports(given.port).check()
            return 0
        demo = Demo(given.hopspan, Ports(given.port), not given.no_shim)
        code = run(demo, given)
    except Interrupted as stop:
        asked_for = stop.number == signal.SIGINT and not given.once and not given.load
        code = 0 if asked_for else 128 + stop.number
    except Failed as failure:
        print(f"demo: {failure}", file=sys.stderr)
    finally:
        try:
            if demo:
                demo.stop()
        except Failed as failure:
            print(f"demo: {failure}", file=sys.stderr)
            code = code or 1
    return code


if __name__ == "__main__":
    sys.exit(main())
