"""What a worker may do for a request: every way to call out that was thought of, the rude ones first of all.

An act is a function of the worker and the cause. Each call's URL says what caused it, `/NUMBER/ACT`, with number 0
where nothing did; the tests below hopspan compare that with the trace that the call came with. Where the cause has a
token (see hopspan's tokens), the call carries it as an app would that hands it on by itself.
"""

import os
import random
import select
import socket
import struct
import threading
import time
from collections import namedtuple

#: number: of the request, 0 for none. token: bytes or None. connection: the request's socket, or None. heirs: the children
#: that answer in its worker's stead.
Cause = namedtuple("Cause", "number token connection heirs")
NOBODY = Cause(0, None, None, None)
PATIENCE = 1.0  # seconds that an answer is waited for: another process may have read it


class Outbound:
    """How calls reach hopspan, and whom they ask for."""

    def __init__(self, hopspan, callee, timeouts):
        self.hopspan, self.callee, self.timeouts = hopspan, callee, timeouts

    def connect(self):
        """With `timeouts`, Python polls before each recv; without, it blocks in recv, for so long and no longer."""
        call = socket.create_connection(("127.0.0.1", self.hopspan), timeout=PATIENCE if self.timeouts else None)
        if not self.timeouts:
            call.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(PATIENCE), 0))
        call.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return call

    def head(self, cause, act, length=0):
        host = b"127.0.0.1:%d" % self.callee
        token = b"hopspan-token: %s\r\n" % cause.token if cause.token else b""
        body = b"Content-Length: %d\r\n" % length if length else b""
        start = b"%s http://%s/%d/%s HTTP/1.1\r\n" % (b"POST" if length else b"GET", host, cause.number, act.encode())
        return start + b"Host: %s\r\n%s%s\r\n" % (host, token, body)


def read(call):
    """One answer, whoever's it is. False where none came."""
    answer = b""
    try:
        while not answer.endswith(b"\r\n\r\nok"):
            more = call.recv(4096)
            if not more:
                return False
            answer += more
    except OSError:
        return False
    return True


def pause(most=0.002):
    time.sleep(random.random() * most)


def burn(worker, cause):
    until = time.monotonic() + random.random() * 0.002
    while time.monotonic() < until:
        pass


def rest(worker, cause):
    pause(0.004)


def fresh(worker, cause, act="fresh"):
    with worker.out.connect() as call:
        call.sendall(worker.out.head(cause, act))
        read(call)


def kept(worker, cause, act="kept"):
    """On the process's own connection, opened once. Whoever is forked inherits it, and uses it too."""
    if worker.kept is None:
        worker.kept = worker.out.connect()
    try:
        worker.kept.sendall(worker.out.head(cause, act))
        if read(worker.kept):
            return
    except OSError:
        pass
    worker.kept.close()
    worker.kept = None


def reopened(worker, cause):
    """Closes the connection and opens another, which often gets the same descriptor."""
    if worker.kept is not None:
        worker.kept.close()
        worker.kept = None
    kept(worker, cause, "reopened")


def split(worker, cause):
    head = worker.out.head(cause, "split")
    at = random.randrange(1, len(head))
    with worker.out.connect() as call:
        call.sendall(head[:at])
        pause(0.001)
        call.sendall(head[at:])
        read(call)


def split_threads(worker, cause):
    """One thread sends the first half, another the rest, a third reads."""
    head = worker.out.head(cause, "split_threads")
    at = random.randrange(1, len(head))
    with worker.out.connect() as call:
        call.sendall(head[:at])
        second = threading.Thread(target=call.sendall, args=(head[at:],))
        second.start()
        if random.random() < 0.5:
            second.join()
            second = threading.Thread(target=read, args=(call,))
            second.start()
        else:
            read(call)
        second.join()


def upload(worker, cause):
    """More than the buffers hold, so that the sender waits."""
    body = b"x" * (1 << 20)
    with worker.out.connect() as call:
        try:
            call.sendall(worker.out.head(cause, "upload", len(body)) + body)
        except OSError:
            return
        read(call)


def fire(worker, cause):
    """Sends and goes away."""
    with worker.out.connect() as call:
        call.sendall(worker.out.head(cause, "fire"))
        pause(0.0005)


def leave(worker, cause):
    """Sends; the answer is read when `collect` comes, which may be in another request."""
    call = worker.out.connect()
    call.sendall(worker.out.head(cause, "leave"))
    worker.left.append(call)


def collect(worker, cause):
    while worker.left:
        with worker.left.pop() as call:
            read(call)


def polled(worker, cause):
    """Waits for its call in epoll, poll or select, alone or with something else."""
    with worker.out.connect() as call:
        call.setblocking(False)
        call.sendall(worker.out.head(cause, "polled"))
        way = random.randrange(4)
        if way == 0:
            with select.epoll() as waiting:
                waiting.register(call, select.EPOLLIN)
                waiting.poll(PATIENCE)
        elif way == 1:
            waiting = select.poll()
            waiting.register(call, select.POLLIN)
            waiting.poll(PATIENCE * 1000)
        else:
            also = [cause.connection] if way == 2 and cause.connection else []
            select.select([call, *also], [], [], PATIENCE)
        call.setblocking(True)
        call.settimeout(PATIENCE)
        read(call)


def shared(worker, cause):
    """On a connection that the master opened before it forked: all workers hold it, and steal each other's answers."""
    if worker.shared is None:
        return fresh(worker, cause)
    try:
        worker.shared.sendall(worker.out.head(cause, "shared"))
        read(worker.shared)
    except OSError:
        pass


def thread(worker, cause):
    """Another thread calls, while this one waits for it."""
    other = threading.Thread(target=fresh, args=(worker, cause, "thread"))
    other.start()
    other.join()


def beside(worker, cause):
    """Another thread calls, while this one calls too."""
    other = threading.Thread(target=fresh, args=(worker, cause, "beside"))
    other.start()
    fresh(worker, cause, "beside")
    other.join()


def late(worker, cause):
    """A thread that calls when the response has long gone out, and the next request may be at work."""

    def call():
        if worker.wait_for_the_end(cause.number):
            fresh(worker, cause, "late")

    threading.Thread(target=call, daemon=True).start()


def forged(worker, cause):
    """Tokens that hopspan never gave, or gave and did not mean so. Nothing follows from them."""
    token = cause.token or b"A" * 22
    changed = [token[::-1], token + b"A", token[:-1], token.swapcase(), b"%s,%s" % (token, token), b"A" * 22]
    fresh(worker, cause._replace(token=random.choice(changed)), "forged")


def child(worker, cause):
    """A forked child calls, while its parent goes on; it holds all that the parent held. It stays until its call has been
    looked up, which the serial proof takes for granted (src/correlation/serial.rs)."""
    if worker.fork():
        fresh(worker, cause, "child")
        pause()
        kept(worker, cause, "child")
        time.sleep(PATIENCE)
        os._exit(0)


def holding_child(worker, cause):
    """A forked child that only holds the sockets for a while."""
    if worker.fork():
        pause(0.02)
        os._exit(0)
    fresh(worker, cause, "holding_child")


def daemon(worker, cause):
    """A child's child, whose parent is gone: it goes on calling on the connection that its forebears use as well."""
    if worker.fork():
        if worker.fork():
            for _ in range(2):
                pause()
                kept(worker, cause, "daemon")
            time.sleep(PATIENCE)  # as child does
        os._exit(0)


def child_answers(worker, cause):
    """A forked child calls, and answers in its parent's stead; the parent takes up the next request."""
    if worker.fork():
        fresh(worker, cause, "child_answers")
        pause()
        fresh(worker, cause, "child_answers")
        worker.respond(cause)
        os._exit(0)
    cause.heirs.append("child")


def child_works(worker, cause):
    """A forked child becomes a worker, with all that it inherited, for some requests."""
    if worker.fork():
        if cause.connection is not None:
            cause.connection.close()
        worker.work(requests=random.randrange(1, 6))
        time.sleep(PATIENCE)  # as child does
        os._exit(0)


def nested(worker, cause):
    """Takes up another request before this one is answered, and calls for this one in between."""
    inner = worker.accept(0.002)
    fresh(worker, cause, "nested")
    if inner is not None:
        worker.serve(inner)
        fresh(worker, cause, "nested")


def passed_call(worker, cause):
    """Opens a connection and gives it to another process (SCM_RIGHTS), which uses it for its next request."""
    if worker.mates:
        with worker.out.connect() as call:
            rights = struct.pack("i", call.fileno())
            try:
                worker.mates.sendmsg([b"o"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], socket.MSG_DONTWAIT)
            except OSError:
                pass


def received_call(worker, cause):
    """Calls on a connection that another process opened."""
    if not worker.mates:
        return
    try:
        _, rights, _, _ = worker.mates.recvmsg(1, socket.CMSG_SPACE(4), socket.MSG_DONTWAIT)
    except OSError:
        return
    for _, _, data in rights:
        with socket.socket(fileno=struct.unpack("i", data)[0]) as call:
            try:
                call.sendall(worker.out.head(cause, "received_call"))
                read(call)
            except OSError:
                pass


def die(worker, cause):
    """The process ends in the middle of a request. Its number may be another's soon."""
    os._exit(0)


BY_NAME = {
    act.__name__: act
    for act in (
        *(burn, rest, fresh, kept, reopened, split, split_threads, upload, fire, leave, collect, polled, shared, thread),
        *(beside, late, forged, child, holding_child, daemon, child_answers, child_works, nested, passed_call, received_call, die),
    )
}
