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

from prism.errors import EnvironmentUnfit, PrismError, UsageError
from prism.journal.directory import RunDirectory, runs_folder
from prism.journal.identity import ProcessIdentity, new_run_id
from prism.project import Project
from prism.runs.beginning import begin_run, keep_origin
from prism.runs.resuming import next_attempt

PATIENCE_SECONDS = 60.0


@frozen
class Place:
    """Which run and attempt a process belongs to."""

    directory: RunDirectory
    attempt: int = 1


def join_foreign_launch(
    project: Project, environ: Mapping[str, str], *, nodes: int = 1, resume: RunDirectory | None = None
) -> Place | None:
    """The run of the launch that this process is one of several of; None if it is alone.

    Whoever comes first begins it, or the next attempt of `resume`, for all. `nodes` is how many nodes the
    launch spans, where the environment of a worker does not say it. An elastic restart of the workers
    is the next attempt of the same run.
    """
    if "LOCAL_RANK" in environ:
        world = int(environ.get("WORLD_SIZE", 1))
        nodes = max(nodes, world // int(environ.get("LOCAL_WORLD_SIZE", world)))
    elif nodes == 1:
        return None
    _check_identity(environ, nodes=nodes)
    key = environ.get("PRISM_RUN_ID") or _launcher_key()
    place = _claimed(project, key, run_id=environ.get("PRISM_RUN_ID") or new_run_id(), resume=resume)
    return Place(place.directory, place.attempt + int(environ.get("TORCHELASTIC_RESTART_COUNT", 0)))


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


def _claimed(project: Project, key: str, *, run_id: str, resume: RunDirectory | None) -> Place:
    """The place that the first process of the launch settles for all."""
    folder = runs_folder(project.config.project)
    claim = folder / ".launch" / key
    if not _is_first(claim):
        settled, attempt = _answer(claim).split()
        return Place(RunDirectory(folder.absolute() / settled), int(attempt))
    try:
        place = Place(resume, next_attempt(resume)) if resume else Place(begin_run(project, run_id=run_id))
        if resume:
            keep_origin(resume, project, attempt=place.attempt)
    except PrismError:
        claim.unlink()
        raise
    claim.write_text(f"{place.directory.run_id} {place.attempt}\n", encoding="ascii")
    return place


def _is_first(claim: Path) -> bool:
    try:
        claim.parent.mkdir(parents=True, exist_ok=True)
        claim.touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError as error:
        raise EnvironmentUnfit(
            f"cannot write to {claim.parent}: {error.strerror}", hint="make room or choose another project folder"
        ) from error
    return True


def _answer(claim: Path) -> str:
    """What the first one has settled, once it has."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and claim.exists():
        text = claim.read_text(encoding="ascii")
        if text.endswith("\n"):
            return text.strip()
        time.sleep(0.02)
    raise EnvironmentUnfit(
        f"another process of this launch claimed {claim} and made no run of it", hint="look at its output"
    )
