"""Ways to call out from a blocking view.

Each is given `to`, the URLs of this request's calls: what they cause is in them. `CALLS` of them are `caused` by the
request before its response has ended (`own`: with a trace of the app's). What a way does beyond goes to another URL:
`late` after the end, `closing` when the server closes the response, `ordered` by a worker that serves all, `child` by
another process, `nobody` by none.
"""

import os

import queue
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from urllib.parse import urlsplit
from urllib.request import urlopen

import requests
from django.http import HttpResponse, StreamingHttpResponse

CALLS = 3
session = requests.Session()  # one for all threads of the worker
shared_executor = ThreadPoolExecutor(4)
patient_executor = ThreadPoolExecutor(50)
shared_pool = None
orders = queue.Queue()
worker = None
once = threading.Lock()


def get(url):
    requests.get(url, timeout=30)


def fresh(to):
    for _ in range(CALLS):
        get(to.caused)


def pooled(to):
    for _ in range(CALLS):
        session.get(to.caused, timeout=30)


def urllib(to):
    for _ in range(CALLS):
        urlopen(to.caused, timeout=30).read()


def httpx(to):
    import httpx

    with httpx.Client(verify=False) as client:  # plain HTTP only: no time for certificates
        for _ in range(CALLS):
            client.get(to.caused, timeout=30)


def pycurl(to):
    """A client in C, which the shim does not know."""
    import pycurl

    for _ in range(CALLS):
        curl = pycurl.Curl()
        for option, value in ((pycurl.URL, to.caused), (pycurl.NOSIGNAL, 1), (pycurl.WRITEFUNCTION, lambda data: None)):
            curl.setopt(option, value)
        curl.perform()
        curl.close()


def tunnel(to):
    """A CONNECT by a bare socket, as gRPC's own client makes it; what runs inside has no headers of hopspan's."""
    proxy = urlsplit(os.environ["http_proxy"])
    for _ in range(CALLS):
        with socket.create_connection((proxy.hostname, proxy.port), timeout=30) as peer:
            peer.sendall(b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % ((to.own_address.encode(),) * 2))
            if b" 200 " not in peer.recv(4096):
                raise OSError("no tunnel")
            peer.sendall(b"GET %s HTTP/1.1\r\nHost: callee\r\n\r\n" % urlsplit(to.inside).path.encode())
            peer.recv(4096)


def own(to):
    """The app is instrumented itself: its traceparent rules."""
    for _ in range(CALLS):
        requests.get(to.own, headers={"traceparent": to.own_context}, timeout=30)


def child(to):
    """By other processes: nothing shows whose they are."""
    fresh(to)
    subprocess.run(["curl", "--silent", "--max-time", "30", "--output", "/dev/null", to.child], check=True)


def forked(to):
    fresh(to)
    pid = os.fork()
    if pid == 0:
        try:
            get(to.child)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def threads(to):
    started = [threading.Thread(target=get, args=(to.caused,)) for _ in range(CALLS)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def executor(to):
    with ThreadPoolExecutor(CALLS) as pool:
        list(pool.map(get, [to.caused] * CALLS))


def common_executor(to):
    """Its threads were started by other requests."""
    list(shared_executor.map(get, [to.caused] * CALLS))


def common_pool(to):
    global shared_pool
    with once:
        shared_pool = shared_pool or ThreadPool(4)
    shared_pool.map(get, [to.caused] * CALLS)


def nested(to):
    """A thread that uses a pool that calls."""
    thread = threading.Thread(target=executor, args=(to,))
    thread.start()
    thread.join()


def stream(to):
    def chunks():
        for _ in range(CALLS):
            get(to.caused)
            yield b"chunk\n"

    return StreamingHttpResponse(chunks())


def gather(to):
    """An event loop inside a blocking view."""
    from asgiref.sync import async_to_sync

    from .awaiting import gather

    async_to_sync(gather)(to)


def closing(to):
    """Work after the last byte, in the thread of the request: the server closes the response when it has sent it."""
    fresh(to)
    response = HttpResponse("called")
    close = response.close

    def call_and_close():
        get(to.closing)
        close()

    response.close = call_and_close
    return response


def late_thread(to):
    """A thread that goes on when the response has long ended."""
    fresh(to)

    def late():
        to.wait_for_the_end()
        get(to.late)

    threading.Thread(target=late).start()


def late_executor(to):
    fresh(to)

    def late():
        to.wait_for_the_end()
        get(to.late)

    patient_executor.submit(late)


def order(to):
    """A worker that the first request starts, and that works for all of them from then on."""
    global worker

    def work():
        while threading.main_thread().is_alive():
            try:
                get(orders.get(timeout=0.5))
            except queue.Empty:
                pass

    with once:
        if worker is None:
            orders.put(to.ordered)
            worker = threading.Thread(target=work)
            worker.start()
    orders.put(to.ordered)
    fresh(to)


def greenlets(to):
    import gevent

    gevent.joinall([gevent.spawn(get, to.caused) for _ in range(CALLS)], raise_error=True)


def greenlet_pool(to):
    from gevent.pool import Pool

    Pool(CALLS).map(get, [to.caused] * CALLS)


def native_threads(to):
    import gevent

    gevent.get_hub().threadpool.map(get, [to.caused] * CALLS)


def late_greenlet(to):
    import gevent

    def late():
        to.wait_for_the_end()
        get(to.late)

    fresh(to)
    gevent.spawn(late)


class Targets:
    """Where a request's calls go: by its number, so that the callee knows what caused them."""

    def __init__(self, request, way):
        self.base, self.number, self.way = request.GET["to"], request.GET["number"], way
        self.gate = request.GET["gate"]

    @property
    def own_context(self):
        return "00-%032x-00000000000000bb-01" % (int(self.number) + (2 << 64))

    @property
    def own_address(self):
        """The callee's, by an address that only calls of this request use."""
        number = int(self.number)
        return "127.1.%d.%d:%d" % (number // 256, number % 256, urlsplit(self.base).port)

    def wait_for_the_end(self):
        """Returns once the client has the whole response. Not a call: it goes to the client itself, by no HTTP."""
        host, port = self.gate.split(":")
        with socket.create_connection((host, int(port)), timeout=60) as gate:
            gate.sendall(self.number.encode() + b"\n")
            gate.recv(1)

    def __getattr__(self, cause):
        return "%s/%s/%s/%s" % (self.base, self.way, cause, self.number)


def idle():
    """Calls of the process itself, while requests come and go."""
    url = os.environ.get("FANOUT_IDLE")
    while url:
        time.sleep(0.05)
        try:
            get(url + "/idle/nobody/0")
        except requests.RequestException:
            pass


threading.Thread(target=idle, daemon=True).start()

WAYS = {
    way.__name__: way
    for way in (
        *(fresh, pooled, urllib, httpx, stream, pycurl, tunnel, own, child, forked, closing),
        *(threads, executor, common_executor, common_pool, nested, gather, late_thread, late_executor, order),
        *(greenlets, greenlet_pool, native_threads, late_greenlet),
    )
}


def view(request, way):
    return WAYS[way](Targets(request, "sync-" + way)) or HttpResponse("called")
