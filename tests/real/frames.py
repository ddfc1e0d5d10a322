"""WebSocket frames by hand (RFC 6455 section 5), so that they can be wrong, and what a server answers to them."""

import hashlib
import os
import socket
import struct

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = b"\x12\x34\x56\x78"


def frame(opcode, payload=b"", fin=True, reserved=0, masked=True, length=None):
    """One frame of a client. `length`: how the length is written, where not in the shortest way (126 or 127)."""
    size = len(payload)
    form = length or (size if size < 126 else 126 if size < 65536 else 127)
    head = bytes([fin << 7 | reserved << 4 | opcode, masked << 7 | form])
    head += size.to_bytes({126: 2, 127: 8}.get(form, 0), "big") if form >= 126 else b""
    if not masked:
        return head + payload
    key = MASK * (size // 4 + 1)
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(key[:size], "big")
    return head + MASK + mixed.to_bytes(size, "big")


def close(code=None, reason=b""):
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


class Client:
    """A connection that was upgraded."""

    def __init__(self, port, path="/socket/"):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        head += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        self.socket.sendall(head.encode())
        self.file = self.socket.makefile("rb")
        self.status = self.file.readline().split(b" ")[1]
        fields = {}
        while (line := self.file.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            fields[name.lower()] = value.strip()
        self.accept = fields.get(b"sec-websocket-accept")

    def transcript(self, pieces, replies, patience, to_the_end=True):
        """What comes back on `pieces`, sent one after another: frames, and how it ends.

        With `replies`, the client closes when so many frames have come: a server may forget an answer that it is about
        to give when it is told to close. Where the end does not matter, a close is the last that is read.
        """
        try:
            for piece in pieces:
                self.socket.sendall(piece)
        except OSError:
            pass  # the server has closed: what it said comes below
        self.socket.settimeout(patience)
        said = []
        try:
            while (one := self.read()) is not None:
                said.append(one)
                if len(said) == replies:
                    self.socket.sendall(close(1000))
                if not to_the_end and one.split(" ")[2] == str(CLOSE):
                    break
            else:
                said.append("end")
        except socket.timeout:
            said.append("open")
        except ConnectionError:
            said.append("end")
        self.file.close()
        self.socket.close()
        return said

    def exactly(self, size):
        data = self.file.read(size)
        if len(data) < size:
            raise ConnectionError("ended within a frame")
        return data

    def read(self):
        first = self.file.read(1)
        if not first:
            return None
        size = self.exactly(1)[0]
        assert size < 128, "a server's frame was masked"
        if size >= 126:
            size = int.from_bytes(self.exactly(2 if size == 126 else 8), "big")
        payload = self.exactly(size)
        shown = payload.hex() if size <= 32 else hashlib.sha256(payload).hexdigest()
        return f"{first[0] >> 7} {first[0] >> 4 & 7} {first[0] & 15} {size} {shown}"


def chopped(data, size):
    return [data[at : at + size] for at in range(0, len(data), size)]


def cases():
    """Name -> what is sent, and how many answers come before a close; where none, the server has the last word."""
    good, bad = {}, {}
    for size in (0, 1, 125, 126, 127, 128, 65535, 65536, 1 << 20):
        good[f"5.6 text of {size}"] = [frame(TEXT, b"*" * size)]
        good[f"5.6 binary of {size}"] = [frame(BINARY, os.urandom(size) if size < 65535 else bytes(range(256)) * (size // 256))]
    text = "κόσμε, ünï, 🐍".encode()
    good["5.6 text of several bytes a character"] = [frame(TEXT, text)]
    good["5.4 text in three fragments"] = [frame(TEXT, b"a", fin=False), frame(0, b"b", fin=False), frame(0, b"c")]
    good["5.4 empty fragments"] = [frame(TEXT, fin=False), frame(0, fin=False), frame(0)]
    good["5.4 a character cut by fragments"] = [frame(TEXT, text[:1], fin=False), frame(0, text[1:])]
    good["5.4 binary in 100 fragments"] = [frame(BINARY, b"0", fin=False), *[frame(0, b"x" * 700, fin=False)] * 98, frame(0, b"1")]
    good["5.4 a ping between fragments"] = [frame(TEXT, b"a", fin=False), frame(PING, b"now"), frame(0, b"b")]
    good["5.5.2 ping"] = [frame(PING)]
    good["5.5.2 ping of 125"] = [frame(PING, b"p" * 125)]
    good["5.5.2 ten pings"] = [frame(PING, bytes([48 + n])) for n in range(10)]
    good["5.5.3 a pong that nobody asked for"] = [frame(PONG, b"hello"), frame(TEXT, b"after")]
    good["5.2 byte by byte"] = chopped(frame(TEXT, b"slow and whole") + frame(PING, b"p"), 1)
    good["5.2 head and payload apart"] = chopped(frame(BINARY, b"z" * 70000), 9)[:3] + [frame(BINARY, b"z" * 70000)[27:]]
    good["5.2 many frames in one write"] = [b"".join(frame(TEXT, f"message {n}".encode()) for n in range(200))]
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        bad[f"7.4 close by {code}"] = [close(code, b"why")]
    bad["7.1.5 close without a code"] = [close()]
    bad["5.5.1 close with a reason of 123"] = [close(1000, b"r" * 123)]
    for code in (0, 999, 1004, 1005, 1006, 1012, 1016, 1100, 2000, 2999, 5000, 65535):
        bad[f"7.4.1 close by {code}, which may not be sent"] = [close(code)]
    bad["5.5.1 close of one byte"] = [frame(CLOSE, b"x")]
    bad["5.5.1 close of 126"] = [frame(CLOSE, struct.pack("!H", 1000) + b"r" * 124)]
    bad["5.5.1 close with a reason that is not UTF-8"] = [close(1000, b"\xff")]
    for bits in (1, 2, 4, 7):
        bad[f"5.2 reserved bits {bits}"] = [frame(TEXT, b"r", reserved=bits)]
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        bad[f"5.2 opcode {opcode}"] = [frame(opcode, b"o")]
    bad["5.1 not masked"] = [frame(TEXT, b"bare", masked=False)]
    bad["5.4 continuation of nothing"] = [frame(CONTINUATION, b"c")]
    bad["5.4 text within text"] = [frame(TEXT, b"a", fin=False), frame(TEXT, b"b")]
    bad["5.5 ping in fragments"] = [frame(PING, b"p", fin=False)]
    bad["5.5 ping of 126"] = [frame(PING, b"p" * 126)]
    for length in (126, 127):
        good[f"5.2 a length not written in the shortest way ({length})"] = [frame(TEXT, b"short", length=length)]
    bad["5.2 a length with the highest bit"] = [bytes([0x82, 0xFF]) + b"\xff" * 8 + MASK]
    for name, wrong in {
        "overlong": b"\xc0\xaf",
        "a surrogate": b"\xed\xa0\x80",
        "above U+10FFFF": b"\xf4\x90\x80\x80",
        "cut at its end": b"\xe2\x82",
        "a lone continuation": b"a\x80b",
    }.items():
        bad[f"8.1 not UTF-8: {name}"] = [frame(TEXT, wrong)]
    bad["8.1 not UTF-8 over fragments"] = [frame(TEXT, b"\xce", fin=False), frame(0, b"\xce")]
    replies = {"a ping between": 2, "ten pings": 10, "byte by byte": 2, "many frames": 200}
    several = lambda name: next((count for words, count in replies.items() if words in name), 1)  # noqa: E731
    return {
        **{name: (pieces, several(name)) for name, pieces in good.items()},
        **{name: (pieces, 0) for name, pieces in bad.items()},
    }
