"""A pod without a cluster: containers as namespaces, users and capabilities (`unshare`, `nsenter`, `setpriv`).

All containers of a pod share a network namespace of their own; each has its own mount namespace, and a PID namespace
that is its own or the pod's (`shareProcessNamespace`), whose process 1 is a pause process of another user, as in
Kubernetes. No control groups, no seccomp, no image: the machine's files are the containers' files.
"""

import contextlib
import ctypes
import http.server
import json
import os
import threading
from dataclasses import dataclass

from harness import run, tool
from processes import wait_until

CLONE_NEWNET = 0x40000000
# What Docker and containerd leave to root in a container.
DEFAULT = (
    "chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw sys_chroot mknod audit_write setfcap"
).split()
READ_ONLY = """
mount --make-rprivate /
awk '$2 !~ "^/(proc|sys|dev)(/|$)" { print $2 }' /proc/self/mounts | while read -r at; do mount -o remount,bind,ro "$at"; done
! touch /written 2>/dev/null || exit 3
"""
NO_SYS = "mount -t tmpfs -o ro none /sys\n"


@dataclass(frozen=True)
class Container:
    """How a container is started."""

    uid: int = 65532
    effective: tuple = ()  # capabilities in effect
    added: tuple = ()  # capabilities that are added, and not in effect: those of a user other than root in Kubernetes
    shares_pids: bool = False
    read_only: bool = False
    sys: bool = True

    def privileges(self, mapped):
        sets = lambda names: ",".join(["-all", *[f"+{name}" for name in names]])  # noqa: E731
        ambient = self.effective if self.uid else ()
        groups = "--keep-groups" if mapped else "--clear-groups"
        return [
            *[tool("setpriv"), "--pdeathsig", "KILL", "--reuid", self.uid, "--regid", self.uid, groups],
            *["--no-new-privs", "--bounding-set", sets(self.effective + self.added)],
            *["--inh-caps", sets(ambient), "--ambient-caps", sets(ambient), "--"],
        ]

    def setup(self):
        return (READ_ONLY if self.read_only else "") + ("" if self.sys else NO_SYS) + 'exec "$@"'


class Pod:
    """Its namespaces, for as long as the test runs. `mapped`: a user namespace in which only root exists."""

    def __init__(self, case, mapped=False):
        self.case = case
        self.inside = "echo pause >/proc/self/comm; ip link set lo up && touch {ready} && exec {pause} sleep infinity"
        ready = case.folder / "pause-ready"
        pause = " ".join(["setpriv --pdeathsig KILL", "" if mapped else "--reuid 65535 --clear-groups"])
        user = ["--user", "--map-root-user"] if mapped else []
        script = self.inside.format(ready=ready, pause=pause)
        command = [*self.born(), "unshare", *user, "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script]
        self.mapped = mapped
        self.process = case.start("pause", command)
        wait_until("the pod", ready.exists, [self.process])
        self.pause = child(self.process.popen.pid)

    @staticmethod
    def born():
        """The way to every container: it dies with the test, and what it starts with it."""
        return [tool("setpriv"), "--pdeathsig", "KILL", "--"]

    def prefix(self, container):
        """What starts a command in a container of this pod."""
        enter = ["nsenter", f"--target={self.pause}", "--net", *(["--user"] if self.mapped else [])]
        own = ["unshare", "--mount", "--mount-proc"]
        if container.shares_pids:
            enter.append("--pid")
        else:
            own += ["--pid", "--fork", "--kill-child"]
        return [*self.born(), *enter, *own, "sh", "-c", container.setup(), "sh", *container.privileges(self.mapped)]

    def exec(self, process, container, command):
        """As `kubectl exec` does: the container's namespaces, user and capabilities. Code and output."""
        inner = main_process(process)
        enter = ["nsenter", f"--target={inner}", "--net", "--mount", "--pid", *(["--user"] if self.mapped else [])]
        return run([*enter, *container.privileges(self.mapped), *command])

    @contextlib.contextmanager
    def joined(self):
        """The test itself in the pod's network namespace (this thread, and threads and processes that it starts)."""
        with open("/proc/self/ns/net") as back, open(f"/proc/{self.pause}/ns/net") as there:
            switch(there)
            try:
                yield self
            finally:
                switch(back)


def switch(namespace):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def child(pid):
    """The only child of a process."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        only, = file.read().split()
    return int(only)


def main_process(process):
    """The container's own process: what the last of `nsenter` and `unshare` started."""
    pid = process.popen.pid
    while True:
        with open(f"/proc/{pid}/comm") as file:
            if file.read().strip() not in ("nsenter", "unshare"):
                return pid
        pid = child(pid)


class Callee:
    """A service in the pod's network that answers with the trace headers it got, each line of its own."""

    def __init__(self, case):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                body = json.dumps(self.headers.get_all("traceparent", [])).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        case.addCleanup(self.server.server_close)
        case.addCleanup(self.server.shutdown)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"


def why_not():
    """Why this machine can make no pods, or None."""
    if os.geteuid() != 0:
        return "needs root, to make namespaces"
    code, output = run(["unshare", "--net", "--pid", "--fork", "--mount-proc", "ip", "link", "set", "lo", "up"])
    return None if code == 0 else f"namespaces cannot be made here: {output.strip()}"
