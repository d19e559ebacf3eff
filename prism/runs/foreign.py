"""One launch is one run also when torchrun or accelerate has started the processes, not Prism.

The launch is known by the process that started its workers: its parent's boot id, pid and start
time, which no earlier or later launch shares. The first worker to claim that key makes the run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from attrs import frozen

from prism.errors import EnvironmentUnfit, PrismError, UsageError
from prism.journal.directory import RunDirectory, runs_folder
from prism.journal.identity import ProcessIdentity, new_run_id
from prism.journal.looks import lease_seconds
from prism.journal.records import read_journal
from prism.journal.state import read_state
from prism.launch.topology import detect, first_rank
from prism.project import Project
from prism.protocols import Topology
from prism.runs.beginning import begin_run, keep_origin
from prism.runs.resuming import next_attempt

PATIENCE_SECONDS = 60.0
_FIRST_RECORD = 1 << 16  # bytes that surely hold it


@frozen
class Place:
    """Which run and attempt a process belongs to."""

    directory: RunDirectory
    attempt: int = 1


def join_foreign_launch(
    project: Project,
    environ: Mapping[str, str],
    *,
    topology: Topology | None = None,
    resume: RunDirectory | None = None,
    ordinal: int = 1,
) -> Place | None:
    """The run of the launch that this process is one of several of; None if it is alone.

    Whoever comes first begins it, or the next attempt of `resume`, for all. `topology` is where the launch
    runs; not needed in a worker, whose environment says it. An elastic restart of the workers is the next
    attempt of the same run. Code that begins several runs, in the same order on all ranks, counts them by
    `ordinal`; those beside a run of `prism run` are others in each of its attempts.
    """
    if topology is None and "LOCAL_RANK" in environ:
        topology = detect(environ, processes=None)
    if topology is None or not (topology.launched or topology.nodes > 1):
        return None
    _check_identity(environ, nodes=topology.nodes)
    named, restarts = environ.get("PRISM_RUN_ID", ""), int(environ.get("TORCHELASTIC_RESTART_COUNT", 0))
    further = _further(environ, ordinal=ordinal)
    named = named and named + further
    rank = first_rank(topology, environ)
    if resume is not None and named == resume.run_id:  # the id of the run is no new name for this launch
        settle = partial(_resumed, project, resume, rank=rank)
        place = _claimed(project, f"{named}-{_launcher_key()}", settle=settle)
        return Place(place.directory, place.attempt + restarts)
    place = _claimed(
        project,
        named or _launcher_key() + further,
        settle=partial(_begun, project, named or new_run_id(), resume=resume),
    )
    place = Place(place.directory, place.attempt + restarts)
    if named:
        _check_new(place, named, rank=rank)
    return place


def _check_identity(environ: Mapping[str, str], *, nodes: int) -> None:
    """Raise `UsageError` when nothing tells several nodes that they are one launch."""
    if nodes > 1 and "PRISM_RUN_ID" not in environ:
        raise UsageError(
            "a launch over several nodes has no identity that all its processes see",
            hint="export one PRISM_RUN_ID on all nodes before launching, new for every launch",
        )


def _further(environ: Mapping[str, str], *, ordinal: int) -> str:
    """What the name of a further run of a launch has after that of the first."""
    if ordinal == 1:
        return ""
    attempt = environ.get("PRISM_ATTEMPT", "1")
    return f"-{ordinal}" if attempt == "1" else f"-a{attempt}-{ordinal}"


def _launcher_key() -> str:
    parent = ProcessIdentity.of(os.getppid())
    if parent is None:
        raise EnvironmentUnfit("the launcher of this process is gone", hint="start the launch again")
    return parent.key()


def _claimed(project: Project, key: str, *, settle: Callable[[], Place]) -> Place:
    """The place that the first process to claim `key` settles for all that share it."""
    folder = runs_folder(project.config.project)
    claim = folder / ".launch" / key
    if not _is_first(claim):
        settled, attempt = _answer(claim).split()
        return Place(RunDirectory(folder.absolute() / settled), int(attempt))
    try:
        place = settle()
    except PrismError:
        claim.unlink()
        raise
    claim.write_text(f"{place.directory.run_id} {place.attempt}\n", encoding="ascii")
    return place


def _begun(project: Project, run_id: str, *, resume: RunDirectory | None) -> Place:
    """A new run, or the next attempt of `resume`."""
    if resume is None:
        return Place(begin_run(project, run_id=run_id))
    place = Place(resume, next_attempt(resume))
    keep_origin(resume, project, attempt=place.attempt)
    return place


def _resumed(project: Project, resume: RunDirectory, *, rank: int) -> Place:
    """The attempt of `resume` that the ranks of this launch make, settled on each node by itself.

    It is the one that others have begun and in which this rank is still missing, else the next.
    """
    try:
        return _forming(resume, rank=rank) or _begun(project, resume.run_id, resume=resume)
    except UsageError:  # it runs: perhaps another node was quicker, while we waited for word of the attempt before
        if forming := _forming(resume, rank=rank):
            return forming
        raise


def _forming(resume: RunDirectory, *, rank: int) -> Place | None:
    """The latest attempt, if it was begun by others and this rank is still missing in it."""
    state = read_state(resume)
    present = {path.stem: _start_of(path) for path in resume.journal.glob(f"a{state.attempts}-rank*.jsonl")}
    world_size = max((int(start.get("world_size", 1)) for start in present.values()), default=1)
    goes_on = state.status == "RUNNING" or (state.status == "FINISHED" and len(present) < world_size)
    missing = f"a{state.attempts}-rank{rank}" not in present
    return Place(resume, state.attempts) if state.attempts > 1 and goes_on and missing else None


def _check_new(place: Place, named: str, *, rank: int) -> None:
    """Raise `UsageError` when this attempt has had a process of this rank already, which was of another launch."""
    path = place.directory.journal / f"a{place.attempt}-rank{rank}.jsonl"
    start = _start_of(path) if path.is_file() else {}
    process = ProcessIdentity.load(start["process"]) if start else None
    if process is not None and not (process.is_here() and process.is_alive()):
        raise UsageError(
            f"PRISM_RUN_ID={named} has been launched before",
            hint=f"give every launch a PRISM_RUN_ID of its own; `--resume {named}` goes on with that run",
        )


def _start_of(path: Path) -> Mapping[str, Any]:
    """What a journal file's first record says; nothing when that is not there yet."""
    records = read_journal(path, limit=_FIRST_RECORD).records
    return records[0].data if records and records[0].kind == "start" else {}


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
    deadline = time.monotonic() + PATIENCE_SECONDS + lease_seconds()  # it may wait for word of a lost machine
    while time.monotonic() < deadline and claim.exists():
        text = claim.read_text(encoding="ascii")
        if text.endswith("\n"):
            return text.strip()
        time.sleep(0.02)
    raise EnvironmentUnfit(
        f"another process of this launch claimed {claim} and made no run of it", hint="look at its output"
    )
