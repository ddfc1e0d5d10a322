"""Which request the running code works for.

A context variable holds it, so asyncio tasks and `asyncio.to_thread` have it by themselves. Code that a request
*started* in a thread, a pool or a greenlet has it as `Handed`. That work may go on after the request and begin to
work for others, so it loses the request where it takes orders from elsewhere (`carry.py`).

gevent starts greenlets with an empty context, but they share their spawner's `spawn_tree_locals`: there the request
is found by those.
"""

import contextvars
import sys

HEADER = "hopspan-token"
LONGEST = 64  # hopspan's are 22 characters

#: In `spawn_tree_locals`.
KEY = "hopspan_request"

#: The value before anybody set one: the only one for which a greenlet's spawner is asked.
_UNSET = object()
_current = contextvars.ContextVar("hopspan_request", default=_UNSET)

#: `greenlet.getcurrent`, once greenlet is imported.
_getcurrent = None
#: Greenlets that share one context would take each other's requests for theirs: then there is none at all.
_unsafe = False


class Request:
    """One inbound request. `ended` is set when the app is done with it."""

    __slots__ = ("token", "ended", "task", "tree")

    def __init__(self, token):
        self.token = token
        self.ended = False
        self.task = None  # weak reference to the asyncio task that serves it
        self.tree = None  # (greenlet, its spawn_tree_locals before)

    def header(self):
        """The header's value. A call after the end says so: hopspan may link it, but never joins it."""
        return self.token + ";ended" if self.ended else self.token


class Handed:
    """The request of code that a request started, and that runs on its own."""

    __slots__ = ("request", "thread")

    def __init__(self, request, thread=False):
        self.request = request
        self.thread = thread  # a thread of its own, rather than one task of a pool


def current():
    """The request that the running code works for, or None."""
    found = _found()
    return found.request if isinstance(found, Handed) else found


def handed():
    """As `Handed`, if the running code was started by a request rather than being the one that serves it."""
    found = _found()
    if isinstance(found, Handed):
        return found
    if found is not None and _in_another_task(found):
        return Handed(found)
    return None


def use(value):
    """Makes a Request, a Handed or None what the running code works for. Returns what puts back the former."""
    return _current.set(value)


def lose():
    """The running code works for nobody from now on, and neither does what it starts."""
    _current.set(None)
    if _getcurrent is None:
        return
    greenlet = _getcurrent()
    tree = getattr(greenlet, "spawn_tree_locals", None)
    if tree and KEY in tree:  # shared with the other greenlets of the request: it is not changed
        greenlet.spawn_tree_locals = {key: value for key, value in tree.items() if key != KEY}


def put_back(former):
    _current.reset(former)


def begin(token):
    """A request begins here. Returns it, or None where there is nothing to end (no token, or an outer app began it)."""
    if not token or len(token) > LONGEST or _unsafe:
        _current.set(None)  # what this thread or task did before is over, in any case
        return None
    found = _current.get()
    if isinstance(found, Request) and found.token == token and not found.ended:
        return None
    request = Request(token)
    request.task = _task()
    _current.set(request)
    _plant(request)
    return request


def end(request):
    """The app is done with what `begin` returned."""
    if request is None:
        return
    request.ended = True
    if _current.get() is request:
        _current.set(None)
    if request.tree is not None:
        greenlet, before = request.tree
        request.tree = None
        greenlet.spawn_tree_locals = before


def greenlets(module):
    """Hook of the `greenlet` module."""
    global _getcurrent, _unsafe
    if getattr(module, "GREENLET_USE_CONTEXT_VARS", False):
        _getcurrent = module.getcurrent
    else:
        _unsafe = True


def _found():
    found = _current.get()
    if found is not _UNSET:
        return found
    if _getcurrent is None:
        return None
    tree = getattr(_getcurrent(), "spawn_tree_locals", None)
    request = tree.get(KEY) if tree else None
    return Handed(request) if isinstance(request, Request) else None


def _plant(request):
    """For greenlets that this one spawns. A copy, since the dictionary is shared with the server and all requests."""
    if _getcurrent is None or "gevent" not in sys.modules:
        return
    greenlet = _getcurrent()
    before = getattr(greenlet, "spawn_tree_locals", None)
    if before is None:
        return
    greenlet.spawn_tree_locals = dict(before, **{KEY: request})
    request.tree = (greenlet, before)


def _task():
    task = _running_task()
    if task is None:
        return None
    import weakref

    return weakref.ref(task)


def _in_another_task(request):
    """Whether a task other than the serving one runs. Threads that a task waits for have no task."""
    if request.task is None:
        return False
    task = _running_task()
    return task is not None and request.task() is not task


def _running_task():
    asyncio = sys.modules.get("asyncio")
    try:
        return asyncio.current_task()
    except (AttributeError, RuntimeError):  # asyncio is not (fully) imported; no loop runs in this thread
        return None


HOOKS = {"greenlet": greenlets}
