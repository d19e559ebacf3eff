"""A connection to MLflow: every call goes through `reach`, which bounds its time and names its failure.

MLflow takes time-outs and credentials from environment variables only. `reach` sets them for the
length of one call and puts back what was there, so that nothing of it stays in the process or in its children.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
import sqlalchemy.exc
from mlflow.exceptions import InvalidUrlException, MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.engine import URL, create_engine, make_url

from prism.errors import EnvironmentUnfit, PrismError, Unreachable, UsageError, WorkFailed
from prism_mlflow.embedded import prepare
from prism_mlflow.location import Location, locate, without_credentials

DEFAULT_TIMEOUT = 8.0
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_REMOTE_LIBRARIES = ("botocore", "boto3", "urllib3", "google", "azure", "s3transfer")
_GONE = re.compile(r"must be in the 'active' state")
_FINAL = (400, 409, 413, 422)
_ERRNO = re.compile(r"\[Errno -?\d+\] ([^'\"\[\])]+)")
_UNPLACEABLE = (errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)  # a file's name, against those that are there
_environment = threading.RLock()


class Connection:
    """One MLflow and how long a request to it may take (`timeout` seconds)."""

    def __init__(self, location: Location, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        self.location = location
        self._timeout = timeout
        self._client: MlflowClient | None = None

    @classmethod
    def of(cls, project: Path, *, settings: Mapping[str, Any], timeout: float = DEFAULT_TIMEOUT) -> Connection:
        """The connection that a project's `ml` section means. Nothing is contacted yet."""
        return cls(locate(project, settings=settings), timeout=timeout)

    @property
    def client(self) -> MlflowClient:
        """MLflow's client, made on first use; use it within `reach` only."""
        if self._client is None:
            self._client = self._connect()
        return self._client

    @property
    def is_empty(self) -> bool:
        """Whether nothing can be there: the embedded database is not made before something is written."""
        database = self.location.database
        return self._client is None and database is not None and not database.exists()

    @contextmanager
    def reach(self, doing: str, *, size: int = 0) -> Iterator[MlflowClient]:
        """The client for one call; `doing` says in messages what it was for, `size` is what it moves in bytes.

        Raises `Unreachable` when MLflow does not answer or does not let us in, `WorkFailed` when it
        objects to the content, `UsageError` for an address that is none.
        """
        with _environment, _variables(self._variables(size)):
            try:
                yield self.client
            except PrismError:
                raise
            except Exception as error:  # the plugin's boundary: MLflow's stores raise whatever their libraries raise
                raise explain(error, location=self.location, doing=doing) from error

    def _variables(self, size: int) -> dict[str, str]:
        seconds = self._timeout + size / 5e6  # a store behind the server may keep only 5 MB a second
        variables = {
            "MLFLOW_HTTP_REQUEST_TIMEOUT": str(math.ceil(seconds)),
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
            "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        }
        if self.location.username:
            variables["MLFLOW_TRACKING_USERNAME"] = self.location.username
            variables["MLFLOW_TRACKING_PASSWORD"] = self.location.password
        return variables

    def _connect(self) -> MlflowClient:
        for name in ("mlflow.store.db.utils", "alembic"):  # they tell of errors that we tell of, and of every migration
            logging.getLogger(name).setLevel(logging.CRITICAL)
        if (database := self.location.database) is not None:
            prepare(database, artifacts=self.location.artifacts)
        elif "://" in self.location.uri and not self.location.is_server:
            _try_database(self.location.uri)
        registry = os.environ.get("MLFLOW_REGISTRY_URI") or self.location.uri
        return MlflowClient(tracking_uri=self.location.uri, registry_uri=registry)


def explain(error: Exception, *, location: Location, doing: str) -> PrismError:
    """The error of ours that says what MLflow's, or one of the libraries below it, means for the user.

    Only what MLflow objects to in the content itself is final; whatever has to do with the server,
    our access to it or its space is `Unreachable`, so that nothing is dropped that may be taken later.
    """
    if isinstance(error, (InvalidUrlException, requests.exceptions.InvalidURL)):
        return UsageError(f"ml.tracking_uri {location.shown!r} is no address", hint="for example http://host:5000")
    message = f"MLflow at {location.shown} did not {doing}: {_said(error)}"
    if isinstance(error, ImportError):  # the database's driver
        return EnvironmentUnfit(message, hint=f"install {error.name} into this environment")
    if _status(error) in _FINAL and not _GONE.search(str(error)) and not _is_local(error):
        return WorkFailed(message)
    return Unreachable(message, hint=_hint(error, location))


def _said(error: Exception) -> str:
    """What went wrong, in one line; of a connection that failed only why."""
    below = error if isinstance(error, requests.exceptions.RequestException) else error.__context__
    if isinstance(below, requests.exceptions.Timeout) or "timed out" in str(below):
        return "no answer in time"
    if isinstance(below, requests.exceptions.ConnectionError):
        why = _ERRNO.search(str(below))
        return f"no connection ({why[1]})" if why else "no connection"
    return without_credentials(str(error)).strip().split("\n")[0][:500] or type(error).__name__


def _hint(error: Exception, location: Location) -> str:
    if _status(error) in (401, 403):
        return "check ml.security, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    if "out-of-date database schema" in str(error):
        return f"back the database up, then: mlflow db upgrade {location.shown}"
    if _is_local(error):
        return "check the space and the permissions there"
    if _GONE.search(str(error)):
        return "it was deleted in MLflow; restore it there, or keep this run in its journal"
    return "is the server running? is ml.tracking_uri right?" if location.is_server else ""


def _is_local(error: Exception) -> bool:
    """Whether it is about space or permissions on this machine, which may be mended."""
    if not isinstance(error, OSError) or isinstance(error, requests.exceptions.RequestException):
        return False
    return error.errno not in _UNPLACEABLE


def _status(error: Exception) -> int:
    """The HTTP status that the error has or amounts to; 503 for what did not get an answer, 400 otherwise."""
    response = getattr(error, "response", None)
    if isinstance(error, requests.exceptions.RequestException):
        return int(response.status_code) if response is not None else 503
    if isinstance(error, MlflowException):
        # an error on the way to the server counts as internal, as does one within it
        return int(error.get_http_status_code())  # type: ignore[no-untyped-call]
    if isinstance(error, (sqlalchemy.exc.OperationalError, TimeoutError, ConnectionError)):
        return 503
    return 503 if type(error).__module__.startswith(_REMOTE_LIBRARIES) else 400


def _try_database(uri: str) -> None:
    """Connect once: MLflow itself tries ten times, over two minutes."""
    url = make_url(uri)
    _try_port(url)
    engine = create_engine(url)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def _try_port(url: URL) -> None:
    port = url.port or _PORTS.get(url.get_backend_name())
    if url.host and port:
        socket.create_connection((url.host, port), timeout=DEFAULT_TIMEOUT).close()


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
