"""The evaluation that a run's configuration asks for, of the model that the run has made."""

from __future__ import annotations

from prism.runs.handle import Run
from prism.runs.project import Project


def evaluate_run(run: Run, *, project: Project) -> None:
    """Let the run's model answer each dataset of `evaluation.data`, score the answers, log the scores."""
    if not project.config.evaluation.data or not (run.directory / "model").is_dir():
        return
