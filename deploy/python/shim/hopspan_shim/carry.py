"""What a request starts works for it too: threads, tasks of thread pools, gevent's own threads.

Only hopspan's one variable is handed on: a copied context would show the app's other variables (Flask's request,
say) where they were not visible before.

What a request happens to start need not work for it: often the first request starts a worker that serves all.
So these work for nobody:

* a thread that was made a daemon, in so many words: it may be abandoned, so no answer waits for it;
* what is started while a module is imported, for instance by Django, which imports its views in the first request;
* a forked process.

And what works for a request stops to as soon as it takes orders from elsewhere:

* an item of a queue into which not all came from that same request (LIFO queues are pools of connections: not orders);
* an event that was set, and not by that same request;
* a thread that waits on a condition in code of its own, which is a hand-made queue.

What is not seen: a worker that looks for its orders by itself from time to time, or is woken by a lock, a socket, or
asyncio's events.
"""

import os
import sys

from . import cause, inbound
from .hooks import replace, trouble

ATTRIBUTE = "_hopspan_request"
DAEMON = "_hopspan_daemon"
#: Modules whose waits say nothing: they wait for what they, or the queue rule, account for, or for a connection.
_PLUMBING = ("threading", "queue", "concurrent.futures._base", "concurrent.futures.thread", "multiprocessing.pool")
_PLUMBING += ("httpcore._synchronization",)
#: Where the code of a request begins: what is below on the stack is the server's. Filled by hooks of these modules.
_BEGINNINGS = {inbound.__file__}


def forget_in_forks():
    register = getattr(os, "register_at_fork", None)
    if register is not None:
        register(after_in_child=cause.lose)


def starting():
    """The request that starts something here and now, or None."""
    request = cause.current()
    if request is None:
        return None
    frame = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if code.co_filename in _BEGINNINGS:
            break
        if code.co_name == "_call_with_frames_removed" and code.co_filename == "<frozen importlib._bootstrap>":
            return None
        frame = frame.f_back
    return request


# Threads


def init(original):
    def __init__(self, *args, **kwargs):
        original(self, *args, **kwargs)
        # By keyword only. Without it a thread is what its starter is, and that may be a server's daemon.
        if kwargs.get("daemon"):
            vars(self)[DAEMON] = True

    return __init__


def daemon(original):
    def set_daemon(self, value):
        original.fset(self, value)
        vars(self)[DAEMON] = bool(value)

    return property(original.fget, set_daemon, original.fdel, original.__doc__)


def start(original):
    def start(self, *args, **kwargs):
        try:
            vars(self)[ATTRIBUTE] = None if vars(self).pop(DAEMON, False) else starting()
        except Exception:
            trouble("starting a thread")
        return original(self, *args, **kwargs)

    return start


def bootstrap_inner(original):
    def _bootstrap_inner(self, *args, **kwargs):
        try:
            request = vars(self).pop(ATTRIBUTE, None)
            if request is None:
                cause.lose()  # said aloud: a greenlet that plays a thread must not ask its spawner
            else:
                cause.use(cause.Handed(request, thread=True))
        except Exception:
            trouble("a new thread")
        return original(self, *args, **kwargs)

    return _bootstrap_inner


def wait(original):
    def wait(self, *args, **kwargs):
        try:
            handed = cause.handed()
            if handed is not None and handed.thread:
                caller = sys._getframe(1)
                if caller.f_code.co_name == "wait_for":
                    caller = caller.f_back
                if caller.f_globals.get("__name__") not in _PLUMBING:
                    cause.lose()
        except Exception:
            trouble("waiting on a condition")
        return original(self, *args, **kwargs)

    return wait


def threading(module):
    replace(module.Thread, "__init__", init)
    replace(module.Thread, "start", start)
    if isinstance(vars(module.Thread).get("daemon"), property):
        module.Thread.daemon = daemon(module.Thread.daemon)
    replace(module.Thread, "_bootstrap_inner", bootstrap_inner)
    replace(module.Condition, "wait", wait)
    replace(module.Event, "set", put)
    replace(module.Event, "wait", told)


# Pools


class Carried:
    """A function that a pool runs for the request that gave it."""

    __slots__ = ("function", "request")

    def __init__(self, function, request):
        self.function = function
        self.request = request

    def __call__(self, *args, **kwargs):
        former = cause.use(cause.Handed(self.request))
        try:
            return self.function(*args, **kwargs)
        finally:
            cause.put_back(former)


def hand_over(original):
    """For methods of pools: the first argument is the function to run."""

    def hand_over(*args, **kwargs):
        try:
            request = starting()
            if request is None or len(args) < 2:
                former = None
            else:
                args = (args[0], Carried(args[1], request)) + args[2:]
                former = cause.use(None)  # a thread that the pool starts now is not this request's
        except Exception:
            trouble("a pool")
            former = None
        try:
            return original(*args, **kwargs)
        finally:
            if former is not None:
                cause.put_back(former)

    return hand_over


def alone(original):
    """For what starts threads that serve everybody."""

    def alone(*args, **kwargs):
        former = cause.use(None)
        try:
            return original(*args, **kwargs)
        finally:
            cause.put_back(former)

    return alone


def thread_pool(module):
    """multiprocessing's pool of threads inherits its methods from the pool of processes, which gets no token."""
    pool = module.ThreadPool
    replace(pool, "__init__", alone)
    for name in ("apply_async", "_map_async", "imap", "imap_unordered"):
        if name not in vars(pool):
            setattr(pool, name, hand_over(getattr(pool, name)))


# Orders


def order(place):
    """Something was taken from there. Whoever took it works for its request no more, if not all there is from it."""
    handed = cause.handed()
    if handed is not None and vars(place).get(ATTRIBUTE) is not handed.request:
        cause.lose()


def put(original):
    """For what puts an order somewhere: notes whose are there."""

    def put(self, *args, **kwargs):
        try:
            request = cause.current()
            # One request, or None once there were several or none.
            if vars(self).setdefault(ATTRIBUTE, request) is not request:
                vars(self)[ATTRIBUTE] = None
        except Exception:
            trouble("a queue")
        return original(self, *args, **kwargs)

    return put


def get(original):
    def get(self, *args, **kwargs):
        item = original(self, *args, **kwargs)
        try:
            if type(self).__name__ != "LifoQueue":
                order(self)
        except Exception:
            trouble("a queue")
        return item

    return get


def told(original):
    """For the wait on an event, which says whether it is set."""

    def wait(self, *args, **kwargs):
        is_set = original(self, *args, **kwargs)
        try:
            if is_set and sys._getframe(1).f_globals.get("__name__") not in _PLUMBING:
                order(self)
        except Exception:
            trouble("an event")
        return is_set

    return wait


_QUEUE = (("put", put), ("get", get))
_EVENT = (("set", put), ("wait", told))


def queue(module):
    for name, make in _QUEUE:
        replace(module.Queue, name, make)
    stand_in(module, ("SimpleQueue",), _QUEUE)


def stand_in(module, names, methods):
    """Classes written in C take no new methods: a subclass stands in the place of each, under its name."""
    made = {}
    for name in names:
        original = vars(module).get(name)
        if not isinstance(original, type) or hasattr(getattr(original, methods[0][0]), "__hopspan__"):
            continue
        if original not in made:
            try:
                made[original] = subclass(original, made, methods)
            except TypeError:  # final, as gevent's UnboundQueue is
                continue
        setattr(module, name, made[original])


def subclass(original, made, methods):
    """As the originals are subclasses of each other, so are those that stand in for them."""
    bases = (original, *[made[base] for base in original.__mro__ if base in made][:1])
    same = {key: getattr(original, key) for key in ("__module__", "__qualname__", "__doc__")}
    stand = type(original.__name__, bases, same)
    for name, make in methods:
        setattr(stand, name, make(getattr(original, name)))
        getattr(stand, name).__hopspan__ = True
    return stand


#: Since 25.4 these also stand for those of `queue`, once it is monkey-patched.
_GEVENT = ("SimpleQueue", "Queue", "UnboundQueue", "JoinableQueue", "PriorityQueue", "LifoQueue", "Channel")


def asyncio_queue(module):
    replace(module.Queue, "put_nowait", put)
    replace(module.Queue, "get_nowait", get)


HOOKS = {
    "threading": threading,
    "queue": queue,
    "gevent.queue": lambda module: stand_in(module, _GEVENT, _QUEUE),
    "gevent.event": lambda module: stand_in(module, ("Event",), _EVENT),
    "asyncio.queues": asyncio_queue,
    "concurrent.futures.thread": lambda module: replace(module.ThreadPoolExecutor, "submit", hand_over),
    "multiprocessing.pool": thread_pool,
    "gevent.threadpool": lambda module: replace(module.ThreadPool, "spawn", hand_over),
    "asyncio.events": lambda module: _BEGINNINGS.add(module.__file__),
    **cause.HOOKS,
}
