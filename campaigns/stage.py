"""The stage of a campaign: a scratch folder and a real MLflow server in it, both gone afterwards."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen
from mlflow.tracking import MlflowClient

from campaigns.servers import MlflowServer


@frozen
class Stage:
    """A scratch folder and a server that runs."""

    folder: Path
    server: MlflowServer

    @property
    def client(self) -> MlflowClient:
        """A client that goes to the server directly, past every proxy."""
        return MlflowClient(self.server.uri)


@contextmanager
def staged(name: str) -> Iterator[Stage]:
    """A stage for the length of a block."""
    with tempfile.TemporaryDirectory(prefix=f"prism-{name}-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch) / "server"
        folder.mkdir()
        os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
        server = MlflowServer(folder)
        server.start()
        try:
            yield Stage(Path(scratch), server)
        finally:
            server.stop()
