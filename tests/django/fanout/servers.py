"""The rows of the join matrix: servers, the ways their requests call out, and how many calls each rung must join.

A floor is a share of the calls that a rung can prove, in percent. A call joined to another request is never allowed.
"""

import os
import sys

from .rungs import forbidden

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.path.dirname(sys.executable)

GUNICORN = ["gunicorn", "--config", HERE + "/gunicorn.conf.py", "--bind", "{app}", "--backlog", "2048"]
UWSGI = ["pyuwsgi", "--http-socket", "{app}", "--master", "--die-on-term", "--need-app", "--listen", "100"]
UWSGI += ["--module", "fanout.wsgi", "--virtualenv", os.path.dirname(BIN), "--disable-logging", "--enable-threads"]

#: Calls in the thread that serves the request.
PLAIN = ["sync/" + way for way in "fresh pooled urllib httpx stream".split()]
#: The same, by what the shim does not know.
STRANGE = ["sync/pycurl", "sync/tunnel"]
#: Calls in that thread beside work that serves nobody, comes too late, or runs in another process.
BESIDE = ["sync/" + way for way in "late_thread late_executor order closing child".split()]
#: The app's own trace.
OWN = ["sync/own", "async/own"]
FANOUT = ["sync/" + way for way in "threads executor common_executor common_pool nested gather".split()]
BLOCKING = [*PLAIN, *STRANGE, *BESIDE, "sync/own", *FANOUT]
GREENLETS = ["sync/" + way for way in ("greenlets", "greenlet_pool", "native_threads", "late_greenlet")]
AWAITING = "fresh pooled aiohttp own gather aiohttp_gather tasks to_thread in_executor in_sync stream late_task order"
AWAITING = ["async/" + way for way in AWAITING.split()]
AWAITING += ["sync/" + way for way in "fresh threads executor late_thread pycurl tunnel child".split()]

#: The other one, behind gunicorn, takes uvloop and httptools where they are installed.
_uvicorn = ["uvicorn", "--loop", "asyncio", "--http", "h11", "--no-access-log", "--backlog", "2048", "--port", "{port}"]

#: name: (the program that must be there, its command, the ways of its requests)
SERVERS = {
    "sync-4": ("gunicorn", [*GUNICORN, "--workers", "4", "fanout.wsgi"], [*BLOCKING, "sync/forked"]),
    "unix-4": ("gunicorn", [*GUNICORN, "--workers", "4", "fanout.wsgi"], BLOCKING),
    "preload-4": ("gunicorn", [*GUNICORN, "--workers", "4", "--preload", "fanout.wsgi"], [*BLOCKING, "sync/forked"]),
    "gthread-1x8": ("gunicorn", [*GUNICORN, "--workers", "1", "--threads", "8", "fanout.wsgi"], BLOCKING),
    "gthread-4x4": ("gunicorn", [*GUNICORN, "--workers", "4", "--threads", "4", "fanout.wsgi"], BLOCKING),
    "uwsgi-4": ("pyuwsgi", [*UWSGI, "--processes", "4"], BLOCKING),
    "uwsgi-1x4": ("pyuwsgi", [*UWSGI, "--processes", "1", "--threads", "4"], BLOCKING),
    "uvicorn": ("uvicorn", [*_uvicorn, "fanout.asgi:application"], AWAITING),
    "uvicorn-2": (
        "uvicorn",
        [*GUNICORN, "--workers", "2", "--worker-class", "uvicorn.workers.UvicornWorker", "fanout.asgi:application"],
        AWAITING,
    ),
    "gevent-2": (
        "gevent",
        [*GUNICORN, "--workers", "2", "--worker-class", "gevent", "fanout.wsgi"],
        # asgiref allows no second event loop in a thread, and all greenlets are in one; libcurl blocks them all.
        [way for way in BLOCKING if way not in ("sync/gather", "sync/pycurl", "sync/closing")] + GREENLETS,
    ),
}

#: One request at a time in each process; several, each in a thread.
SERIAL = ("sync-4", "unix-4", "preload-4", "uwsgi-4")
THREADED = ("gthread-1x8", "gthread-4x4", "uwsgi-1x4")

#: Settings of `correlation:`, the shim or not. `all` is hopspan as it comes; `off` is none at all, for comparison.
RUNGS = {
    "token": ({"token": True, "thread": False, "serial": False}, True),
    "thread": ({"token": False, "thread": True, "serial": False}, False),
    "serial": ({"token": False, "thread": False, "serial": True}, False),
    "all": (None, True),
    "off": ({"token": False, "thread": False, "serial": False}, False),
}

#: What a fast run looks at: where each rung is at home.
FAST = [
    ("gthread-4x4", "token"),
    ("uvicorn", "token"),
    ("gevent-2", "token"),
    ("sync-4", "serial"),
    ("uwsgi-4", "serial"),
    ("sync-4", "thread"),
    ("gthread-4x4", "thread"),
    ("uwsgi-1x4", "thread"),
    ("uvicorn", "all"),
    ("gthread-1x8", "all"),
    ("gthread-1x8", "off"),
]


def provable(rung, server, way):
    """Whether the rung can prove the calls that a request makes this way: those count for its floor."""
    if way in OWN or rung == "off":
        return False
    if rung == "all":
        return any(provable(each, server, way) for each in ("token", "thread") if not forbidden(each))
    if rung == "token":
        return way not in STRANGE
    in_the_thread = way in PLAIN or way in STRANGE or way in BESIDE or way == "sync/forked"
    if rung == "thread":
        # It refuses as soon as the answer has begun: work after the response looks no different.
        return in_the_thread and way != "sync/stream" and (server in SERIAL or server in THREADED)
    # libcurl waits for several things at once, which proves nothing to the serial rung.
    return in_the_thread and way != "sync/pycurl" and server in SERIAL


def floor(rung, server, fast):
    """Percent of the provable calls that must be joined. The serial proof waits for a thread to be scheduled, so that
    a machine with other work costs it joins: in a fast run, which is every build's, it is asked for less."""
    if rung != "serial":
        return 100.0
    if fast:
        return 50.0
    # On a unix socket the kernel does not say when an answer came: one that hopspan reads late may have ended after the
    # worker's next call, for all it knows.
    return 99.0 if server.startswith(("uwsgi", "unix")) else 99.5


def bare(way):
    """As in a URL of a call: `sync-fresh`."""
    return way.replace("/", "-")
