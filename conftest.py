"""Fixtures for all tests: a real MLflow server, started once and stopped with everything it started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

import pytest


class MlflowServer:
    """An `mlflow server` of the tests' own, on SQLite and a folder, in its own process group.

    `arguments` and `environment` are added to what it is started with.
    """

    def __init__(
        self, folder: Path, *, arguments: Sequence[str] = (), environment: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.folder = folder
        self._arguments, self._environment = arguments, environment
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, within: float = 150.0) -> None:
        """Start the server and wait until it answers."""
        log = self.folder / "server.log"
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts"), *self._arguments]
        environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"}
        environment.update(self._environment)
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
            environment.pop(name, None)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=output, stderr=output, start_new_session=True
            )
        until = time.monotonic() + within
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                pytest.fail(f"mlflow server did not start:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.2)

    def pause(self) -> None:
        """SIGSTOP for the whole group: connections are accepted by the kernel and never answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT for the whole group."""
        self._signal(signal.SIGCONT)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Paused for the length of a block, and surely resumed after it."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def stop(self) -> None:
        """Kill the whole group, also what a dead parent left in it."""
        if self._process is not None:
            with suppress(ProcessLookupError):  # all gone already
                self._signal(signal.SIGKILL)
            self._process.wait(timeout=30)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A real MLflow server for the whole session, with `uri`, `pause`, `resume` and `paused`.

    It starts in about ten seconds, once; take experiment and model names of your own in each test.
    """
    if find_spec("mlflow") is None:
        pytest.skip("mlflow is not installed")
    server = MlflowServer(tmp_path_factory.mktemp("mlflow-server"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def guarded_mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A real MLflow server with basic-auth: the user `admin` with the password `correct horse 12`."""
    if find_spec("mlflow") is None or find_spec("flask_wtf") is None:
        pytest.skip("mlflow[auth] is not installed")
    folder = tmp_path_factory.mktemp("guarded-mlflow-server")
    settings = folder / "auth.ini"
    settings.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder / 'auth.db'}\n"
        "admin_username = admin\nadmin_password = correct horse 12\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    environment = {"MLFLOW_AUTH_CONFIG_PATH": str(settings), "MLFLOW_FLASK_SERVER_SECRET_KEY": "only for these tests"}
    server = MlflowServer(folder, arguments=("--app-name", "basic-auth"), environment=environment)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
