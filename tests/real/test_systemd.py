"""The systemd unit: what systemd-analyze says of it, and its commands run for real as its user."""

import os
import re
import shutil
import subprocess
import unittest
import urllib.request

from harness import HOPSPAN, ROOT, Case, free_port, run, tool
from processes import get, wait_until

UNIT = ROOT / "deploy" / "systemd" / "hopspan.service"
INSTALLED = "/usr/local/bin/hopspan"


def setting(name):
    """Values of a setting of the unit, in order."""
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.M)


class Unit(Case):
    def analyze(self):
        return tool("systemd-analyze", "systemd is not installed")

    def test_systemd_takes_the_unit_and_the_drop_in(self):
        """As installed, but for the place of the binary."""
        folder = self.folder / "system"
        (folder / "app.service.d").mkdir(parents=True)
        (folder / "hopspan.service").write_text(UNIT.read_text().replace(INSTALLED, HOPSPAN))
        shutil.copy(ROOT / "deploy/systemd/app.service.d/hopspan.conf", folder / "app.service.d")
        (folder / "app.service").write_text("[Service]\nExecStart=/bin/true\n")
        for unit in ("hopspan.service", "app.service"):
            env = dict(os.environ, SYSTEMD_UNIT_PATH=f"{folder}:")
            code, output = run([self.analyze(), "verify", "--man=no", folder / unit], env=env)
            mine = [line for line in output.splitlines() if "hopspan" in line or "app.service" in line]
            self.assertEqual((0, []), (code, mine), output)

    def test_systemd_takes_the_sockets(self):
        folder = self.folder / "system"
        folder.mkdir()
        (folder / "hopspan.service").write_text(UNIT.read_text().replace(INSTALLED, HOPSPAN))
        env = dict(os.environ, SYSTEMD_UNIT_PATH=f"{folder}:")
        for name in ("hopspan.socket", "hopspan-outbound.socket"):
            shutil.copy(UNIT.parent / name, folder)
            code, output = run([self.analyze(), "verify", "--man=no", folder / name], env=env)
            mine = [line for line in output.splitlines() if "hopspan" in line]
            self.assertEqual((0, []), (code, mine), output)

    def test_systemd_s_own_activation_starts_it_with_the_sockets_names(self):
        """systemd-socket-activate does what systemd does with the .socket units: a first client starts hopspan."""
        activate = tool("systemd-socket-activate", "systemd is not installed")
        app, clients, calls, status, admin = self.app(*self.gunicorn()), *(free_port() for _ in range(4))
        doors = ["--status", f"127.0.0.1:{status}", "--admin", f"127.0.0.1:{admin}", "--app", f"127.0.0.1:{app}"]
        listen = ["-l", f"127.0.0.1:{calls}", "-l", f"127.0.0.1:{clients}", "--fdname=outbound:inbound"]
        process = self.start("activate", [activate, *listen, "-E", "OTEL_TRACES_EXPORTER=none", HOPSPAN, "run", *doors])
        wait_until("the sockets", lambda: "Listening on" in process.log.read_text(), [process])
        self.assertEqual(200, get(f"http://127.0.0.1:{clients}/healthz", timeout=30)[0])
        by_proxy = urllib.request.ProxyHandler({"http": f"http://127.0.0.1:{calls}"})
        called = urllib.request.build_opener(by_proxy).open(f"http://127.0.0.1:{app}/healthz", timeout=30)
        self.assertEqual(200, called.status)

    def test_a_mistake_would_be_seen(self):
        broken = self.folder / "broken.service"
        broken.write_text(UNIT.read_text().replace(INSTALLED, HOPSPAN).replace("ProtectSystem=strict", "ProtectSystem=stricter"))
        self.assertIn("protect system value", run([self.analyze(), "verify", "--man=no", broken])[1])

    def test_it_is_exposed_no_more_than_promised(self):
        code, output = run([self.analyze(), "security", "--offline=yes", "--no-pager", UNIT])
        exposure = float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", output).group(1))
        self.assertLessEqual(exposure, 2.0)

    def command(self, name):
        return setting(name)[0].replace(INSTALLED, HOPSPAN).split()

    def test_its_commands_work_with_the_shipped_config(self):
        config = self.folder / "hopspan.yaml"
        shutil.copy(ROOT / "config" / "hopspan.yaml", config)
        check = [part.replace("/etc/hopspan/hopspan.yaml", str(config)) for part in self.command("ExecStartPre")]
        code, output = run(check)
        self.assertEqual(0, code, output)
        config.write_text("inbund: {}\n")
        code, output = run(check)
        self.assertEqual(1, code, output)

    def test_calls_are_joined_beside_a_running_app_with_the_unit_s_user_and_capability(self):
        """The app and hopspan as two services of one user; hopspan with the unit's capability and no other."""
        if os.geteuid() != 0:
            raise unittest.SkipTest("needs root, to become the unit's user")
        user = setting("User")[0]
        drop = [tool("setpriv"), "--reuid", user, "--regid", setting("Group")[0], "--clear-groups", "--no-new-privs"]
        capability = setting("AmbientCapabilities")[0].lower().replace("cap_", "+")
        bounded = f"-all,{capability}"
        with_capability = [*drop, "--bounding-set", bounded, "--inh-caps", bounded, "--ambient-caps", bounded, "--"]
        callee = self.app(*self.gunicorn())
        # The outbound port must be known before the app starts: it is the app's environment.
        port = free_port()
        sidecar = self.sidecar(port, prefix=with_capability)
        self.assertEqual(user, self.user_of(sidecar.process.popen.pid))
        proxy = sidecar.url("outbound")
        command = [*drop, "--bounding-set", "-all", "--", *[p.format(port=port) for p in self.gunicorn("--workers", "2")]]
        app = self.start("wrapped-app", command, HTTP_PROXY=proxy, http_proxy=proxy)
        wait_until("the app", lambda: sidecar.get("/healthz")[0] == 200, [app, sidecar.process])
        for number in range(20):
            path = f"/call/?url=http://127.0.0.1:{callee}/orders/{number}/"
            self.assertEqual(200, sidecar.get(path)[0])
        joined = sidecar.metric('hopspan_joins_total{evidence="serial"')
        self.assertGreaterEqual(joined, 19, sidecar.metrics())

    def user_of(self, pid):
        return subprocess.run(["ps", "-o", "user=", "-p", str(pid)], stdout=subprocess.PIPE, check=True).stdout.decode().strip()

    def test_reload_tells_the_truth(self):
        sidecar = self.sidecar(self.app(*self.gunicorn()), "service: one\n")
        reload = [*self.command("ExecReload"), "--admin", f"127.0.0.1:{sidecar.ports['admin']}"]
        config = self.folder / "hopspan.yaml"
        config.write_text("service: two\ninbound: {routes: [{path: 'x/<int:pk>/'}]}\n")
        code, output = run(reload)
        self.assertEqual(0, code, output)
        config.write_text("inbound: {routes: [{path: 'x/<whole:pk>/'}]}\n")
        code, output = run(reload)
        self.assertEqual(1, code, output)
        self.assertIn("hopspan.yaml:1", output)
        self.assertEqual(200, get(sidecar.url("inbound", "/healthz"))[0])
