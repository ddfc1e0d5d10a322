"""Transparent mode with the kernel's own iptables and nftables: two network namespaces, a client program and hopspan in one,
services in the other; IPv4 and IPv6."""

import ctypes
import http.client
import json
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import threading
import time
import unittest

from harness import Case, ROOT, free_port, run, tool
from processes import get, wait_until

RULES = ROOT / "deploy" / "transparent"
GROUP, OTHERS = "4242", "4343"
PORT = 8082
HERE = {4: "10.77.0.1", 6: "fd77::1"}
THERE = {4: "10.77.0.2", 6: "fd77::2"}
CLONE_NEWNET = 0x40000000

# A server that speaks first, one that says back what it hears (over TLS), one that resets: in one process, over there.
SERVICES = """
import socket, ssl, struct, sys, threading
def serve(port, talk, context=None):
    server = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    def one(peer):
        try:
            talk(context.wrap_socket(peer, server_side=True) if context else peer)
        except OSError:
            pass
        peer.close()
    def accept():
        while True:
            threading.Thread(target=one, args=(server.accept()[0],), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
def echo(peer):
    while data := peer.recv(65536):
        peer.sendall(data)
def first(peer):
    peer.sendall(b"220 speaks first\\r\\n")
    echo(peer)
def reset(peer):
    peer.recv(1)
    peer.sendall(b"half of it")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(sys.argv[1])
serve(2525, first); serve(4430, echo, tls); serve(7000, echo); serve(7001, reset)
print("serving", flush=True)
threading.Event().wait()
"""

# A call by a proxy: its method, host and port, and target; prints the status of the answer.
CALL = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], timeout=20)
connection.request(*sys.argv[2:])
print(connection.getresponse().status)
"""


def url(version, port, path):
    host = THERE[version] if version == 4 else f"[{THERE[version]}]"
    return f"http://{host}:{port}{path}"


class Redirected(Case):
    GROUP = GROUP  # that the rules leave out

    def redirect(self):
        code, output = run([RULES / "iptables", "add", self.GROUP, PORT])
        self.assertEqual(0, code, output)

    def setUp(self):
        super().setUp()
        if os.geteuid() != 0:
            raise unittest.SkipTest("needs root, for network namespaces")
        tool("iptables", "iptables is not installed")
        self.here, self.there = f"hopspan-{os.getpid()}-a", f"hopspan-{os.getpid()}-b"
        ip = tool("ip", "iproute2 is not installed")
        commands = [f"netns add {self.here}", f"netns add {self.there}", f"link add hsa netns {self.here} type veth peer name hsb netns {self.there}"]
        for name, link, ends in (self.here, "hsa", HERE), (self.there, "hsb", THERE):
            commands += [f"-n {name} link set lo up", f"-n {name} link set {link} up", f"-n {name} addr add {ends[4]}/24 dev {link}"]
            commands += [f"-n {name} -6 addr add {ends[6]}/64 dev {link} nodad"]
        for name in self.here, self.there:
            self.addCleanup(run, [ip, "netns", "del", name])
        for command in commands:
            code, output = run([ip, *command.split()])
            if code:
                raise unittest.SkipTest(f"no network namespaces here: ip {command}: {output.strip()}")
        self.enter(self.here)
        try:
            self.redirect()
        except AssertionError as error:
            raise unittest.SkipTest(f"this kernel does not redirect: {error}") from error
        self.collector_ = self.collector()
        self.sidecar_ = self.hopspan()
        self.services()

    def enter(self, name):
        """This thread, and what it starts, from now on in another network namespace; back at the end."""
        libc = ctypes.CDLL(None, use_errno=True)
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)

        def back():
            libc.setns(before, CLONE_NEWNET)
            os.close(before)

        self.addCleanup(back)
        target = os.open(f"/run/netns/{name}", os.O_RDONLY)
        self.assertEqual(0, libc.setns(target, CLONE_NEWNET), os.strerror(ctypes.get_errno()))
        os.close(target)

    def hopspan(self, app=None, more="", **env):
        drop = [tool("setpriv", "setpriv is not installed"), "--regid", GROUP, "--clear-groups", "--"]
        config = f"outbound: {{transparent: [127.0.0.1:{PORT}, '[::1]:{PORT}']}}\n{more}"
        env = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": self.collector_.endpoint("http"), **env}
        return self.sidecar(app or free_port(), config, prefix=drop, **env)

    def over_there(self):
        return ["ip", "netns", "exec", self.there]

    def services(self):
        pem = self.folder / "service.pem"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=service.test"]
        command += ["-addext", "subjectAltName=DNS:service.test", "-keyout", self.folder / "key", "-out", self.folder / "cert"]
        code, output = run(command)
        self.assertEqual(0, code, output)
        pem.write_text((self.folder / "key").read_text() + (self.folder / "cert").read_text())
        services = self.start("services", [*self.over_there(), sys.executable, "-c", SERVICES, pem])
        wait_until("the services", lambda: "serving" in services.log.read_text(), [services])
        listen = ["--bind", f"{THERE[4]}:8000", "--bind", f"[{THERE[6]}]:8000"]
        gunicorn = [part for part in self.gunicorn("--workers", "2") if part not in ("--bind", "127.0.0.1:{port}")]
        http = self.start("http", [*self.over_there(), *gunicorn, *listen])
        for version in 4, 6:
            wait_until("the HTTP service", lambda: get(url(version, 8000, "/healthz"))[0] == 200, [http, self.sidecar_.process])

    def connect(self, version, port):
        peer = socket.create_connection((THERE[version], port), timeout=20)
        self.addCleanup(peer.close)
        return peer

    def spans(self, count, port):
        return self.collector_.wait(count, where=lambda span: span["attributes"].get("server.port") == port)


class ByIptables(Redirected):
    def test_http_is_traced_to_where_it_was_going(self):
        for version in 4, 6:
            before = self.sidecar_.metric('hopspan_redirected_connections_total{protocol="http1"')
            seen = json.loads(get(url(version, 8000, "/echo/a%20b?q=1"))[1])
            self.assertRegex(seen["headers"]["traceparent"], "^00-[0-9a-f]{32}-[0-9a-f]{16}-0[13]$")
            self.assertEqual("/echo/a%20b?q=1", seen["raw_path"])
            self.assertEqual(before + 1, self.sidecar_.metric('hopspan_redirected_connections_total{protocol="http1"'))
            trace = seen["headers"]["traceparent"][3:35]
            (span,) = self.collector_.wait(1, where=lambda span: span["traceId"] == trace)
            self.assertEqual(THERE[version], span["attributes"]["network.peer.address"])
            self.assertEqual("redirected", span["attributes"]["hopspan.unlinked.reason"])

    def test_the_destination_is_the_connection_s_and_not_the_host_field_s(self):
        peer = self.connect(4, 8000)
        peer.sendall(b"GET /echo/ HTTP/1.1\r\nHost: elsewhere.invalid\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: peer.recv(65536), b""))
        self.assertIn(b"200 OK", answer.split(b"\r\n")[0])
        self.assertIn(b"elsewhere.invalid", answer)

    def test_http_2_by_prior_knowledge_stays_http_2(self):
        """Nobody over there speaks it: that this is found out there, and not answered here by HTTP/1.1, is the point."""
        peer = self.connect(4, 7000)
        hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
        peer.sendall(hello)
        self.assertEqual(b"\0\0", peer.recv(65536)[:2], "hopspan's own SETTINGS")
        self.assertEqual(1, self.sidecar_.metric('hopspan_redirected_connections_total{protocol="http2"'))

    def test_tls_passes_untouched(self):
        context = ssl.create_default_context(cafile=str(self.folder / "cert"))
        for version in 4, 6:
            peer = context.wrap_socket(self.connect(version, 4430), server_hostname="service.test")
            message = os.urandom(1 << 20)
            threading.Thread(target=peer.sendall, args=(message,), daemon=True).start()
            back = b""
            while len(back) < len(message):
                back += peer.recv(65536)
            self.assertEqual(message, back)
            peer.close()
        for span in self.spans(2, 4430):
            self.assertEqual((3, "TCP", "service.test", "tls"), (span["kind"], span["name"], span["attributes"]["server.address"], span["attributes"]["hopspan.tunnel.protocol"]))
            self.assertGreater(span["attributes"]["hopspan.tunnel.sent_bytes"], 1 << 20)
            self.assertGreater(span["attributes"]["hopspan.tunnel.received_bytes"], 1 << 20)
            self.assertNotIn("parentSpanId", {k: v for k, v in span.items() if v})

    def test_a_server_may_speak_first(self):
        for version in 4, 6:
            peer, begun = self.connect(version, 2525), time.monotonic()
            self.assertEqual(b"220 speaks first\r\n", peer.recv(100))
            self.assertLess(time.monotonic() - begun, 2)
            peer.sendall(b"EHLO client\r\n")
            self.assertEqual(b"EHLO client\r\n", peer.recv(100))
            # One half that ends is passed on as such.
            peer.shutdown(socket.SHUT_WR)
            self.assertEqual(b"", peer.recv(100))
        for span in self.spans(2, 2525):
            self.assertEqual((13, "tcp"), (span["attributes"]["hopspan.tunnel.sent_bytes"], span["attributes"]["hopspan.tunnel.protocol"]))
            self.assertNotEqual(2, span.get("status", {}).get("code"))

    def test_what_breaks_over_there_breaks_here(self):
        peer = self.connect(4, 7001)
        peer.sendall(b"x")
        with self.assertRaises(ConnectionResetError):
            while peer.recv(100):
                pass
        refused = self.connect(4, 9)
        refused.sendall(b"x")
        with self.assertRaises(ConnectionResetError):
            refused.recv(100)
        (broken,), (span,) = self.spans(1, 7001), self.spans(1, 9)
        self.assertEqual(2, broken["status"]["code"])
        self.assertEqual((2, "connection_refused"), (span["status"]["code"], span["attributes"]["error.type"]))

    def test_who_was_not_redirected_is_not_served(self):
        for family, address in (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"):
            with socket.socket(family) as peer:
                peer.settimeout(20)
                try:
                    peer.connect((address, PORT))
                    peer.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    self.assertEqual(b"", peer.recv(100))
                except ConnectionError:
                    pass
        self.assertEqual(2, self.sidecar_.metric('hopspan_connections_refused_total{reason="not_redirected"'))

    def test_another_host_may_call_only_where_clients_names_it(self):
        """No redirection here: it is the namespaces that make two hosts (outbound.listen where others reach it)."""
        drop = ["setpriv", "--regid", GROUP, "--clear-groups", "--"]
        rows = ("[]", "403"), ("[10.78.0.0/16]", "403"), (f"[{THERE[4]}]", "200"), ("[10.77.0.0/24]", "200")
        for number, (clients, status) in enumerate(rows):
            proxy, name = f"{HERE[4]}:{free_port()}", f"hopspan-{number}"
            self.sidecar(free_port(), f"outbound: {{clients: {clients}}}\n", prefix=drop, name=name, outbound=proxy)
            for asked in ("GET", url(4, 8000, "/healthz")), ("CONNECT", f"{THERE[4]}:8000"):
                for host, expected in (self.over_there(), status), ([], "200"):
                    code, output = run([*host, sys.executable, "-c", CALL, proxy, *asked])
                    self.assertEqual((0, expected), (code, output.strip()), (clients, asked, host))

    def test_no_call_is_joined_to_a_wrong_request(self):
        """An app whose calls are redirected: proven by its connection none is, by the token all are."""
        for shim in False, True:
            port = free_port()
            more = f"correlation: {{token: {str(shim).lower()}}}\n"
            self.stop(self.sidecar_.process)
            self.sidecar_ = self.hopspan(port, more)
            env = {"PYTHONPATH": str(ROOT / "deploy/python/shim"), "HOPSPAN_OUTBOUND": f"{THERE[4]}:8000,[{THERE[6]}]:8000"} if shim else {}
            command = [part.format(port=port) for part in self.gunicorn("--workers", "4")]
            app = self.start(f"app-{shim}", command, **env)
            wait_until("the app", lambda: self.sidecar_.get("/healthz")[0] == 200, [app, self.sidecar_.process])
            traces = {}

            def ask(number):
                trace = f"{number + 1:032x}"
                path = f"/call/?url={url(4 + 2 * (number % 2), 8000, f'/orders/{number}/')}"
                answer = self.traced(path, trace)
                traces[number] = (trace, answer)

            threads = [threading.Thread(target=ask, args=(number,)) for number in range(64)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual({200}, {answer for _, answer in traces.values()})

            def is_call(span):
                called = span["attributes"].get("url.full", "")
                return called.startswith((url(4, 8000, "/orders/"), url(6, 8000, "/orders/")))

            calls = self.collector_.wait(128 if shim else 64, where=is_call)[-64:]
            joined = 0
            for span in calls:
                number = int(span["attributes"]["url.full"].rstrip("/").rsplit("/", 1)[1])
                if span["attributes"].get("hopspan.parent.evidence"):
                    self.assertEqual(("token", traces[number][0]), (span["attributes"]["hopspan.parent.evidence"], span["traceId"]))
                    joined += 1
                else:
                    self.assertEqual("redirected", span["attributes"]["hopspan.unlinked.reason"])
            self.assertEqual(64 if shim else 0, joined)
            self.stop(app)

    def traced(self, path, trace):
        client = http.client.HTTPConnection("127.0.0.1", self.sidecar_.ports["inbound"], timeout=60)
        client.request("GET", path, headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
        status = client.getresponse().status
        client.close()
        return status


class ByNftables(Redirected):
    def redirect(self):
        nft = tool("nft", "nftables is not installed")
        code, output = run([nft, "-D", f"group={self.GROUP}", "-f", RULES / "hopspan.nft"])
        self.assertEqual(0, code, output)

    def test_http_and_others_pass(self):
        for version in 4, 6:
            seen = json.loads(get(url(version, 8000, "/echo/"))[1])
            self.assertIn("traceparent", seen["headers"])
            self.assertEqual(b"220 speaks first\r\n", self.connect(version, 2525).recv(100))


class ALoop(Redirected):
    """Rules that leave out another group than hopspan's: its own connections come back to it."""

    GROUP = OTHERS

    def services(self):
        pass

    def test_a_loop_ends_at_once_and_is_told(self):
        def open_files():
            return len(list(pathlib.Path(f"/proc/{self.sidecar_.process.popen.pid}/fd").iterdir()))

        before = open_files()
        for version in 4, 6:
            for request, answered in (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"502"), (b"\x16\x03\x01hello", b""):
                peer = self.connect(version, 8000)
                peer.sendall(request)
                answer = b""
                try:
                    while data := peer.recv(65536):
                        answer += data
                except ConnectionError:
                    pass
                self.assertIn(answered, answer)
        refused = self.sidecar_.metric('hopspan_connections_refused_total{reason="loop"')
        self.assertGreaterEqual(refused, 4)
        self.assertLessEqual(refused, 16, "each ended after a round or few")
        self.assertIn("deploy/transparent", self.sidecar_.process.log.read_text())
        wait_until("descriptors to be closed", lambda: open_files() <= before + 8, [self.sidecar_.process])
