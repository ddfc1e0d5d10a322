"""hopspan and gunicorn in the shapes that pods have: who shares what with whom, and who may do what.

For each shape: calls pass, every hop carries exactly one valid context, calls are joined by exactly the rung that the
shape allows and never to another request, and `/correlation` and `hopspan doctor` say which rung that is and what the
others lack.
"""

import concurrent.futures
import json
import os
import signal
import time
import unittest
from dataclasses import dataclass, field, replace

import pods
from harness import HOPSPAN, VENV, Case, free_port, request, run
from pods import Callee, Container, Pod
from processes import get, wait_until

PAIR = ("bpf", "perfmon")
LOOK = ("sys_ptrace", "dac_read_search")
REQUESTS, CALLS = 16, 2


@dataclass(frozen=True)
class Shape:
    """A pod. `evidence`: what joins its calls, else `unlinked`: why none are. `off`: rungs that do not work, and why."""

    hopspan: Container
    app: Container
    off: dict = field(default_factory=dict)
    evidence: str = ""
    unlinked: str = ""
    gunicorn: tuple = ("--workers", "2")
    mapped: bool = False
    intruder: bool = False  # a process of somebody else among those that hopspan sees


alone, beside = Container(), Container(shares_pids=True)
root, root_beside = Container(uid=0), Container(uid=0, shares_pids=True)
NO_CAPABILITY = ("HOP141", "CAP_BPF and CAP_PERFMON are missing")
NOT_VISIBLE = ("HOP132", "not visible")
OTHER_USER = ("HOP133", "the app runs as user 1000, hopspan as user 65532")

SHAPES = {
    "separate processes, no capability": Shape(
        alone, alone, {"thread": NO_CAPABILITY, "serial": NOT_VISIBLE}, unlinked="unknown_caller"
    ),
    "separate processes, and somebody else s among hopspan s": Shape(
        alone, alone, {"thread": NO_CAPABILITY, "serial": NOT_VISIBLE}, unlinked="no_process_access", intruder=True
    ),
    "separate processes, CAP_BPF and CAP_PERFMON": Shape(
        replace(root, effective=PAIR), alone, {"serial": NOT_VISIBLE}, evidence="thread"
    ),
    "separate processes, both capabilities, threads": Shape(
        replace(root, effective=PAIR, read_only=True),
        alone,
        {"serial": NOT_VISIBLE},
        evidence="thread",
        gunicorn=("--workers", "1", "--threads", "4"),
    ),
    "separate processes, CAP_BPF alone": Shape(
        replace(root, effective=("bpf",)),
        alone,
        {"thread": ("HOP141", "CAP_PERFMON is missing"), "serial": NOT_VISIBLE},
        unlinked="unknown_caller",
    ),
    "separate processes, both capabilities, no BTF": Shape(
        replace(root, effective=PAIR, sys=False),
        alone,
        {"thread": ("HOP142", "btf"), "serial": NOT_VISIBLE},
        unlinked="unknown_caller",
    ),
    "nothing at all": Shape(
        replace(alone, read_only=True, sys=False),
        root,
        {"thread": NO_CAPABILITY, "serial": NOT_VISIBLE},
        unlinked="unknown_caller",
    ),
    "shared processes, one user": Shape(beside, beside, {"thread": NO_CAPABILITY}, evidence="serial"),
    "shared processes, one user, read-only root": Shape(
        replace(beside, read_only=True), replace(beside, read_only=True), {"thread": NO_CAPABILITY}, evidence="serial"
    ),
    "shared processes, one user, capabilities added without effect": Shape(
        replace(beside, added=PAIR), beside, {"thread": NO_CAPABILITY}, evidence="serial"
    ),
    "shared processes, other user": Shape(
        beside,
        replace(beside, uid=1000),
        {"thread": NO_CAPABILITY, "serial": OTHER_USER},
        unlinked="no_process_access",
    ),
    "shared processes, other user, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH": Shape(
        replace(beside, effective=LOOK), replace(beside, uid=1000), {"thread": NO_CAPABILITY}, evidence="serial"
    ),
    "shared processes, other user, CAP_SYS_PTRACE alone": Shape(
        replace(beside, effective=LOOK[:1]),
        replace(beside, uid=1000),
        {"thread": NO_CAPABILITY, "serial": OTHER_USER},
        unlinked="no_process_access",
    ),
    "shared processes, other user, CAP_BPF and CAP_PERFMON": Shape(
        replace(root_beside, effective=PAIR),
        beside,
        {"serial": ("HOP133", "user 65532, hopspan as user 0")},
        evidence="thread",
    ),
    "root beside root, every capability dropped": Shape(root_beside, root_beside, {"thread": NO_CAPABILITY}, evidence="serial"),
    "root without capabilities beside root with the usual ones": Shape(
        root_beside,
        replace(root_beside, effective=tuple(pods.DEFAULT)),
        {"thread": NO_CAPABILITY, "serial": ("HOP135", "capabilities that hopspan lacks")},
        unlinked="no_process_access",
    ),
    "an app that changes its user by itself": Shape(
        beside,
        replace(root_beside, effective=tuple(pods.DEFAULT)),
        {"thread": NO_CAPABILITY, "serial": ("HOP135", "changed its user")},
        unlinked="no_process_access",
        gunicorn=("--workers", "2", "--user", "65532", "--group", "65532"),
    ),
    "a user namespace, both capabilities": Shape(
        replace(root_beside, effective=PAIR),
        root_beside,
        {"thread": ("HOP146", "forbidden")},
        evidence="serial",
        mapped=True,
    ),
}


def why_no_thread_rung():
    """Why this machine does not allow the thread rung, or None."""
    _, output = run([HOPSPAN, "doctor", "-o", "json", "--admin", "127.0.0.1:1", "--app", "127.0.0.1:1"])
    found = [check["found"] for check in json.loads(output)["checks"] if check["found"].startswith("thread: off")]
    return found[0] if found else None


class Pods(Case):
    """One test for each shape, named by it."""

    @classmethod
    def setUpClass(cls):
        why = pods.why_not()
        if why:
            raise unittest.SkipTest(why)
        cls.no_thread = why_no_thread_rung()
        cls.ran = {}

    @classmethod
    def tearDownClass(cls):
        """All shapes, with what came of them."""
        joined = {kind: sum(ran[0] == kind for ran in cls.ran.values()) for kind in ("thread", "serial", "")}
        calls = sum(ran[1] for ran in cls.ran.values())
        print(
            f"pods: {len(cls.ran)} of {len(SHAPES)} shapes, {calls} calls; joined by thread in {joined['thread']}, "
            f"by serial in {joined['serial']}, by nothing in {joined['']}; 0 to another request"
        )

    def stop(self, process):
        """As a kubelet does: the signal is for the container's process, not for what made its namespaces."""
        if process.name == "pause":
            process.popen.kill()
        elif process.popen.poll() is None:
            os.kill(pods.main_process(process), signal.SIGTERM)
        left = process.wait_stopped(0 if process.name == "pause" else time.monotonic() + 40)
        if process.name != "pause":
            self.assertEqual([], left, f"{process.name} left processes behind")
        return process.popen.returncode

    def run_shape(self, name, shape):
        if shape.evidence == "thread" and self.no_thread:
            if os.environ.get("HOPSPAN_TEST_THREAD_RUNG"):
                self.fail(f"the thread rung is said to work here: {self.no_thread}")
            self.skipTest(self.no_thread)
        with Pod(self, shape.mapped).joined() as pod:
            try:
                calls = self.in_pod(pod, shape)
            finally:
                self.doCleanups()
        self.ran[name] = (shape.evidence, calls)

    def in_pod(self, pod, shape):
        port = free_port()
        sidecar = self.sidecar(port, prefix=pod.prefix(shape.hopspan))
        if shape.intruder:
            pid = pods.main_process(sidecar.process)
            enter = ["nsenter", f"--target={pid}", "--pid", "setpriv", "--pdeathsig", "KILL", "--reuid", "4242", "--clear-groups"]
            self.start("intruder", [*pod.born(), *enter, "sleep", "infinity"])
        command = [part.format(port=port) for part in self.gunicorn(*shape.gunicorn, "--worker-tmp-dir", "/dev/shm")]
        proxy = sidecar.url("outbound")
        env = {"HTTP_PROXY": proxy, "http_proxy": proxy}
        if "--user" in shape.gunicorn:
            # What root finds of Python's library (in /root, say) the other user may not read: it is loaded before.
            early = "import sys, encodings.idna, netrc, probe.urls; from gunicorn.app.wsgiapp import run; sys.exit(run())"
            command = [VENV / "python", "-c", early, "--preload", *command[1:]]
        app = self.start("app", [*pod.prefix(shape.app), *command], **env)
        wait_until("the app", lambda: sidecar.get("/healthz")[0] == 200, [app, sidecar.process])
        joined = self.requests(sidecar, Callee(self))
        self.judge(sidecar, shape, joined)
        self.told(pod, sidecar, shape)
        return REQUESTS * CALLS

    def requests(self, sidecar, callee):
        """Requests of distinct traces, several at once; how many of their calls were joined to them."""
        trace = lambda number: f"{number + 1:032x}"  # noqa: E731
        others = {trace(number) for number in range(REQUESTS)}
        valid = "^00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-9a-f]$"

        def one(number):
            path = f"/call/?n={CALLS}&client={['requests', 'session'][number % 2]}&url={callee.url}"
            headers = {"traceparent": f"00-{trace(number)}-00000000000000aa-01"}
            status, _, body = request(sidecar.ports["inbound"], "GET", path, headers=headers)
            self.assertEqual(200, status, body)
            answer = json.loads(body)
            # A header that came twice would have a comma.
            self.assertRegex(answer["traceparent"], valid)
            self.assertEqual(trace(number), answer["traceparent"].split("-")[1])
            joined = 0
            for call in answer["calls"]:
                seen, = call["body"]
                self.assertRegex(seen, valid)
                self.assertNotIn(seen.split("-")[1], others - {trace(number)}, "joined to another request")
                joined += seen.split("-")[1] == trace(number)
            self.assertEqual(CALLS, len(answer["calls"]))
            return joined

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            return sum(pool.map(one, range(REQUESTS)))

    def judge(self, sidecar, shape, joined):
        calls = self.correlation(sidecar)["calls"]
        self.assertEqual(REQUESTS * CALLS, sum(calls["joined"].values()) + sum(calls["unlinked"].values()), calls)
        self.assertEqual(joined, sum(calls["joined"].values()), calls)
        if shape.evidence:
            self.assertEqual([shape.evidence], list(calls["joined"]), calls)
            # A worker may not come to wait in time on a busy machine: then there is no parent.
            self.assertGreaterEqual(joined, (1.0 if shape.evidence == "thread" else 0.8) * REQUESTS * CALLS, calls)
        else:
            self.assertEqual({shape.unlinked: REQUESTS * CALLS}, calls["unlinked"], calls)

    def correlation(self, sidecar):
        return json.loads(get(sidecar.url("admin", "/correlation"))[1])

    def told(self, pod, sidecar, shape):
        """/correlation and doctor say which rungs work, and what the others lack."""
        rungs = {rung["rung"]: rung for rung in self.correlation(sidecar)["rungs"]}
        admin = f"127.0.0.1:{sidecar.ports['admin']}"
        code, output = pod.exec(sidecar.process, shape.hopspan, [HOPSPAN, "doctor", "-o", "json", "--admin", admin])
        self.assertEqual(0, code, output)
        checks = [check for check in json.loads(output)["checks"] if check["group"] == "joins"]
        for rung in ("thread", "serial"):
            check, = [check for check in checks if check["found"].startswith(f"{rung}: ")]
            if rung in shape.off:
                wanted, words = shape.off[rung]
                self.assertEqual(("off", wanted), (rungs[rung]["state"], rungs[rung]["code"]), rungs[rung])
                self.assertIn(words, rungs[rung]["why"])
                self.assertEqual(wanted, check["code"], check)
                self.assertIn(words, check["found"])
                self.assertTrue(check["fix"], check)
            elif rung == "thread" and self.no_thread:
                self.assertEqual("off", rungs[rung]["state"])
            else:
                self.assertEqual("ready", rungs[rung]["state"], rungs[rung])
                self.assertEqual("ok", check["mark"], check)
        # Where nothing joins calls, that is a warning, and not one before.
        warned = any(check["mark"] in ("warn", "error") for check in checks)
        self.assertEqual(not shape.evidence, warned, checks)


def named(name, shape):
    def test(self):
        self.run_shape(name, shape)

    return test


for name, shape in SHAPES.items():
    setattr(Pods, "test_" + name.replace(" ", "_").replace(",", ""), named(name, shape))
