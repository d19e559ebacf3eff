"""What a tracker's own library needs inside a run: its journal, its files, its ids, and a child process's way into it.

For the functions that providers of trackers name as `inside`, and for what those bring in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import define, field

from prism.delivery.reopening import reopen_project
from prism.journal.directory import RunDirectory, parse_journal_name
from prism.journal.identity import ProcessIdentity
from prism.journal.projection import Follower, is_told, kept_path
from prism.journal.records import number, parse_number
from prism.journal.state import LiveState
from prism.protocols import Record
from prism.runs.beginning import enter_attempt, enter_trackers
from prism.runs.files import KeptFiles
from prism.runs.handle import Run, runs_of_this_process

__all__ = ["RecordedRun", "join_run", "kept_files", "number", "parse_number", "run_of_this_process"]


def join_run(path: Path) -> Run:
    """The run in the directory `path`, for a further process of it: what it says counts, its end does not.

    The configuration is the run's own, without its secrets. Raises `UsageError` when there is no such run.
    """
    directory = RunDirectory(path)
    project = reopen_project(directory, secrets={})
    names = (parse_journal_name(file.stem) for file in directory.journal_files())
    attempt = max((name.attempt for name in names if name.rank is not None), default=1)
    if os.environ.get("PRISM_RUN_DIRECTORY") == str(path):
        attempt = int(os.environ["PRISM_ATTEMPT"])
    run = enter_attempt(directory, project=project, attempt=attempt, role="helper")
    enter_trackers(run, project)
    return run


def run_of_this_process(path: str) -> Run:
    """This process's handle on the run in the directory `path`: the one that it has, or a new one by `join_run`."""
    return runs_of_this_process.get(path) or join_run(Path(path))


@define
class RecordedRun:
    """What a run's journal says so far, for whoever answers questions about the run without a server."""

    run: Run
    _follower: Follower = field(init=False)
    _live: LiveState | None = None

    def __attrs_post_init__(self) -> None:
        self._follower = Follower(RunDirectory(self.run.directory))

    def news(self) -> Iterator[Record]:
        """The records since the last call that trackers are told of, and `run`; numbers that are not finite as such."""
        for record in self._follower.poll():
            if is_told(record) or record.kind == "run":
                yield record

    def id_at(self, tracker: str) -> str:
        """The run's id at that tracker, "" while it is not known there."""
        self._live = self._live or LiveState(RunDirectory(self.run.directory))
        found = self._live.poll().trackers.get(tracker)
        return found.run_id if found else ""

    def kept_path(self, facts: Mapping[str, Any]) -> Path:
        """Where the content of a kept file is."""
        return kept_path(RunDirectory(self.run.directory), facts)


def kept_files(run: Run) -> KeptFiles:
    """Where this process keeps files of the run that are not artifacts of the run itself but of something within it."""
    return KeptFiles(run.directory, f"call-{ProcessIdentity.mine().key()}")
