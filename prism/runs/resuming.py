"""Which run `--resume` means."""

from __future__ import annotations

from prism.config import Configuration
from prism.errors import UsageError
from prism.journal.directory import RunDirectory, find_run, list_runs
from prism.journal.state import read_overview, read_state
from prism.runs.checkpoints import published_checkpoints

UNFINISHED = ("FAILED", "KILLED")


def run_to_resume(config: Configuration, wanted: str) -> RunDirectory | None:
    """The run called `wanted` (an id or its beginning).

    "auto" is the newest run of this experiment that FAILED or was KILLED and has a checkpoint, or
    None when there is none: then a new run begins. Raises `UsageError` for an unknown id.
    """
    if wanted != "auto":
        return find_run(config.project, wanted)
    for directory in list_runs(config.project):
        if published_checkpoints(directory.checkpoints):
            overview = read_overview(directory)
            if overview["experiment"] == config.foundation.experiment_name:
                return directory if overview["status"] in UNFINISHED else None
    return None


def next_attempt(directory: RunDirectory) -> int:
    """The number of the attempt that resumes a run. Raises `UsageError` while the run goes on."""
    state = read_state(directory)
    if state.status == "RUNNING":
        raise UsageError(f"the run {state.run_id} is still running", hint=f"prism runs show {state.run_id}")
    return state.attempts + 1
