"""Debian's Nginx with deploy/nginx/hopspan.conf -> hopspan -> gunicorn with Django."""

import hashlib
import http.client
import json
import os
import signal

from harness import Case, ROOT, free_port, request, run, tool
from processes import get, wait_until

MAIN = """
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log warn;
daemon off;
worker_processes 1;
{user}
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/hopspan.conf;
}}
"""


class BehindNginx(Case):
    def before(self, app):
        """hopspan before the app, and where Nginx finds it."""
        sidecar = self.sidecar(app)
        return sidecar, f"127.0.0.1:{sidecar.ports['inbound']}"

    def setUp(self):
        super().setUp()
        nginx = tool("nginx", "nginx is not installed")
        self.sidecar_, upstream = self.before(self.app(*self.gunicorn("--workers", "2")))
        self.port = free_port()
        deployed = (ROOT / "deploy/nginx/hopspan.conf").read_text()
        # The file as it is deployed, but for the two ports.
        moved = deployed.replace("listen 80;", f"listen 127.0.0.1:{self.port};", 1)
        moved = moved.replace("server 127.0.0.1:8080;", f"server {upstream};", 1)
        self.assertEqual(2, sum(a != b for a, b in zip(deployed.splitlines(), moved.splitlines())))
        (self.folder / "hopspan.conf").write_text(moved)
        user = "user root;" if os.geteuid() == 0 else ""
        config = self.folder / "nginx.conf"
        config.write_text(MAIN.format(folder=self.folder, user=user))
        code, output = run([nginx, "-t", "-c", config])
        self.assertEqual(0, code, output)
        self.nginx = self.start("nginx", [nginx, "-c", config])
        wait_until("nginx", lambda: get(f"http://127.0.0.1:{self.port}/healthz")[0] == 200, [self.nginx])

    def seen(self, path="/echo/", **headers):
        status, _, body = request(self.port, "GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        self.assertEqual(200, status)
        return json.loads(body)

    def test_the_app_sees_the_client(self):
        seen = self.seen("/echo/a%20b/%C3%A9?q=1&q=2", Host="shop.example:8443", User_Agent="test")["headers"]
        self.assertEqual("shop.example:8443", seen["host"])
        self.assertEqual("127.0.0.1, 127.0.0.1", seen["x-forwarded-for"])  # the client, then Nginx, as hopspan saw it
        self.assertEqual("http", seen["x-forwarded-proto"])
        self.assertEqual("shop.example:8443", seen["x-forwarded-host"])
        self.assertEqual("test", seen["user-agent"])
        self.assertEqual("/echo/a%20b/%C3%A9?q=1&q=2", self.seen("/echo/a%20b/%C3%A9?q=1&q=2")["raw_path"])

    def test_a_trace_goes_on_through_nginx(self):
        trace = "0af7651916cd43dd8448eb211c80319c"
        seen = self.seen(traceparent=f"00-{trace}-b7ad6b7169203331-01", tracestate="a=1,b=2", baggage="k=v")["headers"]
        self.assertRegex(seen["traceparent"], f"^00-{trace}-[0-9a-f]{{16}}-01$")
        self.assertNotIn("b7ad6b7169203331", seen["traceparent"])
        self.assertEqual(("a=1,b=2", "k=v"), (seen["tracestate"], seen["baggage"]))

    def test_connections_to_hopspan_are_kept(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        before = self.sidecar_.metric("hopspan_connections{direction=\"inbound\"")
        for number in range(200):
            self.assertEqual(200, request(self.port, "GET", f"/echo/{number}", connection=connection)[0])
        after = self.sidecar_.metric("hopspan_connections{direction=\"inbound\"")
        self.assertLessEqual(after, before + 1)
        _, output = run(["sh", "-c", f"ss -Htan state time-wait '( sport = :{self.sidecar_.ports['inbound']} or dport = :{self.sidecar_.ports['inbound']} )' | wc -l"])
        self.assertLessEqual(int(output.split()[-1]), 20, "every request opened a connection to hopspan")

    def test_bodies_pass_whole_both_ways(self):
        body = hashlib.sha256(b"seed").digest() * 32 * 1024 * 8  # 8 MiB
        status, _, answer = request(self.port, "POST", "/upload/", body)
        self.assertEqual((200, hashlib.sha256(body).hexdigest()), (status, json.loads(answer)["body_sha256"]))
        chunked = (body[i : i + 65536] for i in range(0, len(body), 65536))
        status, _, answer = request(self.port, "POST", "/upload/", chunked)
        # Django reads a body only with a Content-Length; Nginx's buffering makes one.
        self.assertEqual((200, len(body)), (status, json.loads(answer)["body_bytes"]))
        for path in ("/bytes/5000000/", "/bytes/5000000/?chunked=1"):
            status, _, answer = request(self.port, "GET", path)
            self.assertEqual((200, 5000000), (status, len(answer)))

    def test_odd_answers_pass_as_they_are(self):
        for path, wanted in {"/status/204/": 204, "/status/304/": 304, "/status/418/": 418, "/error/": 500}.items():
            self.assertEqual(wanted, request(self.port, "GET", path)[0], path)
        status, headers, body = request(self.port, "HEAD", "/echo/")
        self.assertEqual((200, b""), (status, body))
        _, headers, _ = request(self.port, "GET", "/cookies/")
        self.assertEqual(3, sum(name.lower() == "set-cookie" for name, _ in headers))
        self.assertEqual(413, request(self.port, "POST", "/upload-early-413/", b"x" * 2_000_000)[0])
        status, _, body = request(self.port, "GET", "/stream/?n=3&ms=1")
        self.assertEqual((200, b"line 0\nline 1\nline 2\n"), (status, body))

    def test_hopspan_gone_is_nginx_s_502_and_back_is_back(self):
        self.stop(self.sidecar_.process)
        self.assertEqual(502, request(self.port, "GET", "/echo/")[0])


class BehindNginxByUnixSocket(BehindNginx):
    """All of the above, by `inbound.listen: unix:`."""

    def before(self, app):
        self.socket = self.folder / "run" / "http.sock"
        self.socket.parent.mkdir()
        return self.sidecar(app, inbound=f"unix:{self.socket}"), f"unix:{self.socket}"

    def test_hopspan_gone_is_nginx_s_502_and_back_is_back(self):
        app = self.sidecar_.app
        os.kill(self.sidecar_.process.popen.pid, signal.SIGKILL)
        wait_until("Nginx to notice", lambda: request(self.port, "GET", "/echo/")[0] == 502, [self.nginx])
        self.assertTrue(self.socket.is_socket(), "killed, it leaves its file")
        again = self.sidecar(app, name="again", inbound=f"unix:{self.socket}")
        self.assertEqual(200, request(self.port, "GET", "/echo/")[0])
        self.stop(again.process)
        self.assertFalse(self.socket.exists())
        self.assertEqual(502, request(self.port, "GET", "/echo/")[0])
