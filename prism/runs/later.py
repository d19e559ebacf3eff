"""Saying something to a run that has ended, or to a new run made for it: an evaluation, from the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prism.delivery.awaiting import await_delivery, why_pending
from prism.delivery.node import start_node_process
from prism.journal.directory import RunDirectory
from prism.journal.identity import new_run_id
from prism.journal.opening import open_journal
from prism.journal.state import LiveState, read_state
from prism.project import Project
from prism.runs.beginning import begin_run, describe_run, enter_attempt
from prism.runs.handle import Run

SILENT_SECONDS = 15.0
GRACE_SECONDS = 5.0


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
    state = await_delivery(live, silence=SILENT_SECONDS, grace=GRACE_SECONDS, until=lambda one: one.pending == 0)
    if state.pending == 0:
        return ""
    return why_pending(state) or f"{state.pending} records are not delivered yet"
