"""Real HTTP servers on this machine, whose answers a test sets and whose requests it reads."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from attrs import define, field, frozen


@frozen
class Answer:
    """What the server sends: `length` may be more than it has, `headers` replace those of its own."""

    body: bytes
    status: int
    length: int | None
    headers: Mapping[str, str]


@define
class Site:
    """A server. A page is a function of the request's headers, or answers: one after the other, the last for ever."""

    scheme: str
    port: int
    pages: dict[str, Callable[[Mapping[str, str]], Answer] | list[Answer]] = field(factory=dict)
    seen: list[tuple[str, Mapping[str, str]]] = field(factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @staticmethod
    def answer(body: bytes = b"", *, status: int = 200, length: int | None = None, **headers: str) -> Answer:
        """`Content_Range="…"` is the header Content-Range."""
        return Answer(body, status, length, {name.replace("_", "-"): value for name, value in headers.items()})

    def serve(self, path: str, *answers: Answer | bytes) -> str:
        """The address of a page with these answers."""
        self.pages[path] = [self.answer(each) if isinstance(each, bytes) else each for each in answers]
        return self.url + path

    def list_datasets(self, *entries: tuple[str, str], path: str = "/api") -> None:
        """Answer at `path` with a catalogue of (index, path), whoever asks."""
        self.serve(path, json.dumps([{"index": index, "path": place} for index, place in entries]).encode())

    def asked(self, path: str) -> list[Mapping[str, str]]:
        """The headers of all requests for `path`, their names in small letters."""
        return [headers for target, headers in self.seen if urlsplit(target).path == path]

    def reply(self, target: str, headers: Mapping[str, str]) -> Answer:
        self.seen.append((target, headers))
        page = self.pages.get(urlsplit(target).path, [self.answer(status=404)])
        if isinstance(page, list):
            return page.pop(0) if len(page) > 1 else page[0]
        return page(headers)


def _handler(site: Callable[[], Site]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer = site().reply(self.path, {name.lower(): value for name, value in self.headers.items()})
            length = len(answer.body) if answer.length is None else answer.length
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(length), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            return None

    return Handler


@pytest.fixture
def new_site() -> Iterator[Callable[..., Site]]:
    """Starts servers, each an origin of its own; with `certificate` (certificate, key) they speak TLS."""
    servers = []

    def start(certificate: tuple[Path, Path] | None = None) -> Site:
        made: list[Site] = []
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(lambda: made[0]))
        server.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        made.append(Site("http" if certificate is None else "https", server.server_address[1]))
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        servers.append(server)
        return made[0]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def site(new_site: Callable[..., Site]) -> Site:
    return new_site()


@pytest.fixture(autouse=True)
def no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine says of proxies and authorities does not count here."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
