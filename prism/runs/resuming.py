"""Which run `--resume` means."""

from __future__ import annotations

from prism.config import Configuration
from prism.delivery.watch import await_verdict, look_at
from prism.errors import UsageError
from prism.journal.directory import RunDirectory, find_run, list_runs
from prism.journal.looks import lease_seconds
from prism.journal.state import TERMINAL, RunState
from prism.runs.checkpoints import published_checkpoints
from prism.stderr import tell

UNFINISHED = ("FAILED", "KILLED")


def run_to_resume(config: Configuration, wanted: str) -> RunDirectory | None:
    """The run called `wanted` (an id or its beginning).

    "auto" is the newest run of this experiment that FAILED or was KILLED and has a checkpoint, or
    None when there is none: then a new run begins. Waits up to a lease to see whether a run on another
    machine lives. Raises `UsageError` for an unknown id.
    """
    if wanted != "auto":
        return find_run(config.project, wanted)
    for directory in list_runs(config.project):
        if published_checkpoints(directory.checkpoints):
            state = look_at(directory)
            if state.experiment == config.foundation.experiment_name:
                return directory if _settled(state).status in UNFINISHED else None
    return None


def next_attempt(directory: RunDirectory) -> int:
    """The number of the attempt that resumes a run. Raises `UsageError` while the run goes on."""
    state = _settled(look_at(directory))
    if state.status not in TERMINAL:
        going = "still running" if state.status == "RUNNING" else f"{state.status}: {state.error}"
        raise UsageError(f"the run {state.run_id} is {going}", hint=f"prism runs show {state.run_id}")
    return state.attempts + 1


def _settled(state: RunState) -> RunState:
    """The state when it is known whether the run's processes on other machines live."""
    away = [one.process.host for one in state.deciding().values() if one.is_away and one.process]
    if not away:
        return state
    tell(f"run {state.run_id} was at work on {away[0]}: up to {lease_seconds():.0f} s to see whether it lives\n")
    return await_verdict(state.directory)
