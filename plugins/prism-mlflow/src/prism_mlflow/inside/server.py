"""The server behind a run, for what the journal cannot answer: every call in bounded time, with the run's own access.

No call of the training ever waits longer than one time-out: after a call that got no answer the next ones are
refused at once, for some seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import requests
import sqlalchemy.exc
from attrs import define
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from prism.errors import PrismError
from prism.runs.handle import Run
from prism_mlflow.access.bounded import Bounded
from prism_mlflow.access.connection import Connection
from prism_mlflow.access.transport import SERVER_SPEED, ForeignReplyError, answered
from prism_mlflow.options import TrackerOptions

REFUSING_SECONDS = 5.0
"""How long nothing is asked after a call that got no answer."""

_AWAY = (ConnectionError, TimeoutError, requests.exceptions.RequestException, sqlalchemy.exc.OperationalError)


@define
class Server:
    """The MLflow that a run is delivered to, as seen from inside the run."""

    connection: Connection
    bounded: Bounded
    _refusing_until: float = 0.0
    _why: str = ""

    @classmethod
    def of(cls, run: Run) -> Server:
        """The one that the run's configuration names. Nothing is contacted yet."""
        given = [one.options for one in run.config.trackers if isinstance(one.options, TrackerOptions)]
        timeout = (given[0] if given else TrackerOptions()).timeout
        connection = Connection.of(run.project, settings=run.config.section("ml"), timeout=timeout)
        return cls(connection, Bounded(timeout))

    @property
    def is_empty(self) -> bool:
        """Whether it is a database in the project that delivery has not made yet."""
        return self.connection.is_empty

    def ask(self, kind: str, method: str, *arguments: Any, **named: Any) -> Any:
        """Call a method of the server's store; `kind` is "tracking" or "registry".

        Raises what the store raises, and `MlflowException` when there is no answer in time.
        """

        def call() -> Any:
            with answered():
                return getattr(self._store(kind), method)(*arguments, **named)

        return self.wait(f"{method}()", call)

    def wait(self, doing: str, work: Callable[[], Any], *, size: int = 0) -> Any:
        """Do work that asks the server, for at most the time-out and what `size` bytes take."""
        if time.monotonic() < self._refusing_until:
            raise self._away(doing)
        try:
            return self.bounded.call(work, size=size / SERVER_SPEED)
        except (*_AWAY, ForeignReplyError, PrismError) as error:
            self._refusing_until = time.monotonic() + REFUSING_SECONDS
            self._why = str(error).partition("\n")[0][:300]
            raise self._away(doing) from error

    def repository(self, address: str) -> Any:
        """The repository of the artifacts at an address that the server gave out."""
        return self.connection.client.repository(address)

    def _away(self, doing: str) -> MlflowException:
        shown = self.connection.location.shown
        return MlflowException(
            f"MLflow at {shown} cannot answer {doing}: {self._why}. What this run logs is in its journal all the "
            "same, and is delivered when the server is back.",
            error_code=TEMPORARILY_UNAVAILABLE,
        )

    def _store(self, kind: str) -> Any:
        if self.is_empty:  # only delivery makes the database
            raise ConnectionError("its database is not made yet")
        client = self.connection.client
        return client._tracking_client.store if kind == "tracking" else client._get_registry_client().store
