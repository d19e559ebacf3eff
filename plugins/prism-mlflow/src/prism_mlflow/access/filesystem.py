"""SQLite must not be used on file systems that several machines share."""

from __future__ import annotations

from pathlib import Path

from prism.data.mounts import MOUNTS, file_system, is_shared
from prism.errors import Unreachable


def refuse_shared(database: Path, *, mounts: Path = MOUNTS) -> None:
    """Raise `Unreachable` when a SQLite file would lie on a network file system."""
    kind = file_system(database, mounts=mounts)
    if is_shared(kind):
        raise Unreachable(
            f"{database}: SQLite is not safe on a network file system ({kind}), so MLflow is not used there",
            hint="the run stays in its journal; set ml.tracking_uri to an MLflow server, then `prism sync`",
        )
