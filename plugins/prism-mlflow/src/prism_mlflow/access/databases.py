"""MLflow's stores on a database that we write ourselves: a SQLite file, or a database server."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import mlflow.tracking._model_registry.utils as registries
import mlflow.tracking._tracking_service.utils as stores
from mlflow.store.db.db_types import DATABASE_ENGINES
from sqlalchemy.engine import URL, create_engine, make_url

from prism_mlflow.access.bounded import Bounded
from prism_mlflow.access.embedded import prepare
from prism_mlflow.access.guarded import Around, Guarded
from prism_mlflow.access.location import Location
from prism_mlflow.access.turns import in_turn

_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def tracking_store(location: Location, *, bounded: Bounded) -> Guarded:
    """The store for runs, made or opened. Raises whatever MLflow and the database's driver raise."""
    if (database := location.database) is not None:
        prepare(database, artifacts=location.artifacts)
    return _guarded(location, _open_tracking, bounded=bounded)


def registry_store(location: Location, *, bounded: Bounded) -> Guarded:
    """The store for registered models, of a database that is there."""
    return _guarded(location, _open_registry, bounded=bounded)


def _guarded(location: Location, make: Callable[..., Any], *, bounded: Bounded) -> Guarded:
    """Of a database in a file, whoever writes takes turns; of a server's, every call is bounded."""
    database, identity = location.database, (0, 0)
    around: Around
    if database is not None:
        around, found = partial(in_turn, database), database.stat()
        identity = (found.st_dev, found.st_ino)  # another file under the name is another database
    else:
        around = _bound(bounded)
        around("try", partial(_try_database, location.uri, timeout=bounded.seconds))
    return Guarded(around("open", partial(make, location.uri, location.artifacts, identity)), around)


def _bound(bounded: Bounded) -> Around:
    def call(_: str, work: Callable[[], Any]) -> Any:
        return bounded.call(work)

    return call


@lru_cache(maxsize=8)
def _open_tracking(uri: str, artifacts: str, _: tuple[int, int]) -> Any:
    # not by MLflow's own look-up, which holds a lock of the whole process while a database does not answer
    if _scheme(uri) in DATABASE_ENGINES:
        return stores._get_sqlalchemy_store(uri, artifacts or None)  # type: ignore[no-untyped-call]
    return stores._get_store(uri)  # type: ignore[no-untyped-call]


@lru_cache(maxsize=8)
def _open_registry(uri: str, _: str, __: tuple[int, int]) -> Any:
    if _scheme(uri) in DATABASE_ENGINES:
        from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

        return SqlAlchemyStore(uri)  # type: ignore[no-untyped-call]
    return registries._get_store(uri)  # type: ignore[no-untyped-call]


def _scheme(uri: str) -> str:
    return uri.partition(":")[0].partition("+")[0]


def _try_database(uri: str, *, timeout: float) -> None:
    """Connect once: MLflow itself tries ten times, over two minutes."""
    if _scheme(uri) not in DATABASE_ENGINES:
        return
    url = make_url(uri)
    _try_port(url, timeout=timeout)
    engine = create_engine(url)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def _try_port(url: URL, *, timeout: float) -> None:
    port = url.port or _PORTS.get(url.get_backend_name())
    if url.host and port:
        socket.create_connection((url.host, port), timeout=timeout).close()
