"""Requests to an MLflow server: each over a connection of its own, and bounded in its whole time.

MLflow's own requests share connections that stay open, so that a reply which came twice can be taken
for the reply to what is asked next; and their time-out begins anew with every byte, so that a reply
which drips never ends. Here neither can be, and neither time-outs nor credentials go through the environment.
"""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from importlib import import_module
from types import TracebackType
from typing import IO, Any

import requests
from attrs import define, field, frozen
from mlflow.tracking.request_auth.registry import fetch_auth
from mlflow.tracking.request_header.registry import resolve_request_headers
from mlflow.utils.proto_json_utils import parse_dict
from mlflow.utils.rest_utils import MlflowHostCreds, verify_rest_response
from requests.adapters import HTTPAdapter

_BLOCK = 1 << 18
_REPLY_BLOCK = 1 << 16  # of a reply at least so much must come within each time-out
_BUFFERED = 16e6  # bytes that a connection may have taken and not yet brought to the other side
_SLOW_LINE = 5e5  # bytes a second
SERVER_SPEED = 5e6  # bytes a second at which a store behind the server may put away what it was sent


class ForeignReplyError(Exception):
    """The reply is not MLflow's: of a gateway on the way, or damaged. It says nothing about what was sent."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


@define
class Watch:
    """Ends a request when its time is over by shutting its sockets down, wherever it waits on them.

    `seconds` from now, unless `extend` moves the end. `expired` says that it was ended so.
    """

    seconds: float
    expired: bool = False
    _until: float = field(init=False)
    _sockets: list[socket.socket] = field(factory=list)
    _lock: threading.Lock = field(factory=threading.Lock)
    _over: threading.Event = field(factory=threading.Event)

    def __attrs_post_init__(self) -> None:
        self._until = time.monotonic() + self.seconds

    def extend(self, seconds: float) -> None:
        """Allow at least so many seconds from now."""
        self._until = max(self._until, time.monotonic() + seconds)

    def add(self, connected: socket.socket) -> None:
        """Watch over this socket too."""
        with self._lock:
            # a second name for the same connection: TLS takes the first one's file descriptor away
            self._sockets.append(connected.dup())
        if self.expired:
            self._shut()

    def __enter__(self) -> Watch:
        threading.Thread(target=self._wait, daemon=True, name="prism-mlflow-watch").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        with self._lock:
            for connected in self._sockets:
                connected.close()
            self._sockets.clear()
        if self.expired and isinstance(error, Exception):
            raise requests.exceptions.Timeout("timed out as a whole") from error

    def _wait(self) -> None:
        while (left := self._until - time.monotonic()) > 0:
            if self._over.wait(left):
                return
        self.expired = True
        self._shut()

    def _shut(self) -> None:
        with self._lock:
            for connected in self._sockets:
                with suppress(OSError):  # the other side was quicker
                    connected.shutdown(socket.SHUT_RDWR)


_unanswered: ContextVar[list[Exception] | None] = ContextVar("unanswered", default=None)


@contextmanager
def answered() -> Iterator[None]:
    """Raise at the end what a request within the block failed with, where MLflow's own code has passed over it.

    MLflow takes any failure of some requests for "there is no such thing".
    """
    failed: list[Exception] = []
    token = _unanswered.set(failed)
    try:
        yield
    finally:
        _unanswered.reset(token)
    if failed:
        raise failed[0]


@frozen
class Transport:
    """The way to one MLflow server: `creds` gives its address and what it asks for, `timeout` is in seconds."""

    creds: Callable[[], MlflowHostCreds]
    timeout: float

    def call(self, endpoint: str, *, method: str, json_body: str | None, reply: Any) -> Any:
        """One call of MLflow's interface: `json_body` is its message as JSON, `reply` the message to fill.

        Raises `MlflowException` for MLflow's own objections, `ForeignReplyError` for anyone else's.
        """
        if method == "GET":
            sent: dict[str, Any] = {"params": json.loads(json_body) if json_body else None}
        else:
            sent = {"data": (json_body or "{}").encode(), "headers": {"Content-Type": "application/json"}}
        response = self.request(method, endpoint, **sent)
        if response.status_code != 204:
            parse_dict(js_dict=content_of(response), message=reply)  # type: ignore[no-untyped-call]
        return reply

    def request(self, method: str, endpoint: str, **given: Any) -> requests.Response:
        """One request and its whole reply, which was no refusal. `given` is as for `requests.request`."""
        try:
            with self.stream(method, endpoint, **given) as response:
                content = b"".join(response.iter_content(_REPLY_BLOCK))
            response._content = content  # as it is after a request that was not streamed
            raise_refusal(response, endpoint)
        except (requests.exceptions.RequestException, ForeignReplyError) as error:
            if (failed := _unanswered.get()) is not None:
                failed.append(error)
            raise
        return response

    @contextmanager
    def stream(self, method: str, endpoint: str, **given: Any) -> Iterator[requests.Response]:
        """One request, and its reply to be read with `iter_content` within the block."""
        creds = self.creds()
        found: dict[str, str] = resolve_request_headers()  # type: ignore[no-untyped-call]
        headers = {**found, **_authorization(creds), **(given.pop("headers", None) or {})}
        with Watch(self.timeout + _slow_line(given.get("data"))) as watch, requests.Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, _Adapter(watch))
            if hasattr(given.get("data"), "read"):
                given["data"] = _Body(given["data"], watch, timeout=self.timeout)
            response = session.request(
                method,
                creds.host.rstrip("/") + endpoint,
                headers=headers | {"Connection": "close"},
                verify=creds.verify,
                cert=creds.client_cert_path,
                auth=_authentication(creds),
                timeout=(self.timeout, None),  # for what follows the connecting there is the watch
                stream=True,
                **given,
            )
            read = response.iter_content
            response.iter_content = _extending(read, watch)  # type: ignore[method-assign]
            yield response


def raise_refusal(response: requests.Response, endpoint: str) -> None:
    """Raise `MlflowException` for MLflow's own objection to a request, `ForeignReplyError` for anyone else's."""
    if response.ok:
        return
    # where MLflow asks for a password it answers in plain text
    if response.status_code not in (401, 403) and "error_code" not in content_of(response):
        raise _foreign(response)
    verify_rest_response(response, endpoint)


def content_of(response: requests.Response) -> dict[str, Any]:
    """The reply's JSON object. Raises `ForeignReplyError` when it has none."""
    try:
        content = response.json()
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise _foreign(response)
    return content


def _foreign(response: requests.Response) -> ForeignReplyError:
    shown = " ".join(response.text[:300].split())
    message = f"HTTP {response.status_code} {response.reason or ''}: {shown}".rstrip(": ")
    return ForeignReplyError(message, status=response.status_code)


class _Adapter(HTTPAdapter):
    """Connections that a watch knows of."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def get_connection_with_tls_context(self, *given: Any, **named: Any) -> Any:
        pool = super().get_connection_with_tls_context(*given, **named)
        watch, kind = self._watch, pool.ConnectionCls

        class Watched(kind):  # type: ignore[misc, valid-type]
            def _new_conn(self) -> socket.socket:
                connected: socket.socket = super()._new_conn()
                watch.add(connected)
                return connected

        pool.ConnectionCls = Watched
        return pool


@define
class _Body:
    """A file on its way: as long as it is taken, the request goes on."""

    file: IO[bytes]
    watch: Watch
    timeout: float
    _sent: int = 0

    def read(self, size: int = -1) -> bytes:
        block = self.file.read(_BLOCK if size < _BLOCK else size)
        self._sent += len(block)
        # what was taken may lie in the buffers of a slow line still, and the server puts it away afterwards
        self.watch.extend(self.timeout + min(self._sent, _BUFFERED) / _SLOW_LINE + self._sent / SERVER_SPEED)
        return block

    def __iter__(self) -> Iterator[bytes]:  # by which `requests` knows a body that is not to be read at once
        while block := self.read():
            yield block

    def __len__(self) -> int:
        here = self.file.tell()
        size = self.file.seek(0, 2)
        self.file.seek(here)
        return size - here


def _slow_line(data: Any) -> float:
    """Seconds more for a message, which is sent as a whole."""
    return len(data) / _SLOW_LINE if isinstance(data, bytes) else 0.0


def _extending(read: Callable[..., Iterator[bytes]], watch: Watch) -> Callable[..., Iterator[bytes]]:
    """`iter_content` that allows more time for every block that has come."""

    def extending(size: int = _REPLY_BLOCK) -> Iterator[bytes]:
        for block in read(size):
            watch.extend(watch.seconds)
            yield block

    return extending


def _authorization(creds: MlflowHostCreds) -> dict[str, str]:
    if creds.username and creds.password:
        pair = base64.standard_b64encode(f"{creds.username}:{creds.password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}
    return {"Authorization": f"Bearer {creds.token}"} if creds.token else {}


def _authentication(creds: MlflowHostCreds) -> Any:
    """MLflow's further ways to prove who one is: signatures, and its own plugins."""
    if creds.aws_sigv4:
        # whoever sets MLFLOW_TRACKING_AWS_SIGV4 has installed it, as MLflow tells them to
        return import_module("requests_auth_aws_sigv4").AWSSigV4("execute-api")
    return fetch_auth(creds.auth) if creds.auth else None  # type: ignore[no-untyped-call]
