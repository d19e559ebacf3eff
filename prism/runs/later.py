"""Saying something to a run that has ended, or to a new run made for it: an evaluation, from the command line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prism.delivery.node import start_node_process
from prism.journal.directory import RunDirectory
from prism.journal.identity import new_run_id
from prism.journal.live import LiveState
from prism.journal.opening import open_journal
from prism.journal.state import read_state
from prism.project import Project
from prism.runs.beginning import begin_run, describe_run, enter_attempt
from prism.runs.handle import Run

PATIENCE_SECONDS = 15.0


@contextmanager
def say_later(project: Project, directory: RunDirectory | None, *, name: str) -> Iterator[Run]:
    """A `Run` over an earlier run, writing to a journal file of its own; over a new run when there is none.

    The earlier run's status stays what it was; a new one ends with the block.
    """
    if directory is None:
        directory = begin_run(project)
        with enter_attempt(directory, project=project, attempt=1) as run:
            describe_run(run.say, project, name=name)
            yield run
        return
    journal = open_journal(directory, f"eval-{new_run_id()}", role="evaluation")
    try:
        yield Run(directory, project=project, journal=journal, attempt=read_state(directory).attempts)
    finally:
        journal.close()


def deliver_now(path: Path, *, project: Project) -> str:
    """Let the process beside the run deliver what is new; what holds it up, "" when all is delivered.

    Waits while it gets on, at most 15 s for a server that is silent.
    """
    live = LiveState(RunDirectory(path))
    if live.state.pending == 0:
        return ""
    start_node_process(live.directory, project)
    pending, moved = live.state.pending, time.monotonic()
    while live.poll().pending and time.monotonic() - moved < PATIENCE_SECONDS:
        if live.state.pending != pending:
            pending, moved = live.state.pending, time.monotonic()
        time.sleep(0.1)
    if live.state.pending == 0:
        return ""
    problems = [tracker.problem for tracker in live.state.trackers.values() if tracker.problem]
    return "; ".join(problems) or f"{live.state.pending} records are not delivered yet"
