"""A connection to MLflow: every call goes through `reach`, which names its failure, and takes a bounded time."""

from __future__ import annotations

import errno
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import requests
import sqlalchemy.exc
from mlflow.exceptions import InvalidUrlException, MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import MlflowHostCreds
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from prism.errors import EnvironmentUnfit, PrismError, Unanswered, Unreachable, UsageError, WorkFailed
from prism_mlflow.access.artifacts import Artifacts
from prism_mlflow.access.bounded import Bounded
from prism_mlflow.access.client import Client
from prism_mlflow.access.databases import registry_store, tracking_store
from prism_mlflow.access.location import Location, locate, without_credentials
from prism_mlflow.access.stores import ServerRegistryStore, ServerStore
from prism_mlflow.access.transport import ForeignReplyError, Transport
from prism_mlflow.inside.addresses import registry_address

DEFAULT_TIMEOUT = 8.0
_REMOTE_LIBRARIES = ("botocore", "boto3", "urllib3", "google", "azure", "s3transfer")
_GONE = re.compile(r"must be in the 'active' state")
_MOMENTARY = re.compile(r"IntegrityError|UniqueViolation|OperationalError|PendingRollbackError|database is locked")
_REFUSALS = (401, 403, 404, 429, 503)
_FINAL = (400, 409, 413, 422)
_ERRNO = re.compile(r"\[Errno -?\d+\] ([^'\"\[\])]+)")
_UNPLACEABLE = (errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)  # a file's name, against those that are there


class Connection:
    """One MLflow and how long a request to it may take (`timeout` seconds).

    Connections share nothing that waits: one whose server hangs holds up no other one.
    """

    def __init__(self, location: Location, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        self.location = location
        self._timeout = timeout
        self._bounded = Bounded(timeout)
        self._client: Client | None = None

    @classmethod
    def of(cls, project: Path, *, settings: Mapping[str, Any], timeout: float = DEFAULT_TIMEOUT) -> Connection:
        """The connection that a project's `ml` section means. Nothing is contacted yet."""
        return cls(locate(project, settings=settings), timeout=timeout)

    @property
    def client(self) -> Client:
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
    def reach(self, doing: str) -> Iterator[Client]:
        """The client for some calls; `doing` says in messages what they were for.

        Raises `Unreachable` when MLflow does not answer or does not let us in, `WorkFailed` when it
        objects to the content, `UsageError` for an address that is none.
        """
        try:
            yield self.client
        except PrismError:
            raise
        except Exception as error:  # the plugin's boundary: MLflow's stores raise whatever their libraries raise
            raise explain(error, location=self.location, doing=doing) from error

    @contextmanager
    def making(self, what: str) -> Iterator[Client]:
        """As `reach`, to make something there that must not be there twice.

        Raises `Unanswered` when it cannot be known whether MLflow still makes it, after we have given up.
        """
        try:
            with self.reach(f"make {what}") as client:
                yield client
        except Unreachable as error:
            if error.__cause__ is None or _was_refused(error.__cause__):
                raise
            raise Unanswered(error.message, hint=error.hint) from error.__cause__

    def _connect(self) -> Client:
        for name in ("mlflow.store.db.utils", "alembic"):  # they tell of errors that we tell of, and of every migration
            logging.getLogger(name).setLevel(logging.CRITICAL)
        registry = attrs.evolve(self.location, uri=registry_address(os.environ) or self.location.uri)
        return Client(
            self.location.uri,
            store=self._store(self.location),
            registry=partial(self._registry_store, registry),
            artifacts=Artifacts(self.location, self._transport(self.location), self._bounded),
        )

    def _store(self, location: Location) -> Any:
        if location.is_server:
            return ServerStore(self._transport(location))
        return tracking_store(location, bounded=self._bounded)

    def _registry_store(self, location: Location) -> Any:
        if location.is_server:
            return ServerRegistryStore(self._transport(location))
        return registry_store(location, bounded=self._bounded)

    def _transport(self, location: Location) -> Transport:
        return Transport(partial(_credentials, location), timeout=self._timeout)


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
    if _is_final(error):
        return WorkFailed(message)
    return Unreachable(message, hint=_hint(error, location))


def is_gone(error: Exception) -> bool:
    """Whether it says that the run is deleted in MLflow."""
    return bool(_GONE.search(str(error)))


def _was_refused(error: BaseException) -> bool:
    """Whether the request surely did not reach MLflow, or MLflow surely did nothing about it."""
    if isinstance(error, ForeignReplyError):
        return error.status in _REFUSALS
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, (NewConnectionError, ConnectTimeoutError)):
            return True
        below = below.__context__
    away = (requests.exceptions.RequestException, TimeoutError, ConnectionError)
    return not isinstance(error, away) and not _is_internal(error)


def _is_internal(error: BaseException) -> bool:
    """Whether it is an error within the server, or on the way there."""
    return isinstance(error, MlflowException) and error.error_code == "INTERNAL_ERROR"


def _is_final(error: Exception) -> bool:
    """Whether it is about the content itself."""
    if _status(error) not in _FINAL or _is_local(error):
        return False
    return not is_gone(error) and not _MOMENTARY.search(str(error))


def _said(error: Exception) -> str:
    """What went wrong, in one line; of a connection that failed only why."""
    below = error if isinstance(error, requests.exceptions.RequestException) else error.__context__
    if isinstance(error, TimeoutError) or isinstance(below, requests.exceptions.Timeout) or "timed out" in str(below):
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
    if is_gone(error):
        return "it was deleted in MLflow; restore it there, or keep this run in its journal"
    return "is the server running? is ml.tracking_uri right?" if location.is_server else ""


def _is_local(error: Exception) -> bool:
    """Whether it is about space or permissions on this machine, which may be mended."""
    elsewhere = (requests.exceptions.RequestException, TimeoutError, ConnectionError)
    if not isinstance(error, OSError) or isinstance(error, elsewhere):
        return False
    return error.errno not in _UNPLACEABLE


def _status(error: Exception) -> int:
    """The HTTP status that the error has or amounts to; 503 for what did not get an answer, 400 otherwise."""
    response = getattr(error, "response", None)
    if isinstance(error, requests.exceptions.RequestException):
        return int(response.status_code) if response is not None else 503
    if isinstance(error, ForeignReplyError):
        return 503
    if isinstance(error, MlflowException):
        # an error on the way to the server counts as internal, as does one within it
        return int(error.get_http_status_code())  # type: ignore[no-untyped-call]
    if isinstance(error, (sqlalchemy.exc.OperationalError, TimeoutError, ConnectionError)):
        return 503
    return 503 if type(error).__module__.startswith(_REMOTE_LIBRARIES) else 400


def _credentials(location: Location) -> MlflowHostCreds:
    """What MLflow finds in the environment and its own file; a user of the configuration comes before."""
    creds: MlflowHostCreds = get_default_host_creds(location.uri)  # type: ignore[no-untyped-call]
    if location.username:
        creds.username, creds.password = location.username, location.password
    return creds
