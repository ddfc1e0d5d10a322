"""A prefork server as plain as they come, which calls out in every way that one knows of.

argv: port of hopspan's outbound side, workers, then flags (background idle ipv6 keepalive shared threads timeout).
Prints the port it listens on. GET /<what>,<what>..?id=N does these things in order and answers 200; every call that it
makes carries the truth: `/call?truth=N`, or `truth=none` where no request caused it.
"""

import http.client
import os
import random
import signal
import socket
import struct
import sys
import threading
import time

outbound = int(sys.argv[1])
workers = int(sys.argv[2])
flags = set(sys.argv[3:])
timeout = 20.0 if "timeout" in flags else None
local = threading.local()
unread = []  # (socket, truth) of calls that were sent and whose answers nobody read yet


def fresh(truth):
    connection = http.client.HTTPConnection("127.0.0.1", outbound, timeout=timeout)
    connection.request("GET", f"/call?truth={truth}")
    connection.getresponse().read()
    connection.close()


def pooled(truth):
    if not hasattr(local, "connection"):
        local.connection = http.client.HTTPConnection("127.0.0.1", outbound, timeout=timeout)
    local.connection.request("GET", f"/call?truth={truth}")
    local.connection.getresponse().read()


def raw(truth, parts=1):
    call = socket.create_connection(("127.0.0.1", outbound), timeout=timeout)
    head = f"GET /call?truth={truth} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    at = random.randrange(1, len(head)) if parts == 2 else len(head)
    call.sendall(head[:at])
    if at < len(head):
        time.sleep(random.random() * 0.001)
        call.sendall(head[at:])
    return call


def read_answer(call):
    answer = b""
    while b"\r\n\r\nok" not in answer:
        more = call.recv(4096)
        if not more:
            break
        answer += more


def upload(truth):
    # Larger than the socket buffers: the main thread waits in send.
    body = b"x" * (8 << 20)
    connection = http.client.HTTPConnection("127.0.0.1", outbound, timeout=timeout)
    connection.request("POST", f"/call?truth={truth}", body)
    connection.getresponse().read()
    connection.close()


raw_shared = None
if "shared" in flags:
    # Made before the fork: every worker holds it.
    raw_shared = socket.create_connection(("127.0.0.1", outbound))
    # Another worker may take the answer; the socket itself stays blocking.
    raw_shared.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 100_000))


def over_shared(truth):
    raw_shared.sendall(f"GET /call?truth={truth} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    try:
        read_answer(raw_shared)
    except BlockingIOError:
        pass


def child(truth):
    """A forked child that makes calls while its parent goes on; it keeps the client's socket, as forked children do."""
    if os.fork() == 0:
        try:
            fresh(truth)
            time.sleep(random.random() * 0.002)
            fresh(truth)
        finally:
            os._exit(0)


def thread_call(truth):
    thread = threading.Thread(target=fresh, args=(truth,))
    thread.start()
    thread.join()


def do(what, truth, listener):
    if what == "fresh":
        fresh(truth)
    elif what == "pooled":
        pooled(truth)
    elif what == "split":
        call = raw(truth, 2)
        read_answer(call)
        call.close()
    elif what == "upload":
        upload(truth)
    elif what == "fire":
        raw(truth).close()
    elif what == "leave":
        # Sent now, its answer read within whatever request comes next.
        unread.append(raw(truth))
    elif what == "collect":
        while unread:
            call = unread.pop()
            read_answer(call)
            call.close()
    elif what == "child":
        child(truth)
    elif what == "thread":
        thread_call(truth)
    elif what == "shared" and raw_shared:
        over_shared(truth)
    elif what == "nested":
        listener.settimeout(0.002)
        try:
            inner, _ = listener.accept()
        except OSError:
            inner = None
        listener.settimeout(None)
        fresh(truth)
        if inner:
            serve(inner, listener)
    elif what == "sleep":
        time.sleep(random.random() * 0.004)
    elif what == "burn":
        until = time.monotonic() + random.random() * 0.002
        while time.monotonic() < until:
            pass


def read_head(client):
    head = b""
    while b"\r\n\r\n" not in head:
        more = client.recv(8192)
        if not more:
            return None
        head += more
    return head.split(b"\r\n", 1)[0].decode()


def serve(client, listener):
    client.settimeout(timeout)
    while True:
        try:
            line = read_head(client)
        except OSError:
            line = None
        if not line:
            client.close()
            return
        path, _, query = line.split(" ")[1].partition("?")
        truth = query.partition("id=")[2]
        before, _, after = path.strip("/").partition(";after,")
        for what in before.split(","):
            do(what, truth, listener)
        keep = "keepalive" in flags
        head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: %s\r\n\r\nok"
        try:
            client.sendall((head % ("keep-alive" if keep else "close")).encode())
        except OSError:
            pass
        # After the response, before the socket is closed: Django's request_finished and the like.
        for what in after.split(",") if after else []:
            do(what, truth, listener)
        if not keep:
            client.close()
            return


def background():
    while True:
        time.sleep(random.random() * 0.02)
        try:
            fresh("none")
        except OSError:
            pass


def work(listener):
    random.seed()
    if "background" in flags:
        threading.Thread(target=background, daemon=True).start()
    while True:
        client, _ = listener.accept()
        if "threads" in flags:
            threading.Thread(target=serve, args=(client, listener), daemon=True).start()
        else:
            serve(client, listener)
            if "idle" in flags and random.random() < 0.2:
                fresh("none")


listener = socket.socket(socket.AF_INET6 if "ipv6" in flags else socket.AF_INET)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("::" if "ipv6" in flags else "127.0.0.1", 0))
listener.listen(128)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(workers):
    if os.fork() == 0:
        try:
            work(listener)
        finally:
            os._exit(1)
print(listener.getsockname()[1], flush=True)
sys.stdin.read()  # until the test is gone, however it ended
os.killpg(0, signal.SIGKILL)
