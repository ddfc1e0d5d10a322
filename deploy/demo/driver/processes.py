"""Starting, watching and ending the demo's processes, and ports: who holds one.

Every process is started in a session of its own. Its members are found by that session's number when it is time to
end them, so nothing of the demo outlives it, and nothing else is ever touched.
"""

import ctypes
import errno
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

PR_SET_PDEATHSIG = 1
STOP_WAIT = 40.0  # seconds that a process has after SIGTERM: more than hopspan's drain of 25


class Failed(Exception):
    """Something the user must know; its text is the whole message."""


def _die_with_parent():
    """In the child, before exec: TERM when the driver dies, were it by SIGKILL (Linux)."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Process:
    """A started program with its log file."""

    def __init__(self, name, command, env, cwd, log):
        self.name, self.log = name, log
        with open(log, "wb") as out:
            self.popen = subprocess.Popen(
                command,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform.startswith("linux") else None,
            )

    def check(self):
        """Raises with the end of the log if the process has ended."""
        code = self.popen.poll()
        if code is not None:
            raise Failed(f"{self.name} ended with code {code}; the end of {self.log}:\n{tail(self.log)}")

    def members(self):
        """Live processes of this session: the program, its children, theirs."""
        found = []
        for entry in os.listdir("/proc") if os.path.isdir("/proc") else []:
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/stat") as file:
                        fields = file.read().rpartition(")")[2].split()
                except OSError:
                    continue  # gone meanwhile
                if fields[0] != "Z" and int(fields[3]) == self.popen.pid:
                    found.append(int(entry))
        return found

    def ask_to_stop(self):
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)

    def wait_stopped(self, deadline):
        """Waits for the program, then ends what is left of its session. Tells what had to be killed."""
        try:
            self.popen.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass
        left = self.members()
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.popen.wait()
        return left


def stop_all(processes):
    """TERM to all in the order given, each awaited. Names of those that had to be killed."""
    killed = []
    for process in processes:
        process.ask_to_stop()
        if process.wait_stopped(time.monotonic() + STOP_WAIT):
            killed.append(process.name)
    return killed


def tail(path, lines=12):
    try:
        with open(path, errors="replace") as file:
            return "".join("  | " + line for line in file.readlines()[-lines:])
    except OSError as error:
        return f"  | ({error})"


def get(url, timeout=30.0):
    """Status and body of a GET; no proxy. Status 0 where nobody answered."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError as error:
        return 0, str(error).encode()


def wait_until(what, ask, processes=(), limit=60.0):
    """Polls `ask` until it is truthy; fails when a process has ended or the limit (seconds) has passed."""
    deadline = time.monotonic() + limit
    pause = 0.01
    while True:
        answer = ask()
        if answer:
            return answer
        for process in processes:
            process.check()
        if time.monotonic() > deadline:
            logs = "".join(f"\nthe end of {process.log}:\n{tail(process.log)}" for process in processes)
            raise Failed(f"{what}: not within {limit:.0f} s{logs}")
        time.sleep(pause)
        pause = min(0.2, pause * 1.5)


def taken(port):
    """Whether something listens on a loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise Failed(f"port {port} cannot be used: {error.strerror}") from None
    return False


def holder(port):
    """Who listens on a port, as `command (pid N)`, if /proc tells."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as file:
                rows = [line.split() for line in file.readlines()[1:]]
        except OSError:
            continue
        # state 0A is LISTEN
        inodes |= {row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
    for pid in os.listdir("/proc") if inodes else []:
        try:
            links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")] if pid.isdigit() else []
            if any(f"socket:[{inode}]" in links for inode in inodes):
                with open(f"/proc/{pid}/comm") as file:
                    return f"{file.read().strip()} (pid {pid})"
        except OSError:
            continue  # not ours to look at, or gone
    return None
