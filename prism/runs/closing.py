"""What comes just before the end of a run that has succeeded."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from prism.errors import DataError
from prism.journal.directory import RunDirectory
from prism.runs.ending import summary_of
from prism.runs.files import matching_files
from prism.runs.scored_metrics import score_series
from prism.stderr import tell

if TYPE_CHECKING:
    from prism.project import Project
    from prism.runs.handle import Run


def conclude(run: Run, project: Project, *, acts: Sequence[Callable[[], None]]) -> Exception | None:
    """Call `acts`, then log what the configuration asks for; the exception by which the run fails after all."""
    try:
        for act in acts:
            act()
    except Exception as error:  # of whoever asked to be called: it decides the status
        tell(f"run {run.run_id} FAILED: {run.config.redact(summary_of(error))}\n")
        return error
    if run.rank == 0:
        _log_configured_artifacts(run)
        _log_scored_metrics(run, project)
        shutil.rmtree(RunDirectory(run.directory).scratch, ignore_errors=True)
    return None


def _log_configured_artifacts(run: Run) -> None:
    """Keep what `ml.artifacts` names; what is not there, or cannot be kept, is said."""
    for pattern in run.config.ml.artifacts:
        try:
            found = matching_files(run.project, pattern, without=run.directory.parent)
        except (OSError, ValueError, IndexError) as error:  # pathlib's, the last two of what is no pattern
            run.warn(f"ml.artifacts: {pattern!r} cannot be looked for ({error})")
            continue
        if not found:
            run.warn(f"ml.artifacts: nothing matches {pattern!r} in {run.project}")
        for path in found:
            try:
                run.log_artifact(path, name=path.relative_to(run.project).as_posix())
            except DataError as error:  # gone by now; the work is done, and counts
                run.warn(f"ml.artifacts: {error.message}")


def _log_scored_metrics(run: Run, project: Project) -> None:
    """Score the series that `ml.custom_metrics` names an evaluator for."""
    for scored in score_series(project, RunDirectory(run.directory), rank=run.rank, warn=run.warn):
        signatures = {scored.evaluator: scored.scores.signature}
        run.log_evaluation(scored.name, metrics=scored.metrics, signatures=signatures, samples_file="")
