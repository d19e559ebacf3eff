"""The fault proxy itself: each fault is what its name says, before a real server."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from campaigns.proxy import KINDS, FaultProxy


class Counting(BaseHTTPRequestHandler):
    """A server that says how many requests it has carried out, and how long their bodies were."""

    protocol_version = "HTTP/1.1"
    done: list[int]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if len(body) < int(self.headers["Content-Length"]):
            return
        self.done.append(len(body))
        answer = json.dumps({"carried out": len(self.done)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def done() -> list[int]:
    return []


@pytest.fixture
def proxy(done: list[int]) -> Iterator[FaultProxy]:
    handler = type("Handler", (Counting,), {"done": done})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    with FaultProxy(server.server_address[1], seed=7) as proxy:
        yield proxy
    server.shutdown()
    server.server_close()


def ask(proxy: FaultProxy, *, body: bytes = b"x" * 300_000, timeout: float = 20.0) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=timeout)
    try:
        connection.request("POST", "/do?it=1", body=body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_without_a_fault_all_goes_through(proxy: FaultProxy, done: list[int]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20)
    for count in (1, 2, 3):
        connection.request("POST", "/do", body=b"y" * count)
        assert json.load(connection.getresponse()) == {"carried out": count}
    connection.request(
        "POST", "/do", body=iter([b"a" * 70_000, b"b"]), encode_chunked=False, headers={"Content-Length": "70001"}
    )
    assert json.load(connection.getresponse()) == {"carried out": 4}
    connection.close()
    assert done == [1, 2, 3, 70_001] and proxy.paths == {"/do": 4} and not proxy.counts


@pytest.mark.parametrize("kind", ["429", "500", "503", "504"])
def test_a_gateways_reply(proxy: FaultProxy, done: list[int], kind: str) -> None:
    proxy.fault(kind, times=1)
    assert ask(proxy)[0] == int(kind) and done == []
    assert ask(proxy)[0] == 200 and done == [300_000] and proxy.counts == {kind: 1}


@pytest.mark.parametrize(("kind", "carried_out"), [("reset", 0), ("reply_lost", 1)])
def test_resets(proxy: FaultProxy, done: list[int], kind: str, carried_out: int) -> None:
    proxy.fault(kind)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        ask(proxy)
    assert len(done) == carried_out


def test_a_truncated_reply_is_not_whole(proxy: FaultProxy, done: list[int]) -> None:
    proxy.fault("truncated")
    with pytest.raises(http.client.IncompleteRead):
        ask(proxy)
    assert done == [300_000]


def test_a_duplicated_reply_waits_for_the_next_request_of_the_connection(proxy: FaultProxy, done: list[int]) -> None:
    proxy.fault("duplicated", times=1)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as connection:
        connection.sendall(b"POST /do HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nz")
        received = b""
        while received.count(b"carried out") < 2:
            received += connection.recv(65536)
    assert received.count(b'{"carried out": 1}') == 2 and done == [1]


@pytest.mark.parametrize(("kind", "carried_out"), [("stall", 1), ("half_open", 0), ("drip", 1)])
def test_silence_outlasts_the_client(proxy: FaultProxy, done: list[int], kind: str, carried_out: int) -> None:
    proxy.fault(kind, seconds=1.5, times=1)
    with pytest.raises(TimeoutError):
        ask(proxy, timeout=0.3)
    until = time.monotonic() + 20
    while len(done) < carried_out and time.monotonic() < until:
        time.sleep(0.05)
    assert len(done) == carried_out
    assert ask(proxy)[0] == 200


def test_a_share_is_drawn_from_the_seed(proxy: FaultProxy) -> None:
    proxy.fault("503", share=0.3)
    seen = [ask(proxy, body=b"")[0] for _ in range(60)]
    assert 8 <= seen.count(503) <= 30 and proxy.counts["503"] == seen.count(503)
    with FaultProxy(proxy.upstream_port, seed=7) as again:
        again.fault("503", share=0.3)
        assert [ask(again, body=b"")[0] for _ in range(60)] == seen


def test_an_outage_refuses_connections(proxy: FaultProxy) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        ask(proxy)
    proxy.accept()
    assert ask(proxy)[0] == 200
    with pytest.raises(ValueError, match="no fault 'hiccup'"):
        proxy.fault("hiccup")
    assert len(KINDS) == 11
