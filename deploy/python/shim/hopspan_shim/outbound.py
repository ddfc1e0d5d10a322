"""Where a call leaves: the token is added if the connection leads to hopspan, and the app has not put it there itself.

hopspan's outbound address is HOPSPAN_OUTBOUND (`host:port`, several by commas) or, where that is not set, the proxy of
http_proxy and HTTP_PROXY. A call that goes anywhere else, or through a CONNECT tunnel, is left as it is: nobody but
hopspan sees a token. The head of a CONNECT goes to hopspan and is told whose tunnel it is.
"""

import os

from . import cause
from .hooks import replace, trouble

NAME = cause.HEADER
NAME_BYTES = NAME.encode()

_here = None  # (host, port) pairs, once asked


def is_hopspan(host, port):
    """Whether this address is hopspan's outbound listener."""
    global _here
    if _here is None:
        _here = frozenset(_addresses(os.environ))
    return bool(_here) and (_plain(host), port or 80) in _here


def token():
    """The header's value for a call made now, or None."""
    request = cause.current()
    return None if request is None else request.header()


def _addresses(environ):
    from urllib.parse import urlsplit

    named = environ.get("HOPSPAN_OUTBOUND")
    listed = named.split(",") if named else [environ.get("http_proxy"), environ.get("HTTP_PROXY")]
    for address in filter(None, map(str.strip, filter(None, listed))):
        try:
            parts = urlsplit(address if "://" in address else "//" + address)
            if parts.hostname:
                yield _plain(parts.hostname), parts.port or 80
        except ValueError:
            trouble("reading hopspan's address")


def _plain(host):
    """One spelling for a host; all names of this host are one."""
    host = host.decode("ascii") if isinstance(host, bytes) else host or ""
    host = host.strip("[]").rstrip(".").lower()
    return "loopback" if host in ("localhost", "::1", "::", "0.0.0.0") or host.startswith("127.") else host


# http.client: urllib, urllib3 and requests, botocore, xmlrpc, httplib2


def endheaders(original):
    def endheaders(self, *args, **kwargs):
        try:
            value = token()
            if value is not None and not self._tunnel_host and is_hopspan(self.host, self.port):
                started = getattr(self, "_HTTPConnection__state") == "Request-started"
                if started and not any(line.lower().startswith(NAME_BYTES + b":") for line in self._buffer):
                    self.putheader(NAME, value)
        except Exception:
            trouble("http.client")
        return original(self, *args, **kwargs)

    return endheaders


def tunnel(original):
    def _tunnel(self, *args, **kwargs):
        before = None
        try:
            value = token()
            if value is not None and is_hopspan(self.host, self.port):
                before = self._tunnel_headers
                # A copy: it may be a dictionary of the app. And for this one CONNECT, whoever causes the next.
                self._tunnel_headers = dict(before, **{NAME: value})
        except Exception:
            trouble("http.client's tunnel")
        try:
            return original(self, *args, **kwargs)
        finally:
            if before is not None:
                self._tunnel_headers = before

    return _tunnel


def http_client(module):
    replace(module.HTTPConnection, "endheaders", endheaders)
    replace(module.HTTPConnection, "_tunnel", tunnel)


# httpcore: httpx. Its connections know the peer, be that a proxy or not; what runs inside a tunnel does not pass here.


def with_token(connection, request):
    try:
        value = token()
        origin = connection._origin
        if value is None or not is_hopspan(origin.host, origin.port):
            return request
        if any(name.lower() == NAME_BYTES for name, _ in request.headers):
            return request
        import copy

        # A copy: the request is the app's, which may send it again for another cause.
        request = copy.copy(request)
        request.headers = [*request.headers, (NAME_BYTES, value.encode("ascii"))]
    except Exception:
        trouble("httpcore")
    return request


def handle_request(original):
    def handle_request(self, request, *args, **kwargs):
        return original(self, with_token(self, request), *args, **kwargs)

    return handle_request


def handle_async_request(original):
    async def handle_async_request(self, request, *args, **kwargs):
        return await original(self, with_token(self, request), *args, **kwargs)

    return handle_async_request


# aiohttp


def send(original):
    async def send(self, *args, **kwargs):
        try:
            value = token()
            if value is not None:
                peer = self.proxy or (self.original_url if self.method == "CONNECT" else self.url)
                inside_tunnel = self.proxy and self.is_ssl()
                if not inside_tunnel and is_hopspan(peer.host, peer.port):
                    self.headers.setdefault(NAME, value)
        except Exception:
            trouble("aiohttp")
        return await original(self, *args, **kwargs)

    return send


HOOKS = {
    "http.client": http_client,
    # urllib3 2 has a copy of `_tunnel` for Pythons whose own is old.
    "urllib3.connection": lambda module: replace(module.HTTPConnection, "_tunnel", tunnel),
    "httpcore._sync.connection": lambda module: replace(module.HTTPConnection, "handle_request", handle_request),
    "httpcore._async.connection": lambda module: replace(
        module.AsyncHTTPConnection, "handle_async_request", handle_async_request
    ),
    "aiohttp.client_reqrep": lambda module: replace(module.ClientRequest, "send", send),
}
