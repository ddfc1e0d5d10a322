"""Rounds of the adversary: in each, hopspan with one rung, an app of one temperament, and random requests.

What a round does follows from its seed; how the processes meet does not, and is different every time.
"""

import asyncio
import json
import os
import random
import re
import socket
import sys
from collections import Counter

from ends import Ends

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(HERE)), "deploy", "demo", "driver"))

from processes import Failed, Process, get, stop_all, wait_until  # noqa: E402, F401

RUNGS = ("serial", "thread", "token")
CALLS = 1000  # in a round, about
CLIENTS = 12

#: Acts of which a round has all, by how often they are drawn.
PLAIN = {"fresh": 6, "kept": 6, "reopened": 2, "split": 2, "polled": 1, "burn": 4, "rest": 3}
#: Acts of which a round has a few: most of them spoil the proof for what is near them.
RUDE = ["split_threads", "upload", "fire", "leave", "shared", "thread", "beside", "late", "forged", "child", "holding_child", "daemon"]
RUDE += ["child_answers", "passed_call", "child_works", "nested", "die"]
#: What goes with an act.
WITH = {"leave": "collect", "passed_call": "received_call"}

#: What an app may be like besides (`unix`: it listens on a unix socket).
TEMPERS = ["background", "direct", "idle", "keep", "loop", "mates", "multiplex", "recycle", "relay", "shared", "threads", "timeouts", "unix"]


class Plan:
    """One round, by its seed."""

    def __init__(self, rung, seed, acts=None, flags=None):
        draw = random.Random("%s %d" % (rung, seed))
        self.rung, self.seed = rung, seed
        self.workers = draw.randint(1, 4)
        odds = {"threads": 0.1 if rung == "serial" else 0.5, "loop": 0.1, "multiplex": 0.1, "relay": 0.1}
        drawn = [flag for flag in TEMPERS if draw.random() < odds.get(flag, 0.3)]
        excluded = tempers_excluded(rung, drawn)
        self.flags = [flag for flag in drawn if flag not in excluded]
        self.past = 0.1 if draw.random() < 0.3 else 0.0
        chosen = dict(PLAIN)
        for act in draw.sample(RUDE, draw.randint(0, 4)):
            chosen.update({act: 2, WITH.get(act, act): 2})
        self.acts = {act: chosen.get(act, 2) for act in acts or chosen}
        self.flags = flags or self.flags
        self.draw = draw

    def __str__(self):
        return "%s round %d (%d workers; %s)" % (self.rung, self.seed, self.workers, " ".join(self.flags))

    def some(self, most):
        return self.draw.choices(list(self.acts), list(self.acts.values()), k=self.draw.randint(0, most))

    def path(self):
        """A request's path, and whether it goes past hopspan."""
        past = self.draw.random() < self.past
        before, after = self.some(4), self.some(2) if self.draw.random() < 0.2 else []
        excluded_before, excluded_after = acts_excluded(self, past)
        before = [act for act in before if act not in excluded_before]
        after = [act for act in after if act not in excluded_after]
        return (",".join(before) + (";" + ",".join(after) if after else ""), past)


# What a rung cannot see and takes for granted, here and nowhere else: rounds do without.


def tempers_excluded(rung, flags):
    """What an app is not like, that is like `flags`.

    serial (src/correlation/serial.rs): where other threads serve, the main one calls for nobody.
    """
    if "threads" not in flags:
        return []
    return ["multiplex", "loop"] + (["idle"] if rung == "serial" else [])


def acts_excluded(plan, past):
    """What a request does not do before and after its response; `past`: it goes past hopspan.

    serial (src/correlation/serial.rs): what was sent between two requests of ours is not waited for within the second. A
    request that goes past hopspan is between them, too; it is not taken up within one of ours. And where requests are
    taken up within others, no call is made for an inner one that has been answered.
    thread (src/correlation/thread/decide.rs): it sees requests past hopspan on TCP, not on a unix socket.
    """
    before, after = set(), set()
    if plan.rung == "serial":
        after.add("leave")
        if past:
            before.add("leave")
        if "nested" in plan.acts:
            after.update(plan.acts)
    if plan.past and (plan.rung == "serial" or plan.rung == "thread" and "unix" in plan.flags):
        before.add("nested")
        after.add("nested")
    return before, after


def ports(count):
    """Free ones: asked for all at once, so that they differ."""
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    numbers = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return numbers


class Round:
    """What came of one plan. `calls`: (cause, act, claimed)."""

    def __init__(self, plan, launch, folder):
        self.plan, self.launch, self.folder = plan, launch, folder
        self.reasons, self.evidence = Counter(), Counter()
        self.available = self.why = None

    async def run(self):
        ends = Ends()
        app, inbound, outbound, status, admin = ports(5)
        if "unix" in self.plan.flags:
            app = os.path.join(self.folder, "%s-%d.sock" % (self.plan.rung, self.plan.seed))
        async with ends.listening() as callee:
            process = self.start(app, inbound, outbound, status, admin, callee)
            try:
                url = "http://127.0.0.1:%d" % inbound
                await asyncio.to_thread(wait_until, "the app", lambda: get(url + "/rest")[0] == 200, [process])
                await asyncio.sleep(0.3)  # a process must be older than a connection to be known for its maker
                await self.load(ends, inbound, app)
                await asyncio.to_thread(self.ask, status, admin)
            finally:
                await asyncio.to_thread(stop_all, [process])
        self.calls, self.failures, self.strangers = ends.calls, ends.failures, ends.strangers
        return self

    def start(self, app, inbound, outbound, status, admin, callee):
        path = os.path.join(self.folder, "hopspan.yaml")
        rungs = {rung: rung == self.plan.rung for rung in RUNGS}
        config = {
            "inbound": {"listen": "127.0.0.1:%d" % inbound, "app": "127.0.0.1:%d" % app if isinstance(app, int) else "unix:" + app},
            "outbound": {"listen": "127.0.0.1:%d" % outbound},
            "status": {"listen": "127.0.0.1:%d" % status},
            "admin": {"listen": "127.0.0.1:%d" % admin},
            "correlation": rungs,
        }
        with open(path, "w") as file:
            json.dump(config, file)
        numbers = [str(number) for number in (app, outbound, callee, self.plan.workers)]
        command = [sys.executable, os.path.join(HERE, "app.py"), *numbers, *self.plan.flags]
        env = {key: value for key, value in os.environ.items() if not re.fullmatch(r"(?i)otel_.*|\w*_proxy", key)}
        hopspan, more = self.launch(path, command)
        env.update(more, OTEL_TRACES_EXPORTER="none")
        log = os.path.join(self.folder, "%s-%d.log" % (self.plan.rung, self.plan.seed))
        return Process("hopspan", hopspan, env, HERE, log)

    async def load(self, ends, inbound, app):
        keep = "keep" in self.plan.flags

        async def client():
            while len(ends.calls) < CALLS and ends.numbers < 4 * CALLS:
                paths = [self.plan.path() for _ in range(self.plan.draw.randint(1, 4))]
                await ends.client(inbound, paths, keep, app)

        await asyncio.gather(*(client() for _ in range(CLIENTS)))

    def ask(self, status, admin):
        """What hopspan counted, and whether its rung could work."""
        text = get("http://127.0.0.1:%d/metrics" % status)[1].decode()
        for label, count in re.findall(r'^hopspan_joins_total\{\w+="(\w+)"\} (\d+)', text, re.M):
            self.evidence[label] += int(count)
        for label, count in re.findall(r'^hopspan_joins_abstained_total\{\w+="(\w+)"\} (\d+)', text, re.M):
            self.reasons[label] += int(count)
        said = json.loads(get("http://127.0.0.1:%d/correlation" % admin)[1])
        (standing,) = [standing for standing in said["rungs"] if standing["rung"] == self.plan.rung]
        self.available = standing["state"] == "ready"
        self.why = "%(state)s: %(why)s" % standing
