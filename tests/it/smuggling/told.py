"""An app that tells on stdout of each request it sees, and answers with the same line. It reads every other body."""

import os
import zlib


def _tell(method, target, contexts):
    line = f"saw {','.join(contexts) or '-'} {method} {ascii(target)}\n".encode()
    os.write(1, line)  # one write: lines of threads do not mix
    return line


def _reads(target):
    return zlib.crc32(target.encode("utf-8", "replace")) % 2 == 0


def wsgi(environ, start_response):
    target = environ.get("RAW_URI") or environ["PATH_INFO"]
    contexts = [value for name, value in environ.items() if name == "HTTP_TRACEPARENT"]
    line = _tell(environ["REQUEST_METHOD"], target, contexts)
    if _reads(target):
        environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(line)))])
    return [line]


async def asgi(scope, receive, send):
    target = (scope.get("raw_path") or b"").decode("latin-1")
    contexts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"]
    line = _tell(scope.get("method", "websocket"), target, contexts)
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close"})
        return
    while _reads(target):
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            break
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(line)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": line})
