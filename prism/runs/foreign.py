"""One launch is one run also when torchrun or accelerate has started the processes, not Prism.

The launch is known by the process that started its workers: its parent's boot id, pid and start
time, which no earlier or later launch shares. The first worker to claim that key makes the run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from prism.errors import EnvironmentUnfit, UsageError
from prism.journal.directory import RunDirectory, runs_folder
from prism.journal.identity import ProcessIdentity, new_run_id
from prism.project import Project
from prism.runs.beginning import begin_run

PATIENCE_SECONDS = 60.0


@frozen
class Place:
    """Which run and attempt a process belongs to."""

    directory: RunDirectory
    attempt: int = 1


def join_foreign_launch(project: Project, environ: Mapping[str, str], *, nodes: int = 1) -> Place | None:
    """The run of the launch that this process is one of several of, made by whoever comes first; None if it is alone.

    `nodes` is how many nodes the launch spans, where the environment of a worker does not say it. An
    elastic restart of the workers is the next attempt of the same run.
    """
    if "LOCAL_RANK" in environ:
        world = int(environ.get("WORLD_SIZE", 1))
        nodes = max(nodes, world // int(environ.get("LOCAL_WORLD_SIZE", world)))
    elif nodes == 1:
        return None
    _check_identity(environ, nodes=nodes)
    attempt = 1 + int(environ.get("TORCHELASTIC_RESTART_COUNT", 0))
    key = environ.get("PRISM_RUN_ID") or _launcher_key()
    directory = _claimed(project, key, run_id=environ.get("PRISM_RUN_ID") or new_run_id())
    return Place(directory, attempt)


def _check_identity(environ: Mapping[str, str], *, nodes: int) -> None:
    """Raise `UsageError` when nothing tells several nodes that they are one launch."""
    if nodes > 1 and "PRISM_RUN_ID" not in environ:
        raise UsageError(
            "a launch over several nodes has no identity that all its processes see",
            hint="export one PRISM_RUN_ID on all nodes before launching, new for every launch",
        )


def _launcher_key() -> str:
    parent = ProcessIdentity.of(os.getppid())
    if parent is None:
        raise EnvironmentUnfit("the launcher of this process is gone", hint="start the launch again")
    return parent.key()


def _claimed(project: Project, key: str, *, run_id: str) -> RunDirectory:
    folder = runs_folder(project.config.project)
    claim = folder / ".launch" / key
    try:
        claim.parent.mkdir(parents=True, exist_ok=True)
        with claim.open("x", encoding="ascii") as stream:
            stream.write(run_id + "\n")
    except FileExistsError:
        return _await(claim)
    except OSError as error:
        raise EnvironmentUnfit(
            f"cannot write to {folder}: {error.strerror}", hint="make room or choose another project folder"
        ) from error
    try:
        return begin_run(project, run_id=run_id)
    except EnvironmentUnfit:
        claim.unlink()
        raise


def _await(claim: Path) -> RunDirectory:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and claim.exists():
        text = claim.read_text(encoding="ascii")
        if text.endswith("\n"):
            directory = RunDirectory(claim.parent.parent / text.strip())
            if directory.provenance_of(1).exists():  # written last
                return directory
        time.sleep(0.02)
    raise EnvironmentUnfit(
        f"another process of this launch claimed {claim} and made no run of it", hint="look at its output"
    )
