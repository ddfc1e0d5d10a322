"""Where the demo's files and ports are."""

import pathlib

from processes import Failed, holder, taken

HERE = pathlib.Path(__file__).resolve().parent
DEMO = HERE.parent
ROOT = DEMO.parent.parent
SERVICES = ["order", "payment", "inventory"]  # callers first: they are stopped in this order
BASE = 7000  # the ports written in the yaml files are 7010 to 7033
PER_SERVICE = {"inbound": 0, "outbound": 1, "status": 2, "admin": 3, "app": 4}


class Ports:
    """Every port of the demo: by default those of the yaml files and the viewer's own; `--port` moves them all."""

    def __init__(self, base):
        self.base = BASE if base is None else base
        self.viewer = {"page": 4319, "grpc": 4317, "http": 4318}
        if base is not None:
            self.viewer = {"page": base + 1, "grpc": base + 2, "http": base + 3}

    def of(self, service, which):
        return self.base + 10 * (1 + SERVICES.index(service)) + PER_SERVICE[which]

    def all(self):
        yield from ((port, f"the viewer's {name} port") for name, port in self.viewer.items())
        yield from ((self.of(s, which), f"{s}'s {which} port") for s in SERVICES for which in PER_SERVICE)

    def check(self):
        used = [(port, what, holder(port)) for port, what in self.all() if taken(port)]
        if used:
            lines = [f"port {port} ({what}) is taken{' by ' + who if who else ''}" for port, what, who in used]
            raise Failed(
                "\n      ".join(lines)
                + "\n      Stop that, or move every port of the demo: deploy/demo/run --port 7500"
            )
