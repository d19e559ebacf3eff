"""A fault proxy: it stands in front of a real HTTP server and spoils what goes through, by a seeded draw per request.

What it does is done with real sockets, so that a client meets what a bad network or a bad gateway would show it.
"""

from __future__ import annotations

import random
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress

from attrs import define, evolve, field, frozen

from campaigns.servers import free_port
from campaigns.wire import BrokenWireError, Head, body_of, read_head, reply, reset

STATUSES = {"429": 429, "500": 500, "503": 503, "504": 504}
KINDS = (*STATUSES, "reset", "stall", "truncated", "duplicated", "drip", "half_open", "reply_lost")
"""What `FaultProxy.fault` can do; the twelfth kind, a name that does not resolve, is in `campaigns.names`."""

STALL_SECONDS = 60.0
DRIP_SECONDS = 1.0


@frozen
class Fault:
    """One request in 1/`share` whose path contains `path` is spoilt, `times` in all (`None`: without end).

    `seconds` is the length of a stall, or the pause after each byte of a drip.
    """

    kind: str
    share: float
    path: str
    method: str
    times: int | None
    seconds: float


@define
class FaultProxy:
    """A proxy on `port` of 127.0.0.1 before the HTTP server on `upstream_port`; `seed` decides whom the faults meet.

    | kind | what the client sees, and what the server did |
    |---|---|
    | 429, 500, 503, 504 | a gateway's reply; the server never saw the request |
    | reset | RST somewhere within the request's body; the server saw the part before it |
    | stall | nothing for `seconds`; then the request is carried out after all, whether or not the client still waits |
    | truncated | half of the reply's body, then the end; the request was carried out |
    | duplicated | the reply twice on the connection, which stays open; carried out once |
    | drip | the reply a byte every `seconds`; carried out |
    | half_open | nothing, for ever, on a connection that stays open; not carried out |
    | reply_lost | RST in place of the reply; the request was carried out |
    """

    upstream_port: int
    seed: int = field(default=0, kw_only=True)
    port: int = field(factory=free_port, init=False)
    counts: Counter[str] = field(factory=Counter, init=False)
    """How often each fault was done."""
    paths: Counter[str] = field(factory=Counter, init=False)
    """How often each path was asked for, spoilt or not."""
    _faults: list[Fault] = field(factory=list, init=False)
    _random: random.Random = field(init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _stopped: threading.Event = field(factory=threading.Event, init=False)
    _listener: socket.socket | None = field(default=None, init=False)
    _open: set[socket.socket] = field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        self._random = random.Random(self.seed)

    @property
    def uri(self) -> str:
        """Where a client finds the server through this proxy."""
        return f"http://127.0.0.1:{self.port}"

    def fault(
        self,
        kind: str,
        *,
        share: float = 1.0,
        path: str = "",
        method: str = "",
        times: int | None = None,
        seconds: float | None = None,
    ) -> None:
        """From now on do this to a share of the requests (beside what was asked for earlier, which is drawn first)."""
        if kind not in KINDS:
            raise ValueError(f"no fault {kind!r}; there are {', '.join(KINDS)}")
        if seconds is None:
            seconds = DRIP_SECONDS if kind == "drip" else STALL_SECONDS
        with self._lock:
            self._faults.append(Fault(kind, share, path, method, times, seconds))

    def clear(self) -> None:
        """No more faults for requests that come from now on, and connections are accepted."""
        with self._lock:
            self._faults.clear()
        self.accept()

    def accept(self) -> None:
        """Listen: at the start, and again after `refuse`."""
        if self._listener is None:
            listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
            self._listener = listener
            threading.Thread(target=self._listen, args=(listener,), daemon=True).start()

    def refuse(self) -> None:
        """An outage: no one listens any more (connection refused), and open connections are closed."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):  # nobody waits in accept()
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            connections, self._open = self._open, set()
        for connection in connections:
            with suppress(OSError):  # its own thread has closed it
                connection.shutdown(socket.SHUT_RDWR)

    def start(self) -> FaultProxy:
        """Listen; returns itself."""
        self.accept()
        return self

    def stop(self) -> None:
        """End everything, also what is stalled."""
        self._stopped.set()
        self.refuse()

    def __enter__(self) -> FaultProxy:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _listen(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed by refuse()
                return
            with self._lock:
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """All requests of one connection, until it is spoilt or closed."""
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while (head := read_head(client)) is not None:
                exchange = Exchange(client, head, upstream_port=self.upstream_port, pause=self._pause)
                if not exchange.carry_out(self._drawn(head), cut=self._random.random()):
                    break
        except OSError:  # either side went away, which is what this place is for
            pass
        finally:
            with self._lock:
                self._open.discard(client)
            client.close()

    def _drawn(self, head: Head) -> Fault | None:
        """The fault that meets this request."""
        method, path = head.first[0], head.first[1]
        with self._lock:
            self.paths[path.split("?")[0]] += 1
            for index, fault in enumerate(self._faults):
                if fault.path not in path or fault.method not in ("", method) or fault.times == 0:
                    continue
                if self._random.random() < fault.share:
                    if fault.times is not None:
                        self._faults[index] = evolve(fault, times=fault.times - 1)
                    self.counts[fault.kind] += 1
                    return fault
        return None

    def _pause(self, seconds: float) -> None:
        self._stopped.wait(seconds)


@frozen
class Exchange:
    """One request and its reply, on the way through."""

    client: socket.socket
    request: Head
    upstream_port: int = field(kw_only=True)
    pause: Callable[[float], None] = field(kw_only=True)

    def carry_out(self, fault: Fault | None, *, cut: float) -> bool:
        """Do it, spoilt by `fault`; returns whether the connection may go on. `cut`, 0 to 1, is where a reset hits."""
        kind = fault.kind if fault else ""
        if fault is None or kind not in (*STATUSES, "reset", "stall", "half_open"):
            with self._upstream() as server:
                self._send(server, body_of(self.request, self.client))
                return self._return(server, fault)
        if kind == "reset":
            return self._reset(cut)
        body = list(body_of(self.request, self.client))
        if kind in STATUSES:
            text = f"<html><body><h1>{kind}</h1><p>a fault of the proxy</p></body></html>"
            self.client.sendall(reply(STATUSES[kind], text=text))
            return True
        if kind == "half_open":
            self.pause(float(threading.TIMEOUT_MAX))
            return False
        self.pause(fault.seconds)
        with self._upstream() as server:
            self._send(server, iter(body))
            return self._return(server, None)

    def _upstream(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.upstream_port), timeout=600)

    def _send(self, server: socket.socket, body: Iterator[bytes]) -> None:
        server.sendall(self.request.raw)
        for block in body:
            server.sendall(block)

    def _reset(self, cut: float) -> bool:
        """Let a part of the request through, then drop both connections."""
        length = int(self.request.field("content-length") or 0)
        left = int(length * cut)
        with self._upstream() as server:
            server.sendall(self.request.raw if left else self.request.raw[:-2])
            for block in body_of(self.request, self.client):
                server.sendall(block[:left])
                left -= len(block)
                if left <= 0:
                    break
        reset(self.client)
        return False

    def _return(self, server: socket.socket, fault: Fault | None) -> bool:
        """Bring the reply back."""
        head = read_head(server)
        while head is not None and head.first[1] == "100":
            self.client.sendall(head.raw)
            head = Head(head.rest, b"") if head.rest else read_head(server)
        if head is None:
            raise BrokenWireError("the server closed without a reply")
        has_body = self.request.first[0] != "HEAD" and head.first[1] not in ("204", "304")
        body = body_of(head, server, until_closed=True) if has_body else iter(())
        if fault is not None:
            return self._spoil(head, b"".join(body), fault)
        self.client.sendall(head.raw)
        for block in body:
            self.client.sendall(block)
        return bool(not has_body or head.field("content-length") or head.field("transfer-encoding"))

    def _spoil(self, head: Head, body: bytes, fault: Fault) -> bool:
        if fault.kind == "reply_lost":
            reset(self.client)
            return False
        if fault.kind == "truncated":
            whole = head.raw + body
            self.client.sendall(whole[: len(head.raw) + len(body) // 2] if len(body) > 1 else whole[: len(whole) // 2])
            return False
        if fault.kind == "duplicated":
            self.client.sendall((head.raw + body) * 2)
            return True
        for byte in head.raw + body:
            self.client.sendall(bytes([byte]))
            self.pause(fault.seconds)
        return True
