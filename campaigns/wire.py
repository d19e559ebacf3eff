"""HTTP/1.1 as bytes: reading requests and replies off sockets, so that a proxy can spoil them at will."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from http import HTTPStatus

from attrs import frozen

BLOCK = 1 << 16
_LARGEST_HEAD = 1 << 20


class BrokenWireError(ConnectionError):
    """The peer went away, or did not speak HTTP."""


@frozen
class Head:
    """The first lines of a request or a reply: the bytes with the empty line, and what follows of the body already."""

    raw: bytes
    rest: bytes

    @property
    def first(self) -> list[str]:
        """The words of the first line: method, path, version; or version, status, reason."""
        return self.raw.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)

    def field(self, name: str) -> str:
        """A header's value, "" if it is absent; `name` in lower case."""
        for line in self.raw.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == name.encode():
                return value.strip().decode("latin-1").lower()
        return ""


def read_head(source: socket.socket) -> Head | None:
    """The next head, `None` when the peer has closed before it. Raises `BrokenWireError`."""
    received = b""
    while b"\r\n\r\n" not in received:
        block = source.recv(BLOCK)
        if not block:
            if received:
                raise BrokenWireError("closed within a head")
            return None
        received += block
        if len(received) > _LARGEST_HEAD:
            raise BrokenWireError("a head without an end")
    raw, _, rest = received.partition(b"\r\n\r\n")
    return Head(raw + b"\r\n\r\n", rest)


def body_of(head: Head, source: socket.socket, *, until_closed: bool = False) -> Iterator[bytes]:
    """The body's bytes as they come, framing included; `until_closed`: an unframed body ends with the connection."""
    if head.field("transfer-encoding") == "chunked":
        yield from _chunked(head.rest, source)
    elif length := head.field("content-length"):
        yield from _counted(head.rest, source, int(length))
    elif until_closed:
        yield head.rest
        while block := source.recv(BLOCK):
            yield block


def _counted(rest: bytes, source: socket.socket, length: int) -> Iterator[bytes]:
    if rest:
        yield rest
    left = length - len(rest)
    while left > 0:
        block = source.recv(min(BLOCK, left))
        if not block:
            raise BrokenWireError("closed within a body")
        left -= len(block)
        yield block


def _chunked(rest: bytes, source: socket.socket) -> Iterator[bytes]:
    """Chunks with their sizes, up to the one of size 0."""
    pending = rest
    while True:
        while b"\r\n" not in pending:
            pending += _more(source)
        line = pending.partition(b"\r\n")[0]
        size = int(line.split(b";")[0], 16)
        needed = len(line) + 2 + size + 2
        while len(pending) < needed:
            pending += _more(source)
        yield pending[:needed]
        pending = pending[needed:]
        if size == 0:
            return


def _more(source: socket.socket) -> bytes:
    block = source.recv(BLOCK)
    if not block:
        raise BrokenWireError("closed within a chunk")
    return block


def reset(connection: socket.socket) -> None:
    """Close with RST instead of FIN, so that the peer gets ECONNRESET."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def reply(status: int, *, text: str, content: str = "text/html") -> bytes:
    """A whole reply of our own, as a gateway in front of a server would give it."""
    body = text.encode()
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {content}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
