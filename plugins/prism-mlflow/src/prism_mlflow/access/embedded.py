"""The SQLite file that MLflow keeps in a project: made whole, once, however many processes start together.

MLflow creates its tables in place and without a lock: processes that start together leave a
half-migrated file. Here one process at a time builds the database beside its final name, and the
finished file appears under that name in one step, so being killed at any point leaves nothing half-made.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from prism.errors import EnvironmentUnfit, Unreachable
from prism_mlflow.access.filesystem import refuse_shared
from prism_mlflow.access.location import sqlite_path

_WAIT = 120.0
_POLL = 0.05


def prepare(database: Path, *, artifacts: str, wait: float = _WAIT) -> None:
    """Make sure that the database is there, with MLflow's tables, and can be opened.

    Waits up to `wait` seconds while another process makes it. Raises `Unreachable` when it may not
    be used (a network file system) or the other takes too long, `EnvironmentUnfit` when it cannot
    be made or is no database.
    """
    refuse_shared(database)
    try:
        if not _has_content(database):
            database.parent.mkdir(parents=True, exist_ok=True)
            with _alone(database, wait=wait):
                if not _has_content(database):
                    _make(database, artifacts=artifacts)
        _check(database)
    except (OSError, sqlite3.Error) as error:
        raise EnvironmentUnfit(
            f"{database}: MLflow's database cannot be made or opened: {error}",
            hint="make the folder writable, or set ml.tracking_uri to another place",
        ) from error


def _has_content(database: Path) -> bool:
    return database.exists() and database.stat().st_size > 0


@contextmanager
def _alone(database: Path, *, wait: float) -> Iterator[None]:
    """The only process making this database. The kernel frees the lock of a process that dies."""
    # the file system is local (a network one was refused), so flock holds between all processes that can use it
    claim = database.with_name(f".{database.name}.making")
    descriptor = os.open(claim, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _lock(descriptor, database=database, until=time.monotonic() + wait)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()}".encode(), 0)
        yield
        claim.unlink(missing_ok=True)  # whoever still waits for it, or makes a new one, then finds the database
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, database: Path, until: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                owner = os.pread(descriptor, 100, 0).decode(errors="replace") or "another process"
                raise Unreachable(f"{database}: {owner} has not finished making MLflow's database") from None
            time.sleep(_POLL)


def _make(database: Path, *, artifacts: str) -> None:
    building = database.with_name(f".{database.name}.new")
    building.unlink(missing_ok=True)  # what a process killed here left; we are alone
    building.with_name(f"{building.name}-journal").unlink(missing_ok=True)
    store = SqlAlchemyStore(f"sqlite:///{sqlite_path(building)}", artifacts)  # type: ignore[no-untyped-call]
    store.engine.dispose()
    if _has_content(database):  # plain MLflow, which knows nothing of our lock, was there first
        building.unlink()
    else:
        building.replace(database)


def _check(database: Path) -> None:
    # MLflow tries ten times over two minutes to open what cannot be opened
    with closing(sqlite3.connect(f"file:{quote(str(database))}?mode=rw", uri=True, timeout=10)) as connection:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
