"""How a run begins: its directory with what is known before any work, and a process's entry into an attempt."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from prism.config import Configuration
from prism.errors import EnvironmentUnfit
from prism.journal.directory import RunDirectory, create_run_directory, remove_run_directory
from prism.journal.identity import new_run_id
from prism.journal.opening import open_journal
from prism.launch.membership import membership
from prism.project import Project
from prism.protocols import Ranks
from prism.runs.handle import Run
from prism.runs.provenance import collect_provenance
from prism.runs.ranks import Alone, ByFiles
from prism.runs.signals import StopRequest
from prism.writing import write_whole


def begin_run(project: Project, *, run_id: str = "") -> RunDirectory:
    """Make a new run's directory, with its resolved configuration (redacted) and provenance."""
    directory = create_run_directory(project.config.project, run_id or new_run_id())
    try:
        keep_origin(directory, project, attempt=1)
    except EnvironmentUnfit:
        remove_run_directory(directory)
        raise
    return directory


def keep_origin(directory: RunDirectory, project: Project, *, attempt: int) -> None:
    """Keep what an attempt is made of: its resolved configuration (redacted) and its provenance."""
    # the command and the changes since the commit may hold secrets that the configuration knows
    provenance = project.config.redactor.redact_values(collect_provenance(project.config.project))
    try:
        keep_configuration(directory, project, attempt=attempt)
        write_whole(directory.provenance_of(attempt), json.dumps(provenance, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise EnvironmentUnfit(
            f"cannot write to {directory.path}: {error.strerror}", hint="make room first; nothing was started"
        ) from error


def keep_configuration(directory: RunDirectory, project: Project, *, attempt: int) -> None:
    """Keep an attempt's resolved configuration (redacted)."""
    write_whole(directory.config_of(attempt), project.config.dump())


def shown_parameters(config: Configuration) -> dict[str, Any]:
    """`ml.parameters` as plain data, secrets as "***": a number may be one, which no redactor looks for in records."""
    return config.plain()["ml"].get("parameters") or {}


def enter_attempt(
    directory: RunDirectory,
    *,
    project: Project,
    attempt: int,
    role: str = "worker",
    owner: str = "user",
    environ: Mapping[str, str] = os.environ,
    stop: StopRequest | None = None,
    on_finish: Callable[[], None] = lambda: None,
) -> Run:
    """This process becomes one rank of an attempt: its journal file, and the `Run` for its code.

    `role` "helper" is a further process beside the rank's own: what it says counts, its end does not.
    `owner` "prism" means that `prism run` ends the run, not the code that it runs.
    """
    mine = membership(environ)
    facts: dict[str, Any] = {"run_id": directory.run_id, "attempt": attempt}
    facts |= {"rank": mine.rank, "world_size": mine.world_size}
    if mine.rank > 0:  # where nodes share no folder, no record `run` says it in theirs
        facts["trackers"] = [tracker.name for tracker in project.config.trackers]
    journal = open_journal(directory, f"a{attempt}-rank{mine.rank}", role=role, facts=facts)
    ranks: Ranks = Alone()
    if mine.world_size > 1:
        ranks = ByFiles(directory.path / "ranks" / str(attempt), mine.rank, mine.world_size)
    run = Run(
        directory,
        project=project,
        journal=journal,
        attempt=attempt,
        ranks=ranks,
        stop=stop,
        owner=owner,
        on_finish=on_finish,
    )
    if role == "worker" and mine.rank == 0 and project.config.ml.auto_log:
        run.log_params(shown_parameters(project.config))
    journal.keep_alive()
    journal.keep_room()
    return run


def enter_trackers(run: Run, project: Project) -> Callable[[], None]:
    """Let the trackers' own libraries speak to this run's journal in this process, from now on.

    Returns what undoes it when the run has ended and the process goes on. Raises `EnvironmentUnfit` when a tracker
    that the configuration names cannot load.
    """
    stack = ExitStack()
    for tracker in project.config.trackers:
        inside = project.plugins.find("tracker", tracker.name).load_inside()
        leave = inside(run) if inside is not None else None
        if leave is not None:
            stack.callback(leave)
    return stack.close


def describe_run(
    say: Callable[[str, Mapping[str, Any]], None],
    project: Project,
    *,
    name: str = "",
    note: str = "",
    tags: Mapping[str, str] | None = None,
    target: str = "",
) -> None:
    """Say what run this is, once per attempt, through `say` of the process that begins it."""
    config = project.config
    facts = {
        "experiment": config.foundation.experiment_name,
        "description": note or config.foundation.experiment_description,
        "name": name,
        "target": target,
        "config_file": os.path.relpath(config.path, config.project),
        "config_digest": config.digest,
        "trackers": [tracker.name for tracker in config.trackers] if config.ml.enabled else [],
    }
    say("run", facts)
    if tags:
        say("tags", {"tags": {str(key): str(value) for key, value in tags.items()}})
