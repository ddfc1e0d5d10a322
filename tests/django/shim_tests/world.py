"""What the tests share: a stand-in for hopspan's outbound listener that notes tokens, a third party that must see
none, and requests to an app without a server."""

import contextlib
import functools
import io
import os
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
SHIM = os.path.join(ROOT, "deploy", "python", "shim")

_numbers = count(1)


def new_token():
    return "token-%016d" % next(_numbers)  # 22 characters, as hopspan's


class Recorder(ThreadingHTTPServer):
    """Answers everything; `seen` maps a URL as requested to the tokens of each call."""

    daemon_threads = True
    request_queue_size = 128  # of 50 at once none may be dropped and wait for its repetition

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen = {}
        self.host = "127.0.0.1:%d" % self.server_address[1]
        self.url = "http://" + self.host
        # Not through the shim's threads: this server stands for another process.
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def take(self, path):
        """Tokens of the calls with that path (query aside), each a list of header values; forgets them."""
        found = [url for url in self.seen if url.split("?")[0].endswith(path)]
        return [tokens for url in found for tokens in self.seen.pop(url)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.note()
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def do_CONNECT(self):
        self.note()
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def note(self):
        tokens = self.headers.get_all("hopspan-token") or []
        self.server.seen.setdefault(self.path, []).append(tokens)

    def log_message(self, *arguments):
        pass


class World:

    def __init__(self):
        self.hopspan = Recorder()
        self.third = Recorder()
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
            os.environ[name] = self.hopspan.url
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = "localhost"
        self.third.url = self.third.url.replace("127.0.0.1", "localhost")  # that is: not through hopspan


_world = World()  # at once, since the shim reads the environment once


def world():
    return _world


_paths = count(1)


def new_url():
    """A URL that no other call has; it is reached through the proxy."""
    return "http://service.test/%d" % next(_paths)


def tokens_of(url):
    """The tokens that hopspan got with the calls to that URL."""
    return world().hopspan.take(url.split("?")[0].rsplit("/", 1)[1].join(("/", "")))


def environ(token=None, path="/"):
    from wsgiref.util import setup_testing_defaults

    result = {"PATH_INFO": path, "wsgi.input": io.BytesIO()}
    setup_testing_defaults(result)
    if token is not None:
        result["HTTP_HOPSPAN_TOKEN"] = token
    return result


def wsgi_get(app, token=None, path="/", close=True, **extra):
    """Runs a WSGI app as a server does: call, iterate, close. Returns the body, or the response if not closed."""
    response = app(dict(environ(token, path), **extra), lambda status, headers, info=None: None)
    if not close:
        return response
    try:
        return b"".join(response)
    finally:
        if hasattr(response, "close"):
            response.close()


async def asgi_get(app, token=None, path="/"):
    """Runs an ASGI app as a server does, in the current task. Returns the body."""
    body = []
    headers = [(b"host", b"app.test")] + ([(b"hopspan-token", token.encode())] if token else [])
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    asked = []

    async def receive():
        if not asked:
            asked.append(1)
            return {"type": "http.request", "body": b"", "more_body": False}
        import asyncio

        await asyncio.sleep(3600)

    async def send(message):
        if message["type"] == "http.response.body":
            body.append(message.get("body", b""))

    await app(scope, receive, send)
    return b"".join(body)


def for_each(things):
    """Runs a test for each of them, each as a subtest: `def test(self, thing)`."""

    def decorate(test):
        @functools.wraps(test)
        def run(self):
            for thing in things:
                with self.subTest(thing.__name__):
                    test(self, thing)

        return run

    return decorate


@contextlib.contextmanager
def serving(token):
    """As if a request with that token were worked on here."""
    from hopspan_shim import cause

    request = cause.begin(token)
    try:
        yield request
    finally:
        cause.end(request)
