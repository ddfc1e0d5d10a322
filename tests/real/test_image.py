"""The image: the commands of deploy/Dockerfile's head run for real, the image built (by buildah: no daemon), and its
binary run in it, as its user."""

import json
import os
import pathlib
import re
import subprocess
import unittest

from harness import BUILT, ROOT, Case, free_port, run, tool
from processes import get, wait_until

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
TRIPLE = "x86_64-unknown-linux-musl"


def commands():
    """The shell commands that the Dockerfile's head tells to run."""
    return re.findall(r"^#   \$ (.*)$", DOCKERFILE.read_text(), re.M)


class Image(Case):
    def shell(self, command, limit):
        try:
            return run(["bash", "-ec", command], cwd=ROOT, timeout=limit)
        except subprocess.TimeoutExpired:
            return 124, f"not done within {limit} s"

    def buildah(self, *arguments):
        store = BUILT / "images"
        base = ["buildah", "--root", store / "root", "--runroot", store / "run", "--storage-driver", "vfs"]
        code, output = run([*base, *arguments])
        self.assertEqual(0, code, output)
        return output

    def test_the_image_is_built_as_its_head_says_and_runs(self):
        if os.environ.get("REAL_IMAGE", "1") == "0":
            raise unittest.SkipTest("REAL_IMAGE=0")
        add_target, build, context, docker = commands()
        code, output = self.shell(add_target, 120)
        if code != 0:
            raise unittest.SkipTest(f"Rust's {TRIPLE} cannot be had here: {output.strip().splitlines()[-1]}")
        code, output = self.shell(build, 1800)
        self.assertEqual(0, code, output)
        code, output = self.shell(context, 60)
        self.assertEqual(0, code, output)
        folder = ROOT / "target" / "image"
        self.assertIn("statically linked", run(["ldd", folder / "hopspan"])[1].replace("not a dynamic executable", "statically linked"))
        size = (folder / "hopspan").stat().st_size
        self.assertLessEqual(size, 15 * 1024 * 1024)

        tool("buildah", "buildah is not installed, and there is no docker daemon")
        arguments = re.fullmatch(r"docker build -f (\S+) -t (\S+) (\S+)", docker).groups()
        self.buildah("build", "--isolation", "chroot", "--format", "docker", "-f", arguments[0], "-t", arguments[1], ROOT / arguments[2])
        config = json.loads(self.buildah("inspect", "--type", "image", arguments[1]))["Docker"]["config"]
        self.assertEqual(("65532:65532", ["/hopspan"]), (config["User"], config["Entrypoint"]))
        self.assertEqual(["CMD", "/hopspan", "health"], config["Healthcheck"]["Test"])
        container = self.buildah("from", arguments[1]).split()[-1]
        try:
            self.inside(pathlib.Path(self.buildah("mount", container).split()[-1]), config)
        finally:
            self.buildah("rm", container)

    def inside(self, root, config):
        """The binary, started in the image's own tree as the image's user: no shell, no libc, nothing to write to."""
        self.assertEqual(["/etc", "/hopspan"], sorted(f"/{path.name}" for path in root.iterdir() if path.name not in ("proc", "dev", "sys", "run")))
        chroot = ["chroot", "--userspec", config["User"], root, *config["Entrypoint"]]
        self.assertIn("hopspan", run([*chroot, "--version"])[1])
        app = self.app(*self.gunicorn())
        ports = {name: free_port() for name in ("inbound", "outbound", "status", "admin")}
        arguments = [part for name, port in ports.items() for part in (f"--{name}", f"127.0.0.1:{port}")]
        process = self.start("image", [*chroot, *config["Cmd"], "--app", f"127.0.0.1:{app}", *arguments], OTEL_TRACES_EXPORTER="none")
        wait_until("the image", lambda: get(f"http://127.0.0.1:{ports['status']}/readyz")[0] == 200, [process])
        self.assertEqual(200, get(f"http://127.0.0.1:{ports['inbound']}/orders/1/")[0])
        # Name resolution without a libc of the system.
        self.assertEqual(0, run([*chroot, "health", "--status", f"127.0.0.1:{ports['status']}"])[0])
        self.assertEqual(0, self.stop(process))
