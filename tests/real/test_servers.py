"""hopspan before the servers that run Django: gunicorn (sync, threads), uWSGI, uvicorn, Daphne. Real ones, unmodified.

Two things for each: exchanges pass unchanged, and calls are joined to their requests where that can be proven, and
never joined to another.
"""

import concurrent.futures
import hashlib
import http.client
import json

from harness import PROBE, VENV, Case, free_port, request, tool
from processes import get, wait_until

DAPHNE = "daphne is not in the environment (tests/django/venv matrix)"
UWSGI = "pyuwsgi is not in the environment (tests/django/venv matrix)"


class Servers(Case):
    def commands(self):
        uwsgi = ["pyuwsgi", "--http-socket", "127.0.0.1:{port}", "--master", "--die-on-term", "--need-app", "--processes"]
        uwsgi_rest = ["--module", "probe.wsgi", "--chdir", PROBE, "--virtualenv", VENV.parent, "--disable-logging"]
        return {
            "daphne": ["daphne", "-b", "127.0.0.1", "-p", "{port}", "probe.asgi:application"],
            "gunicorn sync": self.gunicorn("--workers", "2"),
            "gunicorn gthread": self.gunicorn("--workers", "1", "--threads", "4"),
            "uvicorn": ["uvicorn", "--port", "{port}", "--app-dir", PROBE, "--no-access-log", "probe.asgi:application"],
            "uwsgi": [*uwsgi, "2", *uwsgi_rest],
        }

    def exchanges(self, sidecar, early=True):
        """What every server must do alike."""
        port = sidecar.ports["inbound"]
        body = hashlib.sha256(b"seed").digest() * 32 * 1024  # 1 MiB
        digest = hashlib.sha256(body).hexdigest()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        status, _, answer = request(port, "POST", "/upload/", body, connection=connection)
        self.assertEqual((200, digest), (status, json.loads(answer)["body_sha256"]))
        status, _, answer = request(port, "GET", "/echo/a%20b?q=1", connection=connection)
        self.assertEqual((200, "/echo/a b", "q=1"), (status, json.loads(answer)["path"], json.loads(answer)["query"]))
        self.assertEqual(500, request(port, "GET", "/error/", connection=connection)[0])
        self.assertEqual((204, b""), request(port, "GET", "/status/204/", connection=connection)[::2])
        self.assertEqual((200, b""), request(port, "HEAD", "/bytes/1000/", connection=connection)[::2])
        self.assertEqual(b"line 0\nline 1\n", request(port, "GET", "/stream/?n=2&ms=5", connection=connection)[2])
        self.assertEqual(700_000, len(request(port, "GET", "/bytes/700000/", connection=connection)[2]))
        if early:
            self.assertEqual(413, request(port, "POST", "/upload-early-413/", b"x" * 3_000_000)[0])
        self.assertEqual(200, request(port, "GET", "/echo/", connection=connection)[0])

    def test_exchanges_pass_before_gunicorn_sync(self):
        self.exchanges(self.sidecar(self.app(*self.commands()["gunicorn sync"])))

    def test_exchanges_pass_before_gunicorn_with_threads(self):
        self.exchanges(self.sidecar(self.app(*self.commands()["gunicorn gthread"])))

    def test_exchanges_pass_before_uvicorn(self):
        self.exchanges(self.sidecar(self.app(*self.commands()["uvicorn"])))

    def test_exchanges_pass_before_daphne(self):
        tool("daphne", DAPHNE)
        self.exchanges(self.sidecar(self.app(*self.commands()["daphne"])))

    def test_exchanges_pass_before_uwsgi(self):
        tool("pyuwsgi", UWSGI)
        # uWSGI's early answer has no length and ends with a reset: nobody can tell that it is whole, with or without
        # hopspan.
        self.exchanges(self.sidecar(self.app(*self.commands()["uwsgi"])), early=False)

    def calls(self, command, count=40, clients=4):
        """Requests whose views call a second server through hopspan, several at once. Returns (joined, calls).

        The callee shows the traceparent that came to it: with the caller's trace ID it is a join, and that trace ID
        must be the one that this very request was sent with.
        """
        callee = self.app(*self.gunicorn("--workers", "2"))
        port = free_port()
        sidecar = self.sidecar(port, command=command)

        def one(number):
            trace = f"{number + 1:032x}"
            url = f"http://127.0.0.1:{callee}/orders/{number}/"
            path = f"/call/?n=2&client={['requests', 'session', 'urllib'][number % 3]}&url={url}"
            headers = {"traceparent": f"00-{trace}-00000000000000aa-01"}
            status, _, body = request(sidecar.ports["inbound"], "GET", path, headers=headers)
            self.assertEqual(200, status, body)
            joined = 0
            for call in json.loads(body)["calls"]:
                self.assertEqual((200, number), (call["status"], call["body"]["order"]))
                # Every call leaves with one valid context; whose it is, is the question.
                seen = call["body"]["traceparent"]
                self.assertRegex(seen, "^00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-9a-f]$")
                other = [f"{n + 1:032x}" for n in range(count) if n != number]
                self.assertNotIn(seen.split("-")[1], other, "joined to another request")
                joined += seen.split("-")[1] == trace
            return joined

        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            joined = sum(pool.map(one, range(count)))
        return joined, 2 * count

    def test_calls_are_joined_behind_gunicorn_sync(self):
        joined, calls = self.calls(self.commands()["gunicorn sync"])
        self.assertGreaterEqual(joined, 0.97 * calls)

    def test_calls_are_joined_behind_uwsgi(self):
        tool("pyuwsgi", UWSGI)
        joined, calls = self.calls(self.commands()["uwsgi"])
        self.assertGreaterEqual(joined, 0.7 * calls)

    def test_no_call_is_joined_wrongly_behind_threads(self):
        self.calls(self.commands()["gunicorn gthread"])

    def test_no_call_is_joined_wrongly_behind_uvicorn(self):
        self.calls(self.commands()["uvicorn"])

    def test_no_call_is_joined_wrongly_behind_daphne(self):
        tool("daphne", DAPHNE)
        self.calls(self.commands()["daphne"])

    def test_a_killed_worker_is_a_502_and_the_next_request_is_served(self):
        sidecar = self.sidecar(self.app(*self.commands()["gunicorn sync"]))
        self.assertEqual(502, sidecar.get("/die/")[0])
        wait_until("served again", lambda: get(sidecar.url("inbound", "/healthz"))[0] == 200, [sidecar.process])
