"""What the real-parts tests share: tools, free ports, a sidecar, an app, a Collector.

Everything started is stopped by the test's clean-up, newest first, by session number (see the demo's processes.py).
"""

import http.client
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "deploy" / "demo" / "driver"))

from processes import Process, get, wait_until  # noqa: E402

HOPSPAN = os.environ.get("HOPSPAN_BIN", str(ROOT / "target" / "release" / "hopspan"))
BUILT = pathlib.Path(os.environ.get("REAL_TOOLS", ROOT / "target" / "real"))
VENV = pathlib.Path(sys.executable).parent
PROBE = ROOT / "tests" / "django"


def tool(name, why=None):
    """The path of a program, built here or on the machine; without it the test is skipped and says so."""
    for place in (BUILT / name, shutil.which(name), VENV / name):
        if place and os.access(str(place), os.X_OK):
            return str(place)
    raise unittest.SkipTest(why or f"{name} is not here")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Case(unittest.TestCase):
    """A test with processes and a folder of its own."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="hopspan-real-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        os.chmod(self.folder, 0o755)

    def env(self, **more):
        kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and not k.startswith("OTEL_")}
        return dict(kept, PYTHONDONTWRITEBYTECODE="1", PATH=f"{VENV}:{kept['PATH']}", **more)

    def start(self, name, command, cwd=None, **env):
        process = Process(name, [str(part) for part in command], self.env(**env), cwd or PROBE, self.folder / f"{name}.log")
        self.addCleanup(self.stop, process)
        return process

    def stop(self, process):
        """Stops a process as an init system would; its exit code. One that must be killed fails the test."""
        process.ask_to_stop()
        left = process.wait_stopped(time.monotonic() + 40)
        self.assertEqual([], left, f"{process.name} left processes behind")
        return process.popen.returncode

    def app(self, *command, ready="/healthz", **env):
        """The probe behind a server: `{port}` in the command is its port, which is returned."""
        port = free_port()
        process = self.start("app", [str(part).format(port=port) for part in command], **env)
        wait_until("the app", lambda: get(f"http://127.0.0.1:{port}{ready}")[0], [process])
        return port

    def gunicorn(self, *more):
        return ["gunicorn", "--config", str(PROBE / "gunicorn.conf.py"), *more, "--bind", "127.0.0.1:{port}", "probe.wsgi"]

    def sidecar(self, app, config=None, command=(), prefix=(), name="hopspan", inbound=None, outbound=None, **env):
        return Sidecar(self, app, config, command, prefix, name, {"inbound": inbound, "outbound": outbound}, env)

    def collector(self):
        return Collector(self)


class Sidecar:
    """`hopspan run` on free ports."""

    def __init__(self, case, app, config, command, prefix, name, doors, env):
        self.app = app
        self.ports = {name: free_port() for name in ("inbound", "outbound", "status", "admin")}
        arguments = [*prefix, HOPSPAN, "run", "--app", f"127.0.0.1:{app}"]
        for door, port in self.ports.items():
            arguments += [f"--{door}", doors.get(door) or f"127.0.0.1:{port}"]
        if config is not None:
            path = case.folder / f"{name}.yaml"
            path.write_text(config)
            arguments += ["--config", path]
        if command:
            arguments += ["--", *[str(part).format(port=app) for part in command]]
        env.setdefault("OTEL_TRACES_EXPORTER", "none")
        self.process = case.start(name, arguments, **env)
        wait_until("hopspan", lambda: self.ready(), [self.process])
        if command:
            wait_until("the app behind hopspan", lambda: self.get("/healthz")[0] == 200, [self.process])

    def url(self, name, path=""):
        return f"http://127.0.0.1:{self.ports[name]}{path}"

    def ready(self):
        return get(self.url("status", "/readyz"))[0] == 200

    def get(self, path):
        return get(self.url("inbound", path), timeout=30)

    def metrics(self):
        """Samples by name with labels, as floats."""
        text = get(self.url("status", "/metrics"))[1].decode()
        rows = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value.split(" # ")[0]) for name, value in rows if " # " not in name}

    def metric(self, prefix):
        return sum(value for name, value in self.metrics().items() if name.startswith(prefix))


class Collector:
    """The real OpenTelemetry Collector, writing what it got to a file of OTLP JSON lines."""

    CONFIG = """
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{grpc}"}}, http: {{endpoint: "127.0.0.1:{http}"}}}}}}}}
exporters: {{file: {{path: "{file}", append: true, flush_interval: 50ms}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [file]}}}}
"""

    def __init__(self, case):
        self.case = case
        self.program = tool("otelcol", "the Collector was not built (needs Go and the Go module proxy)")
        self.grpc, self.http = free_port(), free_port()
        self.file = case.folder / "spans.json"
        self.config = case.folder / "collector.yaml"
        self.config.write_text(self.CONFIG.format(grpc=self.grpc, http=self.http, file=self.file))
        self.start()

    def start(self):
        self.process = self.case.start("collector", [self.program, "--config", self.config])
        # Any answer will do: GET is not allowed there.
        wait_until("the Collector", lambda: get(f"http://127.0.0.1:{self.http}/v1/traces")[0], [self.process])

    def endpoint(self, protocol):
        return f"http://127.0.0.1:{self.grpc if protocol == 'grpc' else self.http}"

    def spans(self):
        """Every span so far: OTLP JSON's span with `resource` (attributes) and `scope` added."""
        found = []
        for line in self.file.read_text().splitlines() if self.file.exists() else []:
            for group in json.loads(line)["resourceSpans"]:
                for scoped in group["scopeSpans"]:
                    for span in scoped["spans"]:
                        found.append(
                            dict(
                                span,
                                resource=attributes(group["resource"]["attributes"]),
                                scope=scoped.get("scope", {}),
                                schema=group.get("schemaUrl") or scoped.get("schemaUrl"),
                                attributes=attributes(span.get("attributes", [])),
                            )
                        )
        return found

    def wait(self, count, limit=60, where=lambda span: True):
        """At least `count` spans."""

        def enough():
            spans = [span for span in self.spans() if where(span)]
            return spans if len(spans) >= count else None

        return wait_until(f"{count} spans at the Collector", enough, [self.process], limit)


def attributes(pairs):
    """OTLP JSON's attribute list as a dict; integers are text there."""
    return {pair["key"]: plain(pair["value"]) for pair in pairs}


def plain(value):
    (kind, inner), = value.items()
    if kind == "intValue":
        return int(inner)
    if kind == "arrayValue":
        return [plain(item) for item in inner.get("values", [])]
    return inner


def request(port, method, path, body=None, headers=None, connection=None, timeout=30):
    """One exchange by http.client: status, headers (list of pairs), body."""
    used = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    used.request(method, path, body, headers or {})
    response = used.getresponse()
    answer = response.status, response.getheaders(), response.read()
    if connection is None:
        used.close()
    return answer


def run(command, **options):
    """A program's code and output (both streams as one text)."""
    done = subprocess.run(
        [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
    )
    return done.returncode, done.stdout.decode(errors="replace")
