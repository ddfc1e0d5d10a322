"""gevent, monkey-patched as gunicorn's worker does it: a process of its own, started by test_start.py."""

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402
import sys  # noqa: E402

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import itertools  # noqa: E402
import queue  # noqa: E402
import threading  # noqa: E402
from concurrent.futures import ThreadPoolExecutor  # noqa: E402

import gevent  # noqa: E402
import gevent.lock  # noqa: E402
import gevent.pool  # noqa: E402
import gevent.queue  # noqa: E402
import gevent.threadpool  # noqa: E402

from shim_tests import apps  # noqa: E402
from shim_tests.test_outbound import by_requests  # noqa: E402
from shim_tests.world import new_token, new_url, serving, tokens_of, world, wsgi_get  # noqa: E402


def check(what, seen, expected):
    assert seen == expected, "%s: %s, not %s" % (what, seen, expected)


def ways(url):
    """Every way to start a greenlet or a thread."""
    call = lambda *_: by_requests(url)  # noqa: E731

    class Own(gevent.Greenlet):
        def _run(self):
            call()

    def joined(greenlet):
        greenlet.start()
        greenlet.join()

    def thread():
        started = threading.Thread(target=call)
        started.start()
        started.join()

    def executor():
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(call, range(1)))

    def native():
        with gevent.threadpool.ThreadPoolExecutor(1) as pool:
            pool.submit(call).result()

    return {
        "spawn": lambda: gevent.spawn(call).join(),
        "Greenlet.spawn": lambda: gevent.Greenlet.spawn(call).join(),
        "Greenlet.start": lambda: joined(gevent.Greenlet(call)),
        "a subclass": lambda: joined(Own()),
        "spawn_later": lambda: gevent.spawn_later(0, call).join(),
        "pool": lambda: gevent.pool.Pool(1).spawn(call).join(),
        "pool.map": lambda: gevent.pool.Group().map(call, range(1)),
        "of a greenlet": lambda: gevent.spawn(lambda: gevent.spawn(call).join()).join(),
        "thread": thread,
        "executor": executor,
        "gevent's threads": lambda: gevent.get_hub().threadpool.apply(call),
        "gevent's executor": native,
    }


def in_a_request(token, work):
    with serving(token):
        work()


def main():
    hopspan = world().hopspan
    assert hopspan
    url = new_url()
    for name, way in ways(url).items():
        token = new_token()
        gevent.spawn(in_a_request, token, way).join()
        check(name, tokens_of(url), [[token]])
        gevent.spawn(way).join()
        check(name + " outside", tokens_of(url), [[]])

    # Many at once, over keep-alive greenlets: each greenlet serves several requests in turn.
    app = apps.django_wsgi()
    pairs = [(new_url(), new_token()) for _ in range(40)]

    def serve(mine):
        for url, token in mine:
            wsgi_get(app, token, "/call-to" + url[len("http://service.test") :])
            gevent.sleep(0)
            by_requests(url)  # idle work of the server's greenlet

    gevent.joinall([gevent.spawn(serve, pairs[at::8]) for at in range(8)], raise_error=True)
    for url, token in pairs:
        check("keep-alive", tokens_of(url), [[token], []])

    # A greenlet that outlives its request, and what it spawns.
    url, token, go = new_url(), new_token(), gevent.lock.Semaphore(0)
    late = []

    def spawn_late():
        late.append(gevent.spawn(lambda: (go.acquire(), gevent.spawn(by_requests, url).join())))

    gevent.spawn(in_a_request, token, spawn_late).join()
    go.release()
    gevent.joinall(late, raise_error=True)
    check("late", tokens_of(url), [[token + ";ended"]])

    # A pool whose threads one request started serves another, and nobody, while the first is in flight.
    url, first, second = new_url(), new_token(), new_token()
    with ThreadPoolExecutor(1) as pool:
        hold, started = gevent.event.Event(), gevent.event.Event()

        def holding():
            pool.submit(by_requests, url).result()
            started.set()
            hold.wait()

        holder = gevent.spawn(in_a_request, first, holding)
        started.wait()
        gevent.spawn(in_a_request, second, lambda: pool.submit(by_requests, url).result()).join()
        gevent.spawn(lambda: pool.submit(by_requests, url).result()).join()
        hold.set()
        holder.join()
    check("a shared pool", tokens_of(url), [[first], [second], []])
    orders_of_others(new_url())
    a_daemon_spawns(new_url())
    print("ok")


def orders_of_others(url):
    """A worker that a request started loses it with the first order that is not that request's own."""
    kinds = [queue.Queue, queue.SimpleQueue, gevent.queue.Queue, gevent.queue.PriorityQueue, gevent.queue.JoinableQueue]
    starters = (gevent.spawn, lambda work: threading.Thread(target=work).start())
    callers = (by_requests, lambda url: gevent.spawn(by_requests, url).join())
    for kind, start, call in itertools.product(kinds, starters, callers):
        seen = worker(kind(), start, call, url)
        assert seen == [True, False, False], (kind, start, call, seen)
    for start, call in itertools.product(starters, callers):
        seen = worker(Told(), start, call, url)
        assert seen == [True, False, False], (start, call, seen)


class Told:
    """Orders in a list, and an event that there are some."""

    def __init__(self):
        self.orders, self.some = [], threading.Event()

    def put(self, order):
        self.orders.append(order)
        self.some.set()

    def get(self):
        self.some.wait()
        self.some.clear()
        return self.orders.pop()


def worker(orders, start, call, url):
    """Whether a worker's calls are joined: for the request that started it, for another, for that one again."""
    first, second, done = new_token(), new_token(), gevent.queue.Queue()

    def work():
        for _ in range(3):
            orders.get()
            call(url)
            done.put(1)

    def own():
        start(work)
        orders.put(1)
        done.get()
        gevent.spawn(in_a_request, second, lambda: (orders.put(2), done.get())).join()
        orders.put(3)
        done.get()

    gevent.spawn(in_a_request, first, own).join()
    seen = tokens_of(url)
    assert all(tokens in ([], [first]) for tokens in seen), seen
    return [tokens == [first] for tokens in seen]


def a_daemon_spawns(url):
    """What works for nobody starts nothing that works for somebody."""

    def work():
        gevent.spawn(by_requests, url).join()

    def start():
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join()

    gevent.spawn(in_a_request, new_token(), start).join()
    check("a daemon's greenlet", tokens_of(url), [[]])


if __name__ == "__main__":
    main()
