"""The adversary: a prefork server, as small as one can be, that does whatever a request's path asks of it.

    app.py PLACE OUTBOUND CALLEE WORKERS [FLAG ...]

PLACE: where it listens, a port or the path of a unix socket. OUTBOUND: hopspan's port for the app's own calls. CALLEE: whom they ask for. Flags:

    background   each worker has a thread that calls all the time, for nobody
    direct       the master keeps the connection that it opened before the fork; else only the workers have it
    idle         workers call between requests, for nobody
    keep         connections from hopspan are kept for more requests
    loop         workers keep their connection in an epoll set, and call for nobody between two events
    mates        workers give each other sockets over a socket pair
    multiplex    workers take up several connections by epoll, and serve one after the other
    recycle      workers end after some requests, and are replaced
    relay        the master accepts, and passes connections to the workers
    shared       the master opens a connection to hopspan before it forks
    threads      workers serve each connection in a thread
    timeouts     the calls' sockets have timeouts, so that Python polls them

GET /ACT,ACT..;ACT..  does the acts (acts.py) before, and after the semicolon those after the response. The request's
number is in the header `number`, hopspan's token in `hopspan-token`.
"""

import os
import random
import select
import signal
import socket
import struct
import sys
import threading
import time

from acts import BY_NAME, NOBODY, Cause, Outbound, fresh, kept

KEPT = 0.03  # seconds that a worker waits for the next request on a kept connection


class Worker:
    """A process that serves, and all that it holds."""

    def __init__(self, listener, out, flags, mates, shared, inbox):
        self.listener, self.out, self.flags, self.mates, self.shared = listener, out, flags, mates, shared
        self.inbox = inbox  # `relay`: where the master's connections come from
        self.kept = None
        self.left = []

    def fork(self):
        """True in the child, which is single again: no other thread of the parent's lives in it."""
        if os.fork():
            return False
        random.seed()
        return True

    def accept(self, patience=None):
        """The next connection; None where none came in time."""
        source = self.inbox or self.listener
        if patience is not None and not select.select([source], [], [], patience)[0]:
            return None
        try:
            if self.inbox is None:
                source.settimeout(patience)
                connection = source.accept()[0]
            else:
                _, rights, _, _ = source.recvmsg(1, socket.CMSG_SPACE(4), 0 if patience is None else socket.MSG_DONTWAIT)
                if not rights:
                    os._exit(0)  # the master is gone
                connection = socket.socket(fileno=struct.unpack("i", rights[0][2])[0])
        except OSError:
            return None
        finally:
            self.listener.settimeout(None)
        connection.settimeout(None)
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def work(self, requests=None):
        if "background" in self.flags:
            threading.Thread(target=self.background, daemon=True).start()
        served = 0
        while requests is None or served < requests:
            served += 1
            connection = self.accept()
            if connection is None:
                continue
            if "threads" in self.flags:
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()
            elif "multiplex" in self.flags:
                self.multiplex(connection)
            elif "loop" in self.flags:
                self.loop(connection)
            else:
                self.serve(connection)
            if "idle" in self.flags and random.random() < 0.2:
                random.choice([fresh, kept])(self, NOBODY, "idle")

    def background(self):
        while True:
            time.sleep(random.random() * 0.02)
            try:
                fresh(self, NOBODY, "background")
            except OSError:
                pass

    def multiplex(self, first):
        """Up to three connections, whichever is ready first."""
        waiting = {first.fileno(): first}
        epoll = select.epoll()
        epoll.register(first, select.EPOLLIN)
        while len(waiting) < 3 and (another := self.accept(0.001)):
            waiting[another.fileno()] = another
            epoll.register(another, select.EPOLLIN)
        while waiting:
            for fd, _ in epoll.poll():
                epoll.unregister(fd)
                self.serve(waiting.pop(fd))
        epoll.close()

    def loop(self, connection):
        """As an event loop does that turns to another task when it has read a request: that task calls, and blocks."""
        with select.epoll() as waiting:
            waiting.register(connection.fileno(), select.EPOLLIN)
            waiting.poll()
            head = self.read_head(connection)
            if head and random.random() < 0.5:
                try:
                    random.choice([fresh, kept])(self, NOBODY, "loop")
                except OSError:
                    pass
            self.serve(connection, head)

    def serve(self, connection, head=None):
        """The requests of one connection, which is closed then. `head`: the first one's, if it has been read."""
        while True:
            head = head or self.read_head(connection)
            if not head:
                break
            line, *fields = head.split(b"\r\n")
            fields = dict(field.lower().split(b": ", 1) for field in fields if field)
            token = dict(field.split(b": ", 1) for field in head.split(b"\r\n")[1:] if field).get(b"hopspan-token")
            head = None
            cause = Cause(int(fields.get(b"number", 0)), token, connection, [])
            before, _, after = line.split(b" ")[1].decode().strip("/").partition(";")
            self.act(before, cause)
            if not cause.heirs:
                self.respond(cause)
            self.act(after, cause)
            if "keep" not in self.flags or cause.heirs or not select.select([connection], [], [], KEPT)[0]:
                break
        try:
            connection.close()
        except OSError:
            pass

    def read_head(self, connection):
        head = b""
        try:
            while b"\r\n\r\n" not in head:
                more = connection.recv(8192)
                if not more:
                    return None
                head += more
        except OSError:
            return None
        return head[: head.index(b"\r\n\r\n")]

    def act(self, names, cause):
        for name in names.split(",") if names else []:
            try:
                BY_NAME[name](self, cause)
            except OSError:
                pass  # a refused or broken call is the callee's to count

    def respond(self, cause):
        kept = b"keep-alive" if "keep" in self.flags else b"close"
        try:
            cause.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: %s\r\n\r\nok" % kept)
        except OSError:
            pass

    def wait_for_the_end(self, number):
        """Returns once the client has the whole response. Not a call: it goes to the callee itself. False if it is gone."""
        try:
            with socket.create_connection(("127.0.0.1", self.out.callee)) as gate:
                gate.sendall(b"GET /%d/ended HTTP/1.1\r\n\r\n" % number)
                return bool(gate.recv(1))
        except OSError:
            return False


def relay(listener, workers):
    """The master accepts, and passes each connection to a worker. It keeps none."""
    while True:
        connection, _ = listener.accept()
        rights = struct.pack("i", connection.fileno())
        outbox = random.choice(workers)
        try:
            outbox.sendmsg([b"c"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        except OSError:
            pass
        connection.close()


def listening(place):
    if place.isdigit():
        listener, place = socket.socket(), ("127.0.0.1", int(place))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    else:
        listener = socket.socket(socket.AF_UNIX)
    listener.bind(place)
    listener.listen(128)
    return listener


def main(place, outbound, callee, workers, *flags):
    flags = set(flags)
    out = Outbound(int(outbound), int(callee), "timeouts" in flags)
    listener = listening(place)
    shared = out.connect() if "shared" in flags else None
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) if "mates" in flags else (None, None)
    boxes = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(int(workers))] if "relay" in flags else []

    def hire(at):
        pid = os.fork()
        if pid == 0:
            try:
                random.seed()
                mates = (here, there)[at % 2] if here else None
                inbox = boxes[at][1] if boxes else None
                requests = random.randrange(5, 40) if "recycle" in flags else None
                Worker(listener, out, flags, mates, shared, inbox).work(requests)
            finally:
                os._exit(0)
        return pid

    at_work = {hire(at): at for at in range(int(workers))}
    if shared and "direct" not in flags:
        shared.close()
    if boxes:
        threading.Thread(target=relay, args=(listener, [box[0] for box in boxes]), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        pid, _ = os.wait()
        if pid in at_work:
            at = at_work.pop(pid)
            at_work[hire(at)] = at


if __name__ == "__main__":
    main(*sys.argv[1:])
