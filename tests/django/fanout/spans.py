"""An OTLP receiver (http/protobuf) that keeps what hopspan says of the calls: by what evidence, or why not.

Reads of opentelemetry-proto's ExportTraceServiceRequest what the matrix needs, and nothing else.
"""

import http.server
import socketserver
import threading
from collections import namedtuple
from urllib.parse import urlsplit

Span = namedtuple("Span", "trace parent kind attributes links")
CLIENT = 3


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def fields(data):
    """(number, value) of a message's fields: an int, or bytes; fixed-size numbers are left out."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = varint(data, at)
            yield tag >> 3, value
        elif kind == 2:
            length, at = varint(data, at)
            yield tag >> 3, data[at : at + length]
            at += length
        else:
            at += {1: 8, 5: 4}[kind]


def every(data, number):
    return (value for found, value in fields(data) if found == number)


def attribute(data):
    key, value = "", None
    for number, part in fields(data):
        if number == 1:
            key = part.decode()
        else:
            for kind, plain in fields(part):
                value = plain.decode() if kind == 1 else plain
    return key, value


def span(data):
    trace, parent, kind, attributes, links = b"", b"", 0, {}, []
    for number, value in fields(data):
        if number == 1:
            trace = value
        elif number == 4:
            parent = value
        elif number == 6:
            kind = value
        elif number == 9:
            name, plain = attribute(value)
            attributes[name] = plain
        elif number == 13:
            links += [link.hex() for link in every(value, 1)]
    return Span(trace.hex(), parent.hex(), kind, attributes, links)


class Receiver(http.server.ThreadingHTTPServer):
    """Keeps the bodies as they come; reads them when asked, when the load is over."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def calls(self):
        """(way, cause, number) to the spans of those calls; a tunnel's is known by the address it leads to."""
        found = {}
        for body in list(self.bodies):
            for resource in every(body, 1):
                for scope in every(resource, 2):
                    for data in every(scope, 2):
                        told = span(data)
                        name = whose(told)
                        if name:
                            found.setdefault(name, []).append(told)
        return found


def whose(told):
    """(way, cause, number) of a call's span; None for the others."""
    if told.kind != CLIENT:
        return None
    address = str(told.attributes.get("server.address", ""))
    if told.attributes.get("http.request.method") == "CONNECT":
        high, low = address.split(".")[2:]
        return "sync-tunnel", "caused", int(high) * 256 + int(low)
    parts = urlsplit(told.attributes.get("url.full") or "").path.split("/")
    return (parts[1], parts[2], int(parts[3])) if len(parts) == 4 and parts[3].isdigit() else None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass
