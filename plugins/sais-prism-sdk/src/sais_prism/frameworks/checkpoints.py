"""Checkpoints that a framework writes and keeps, in the run's record."""

from __future__ import annotations

from pathlib import Path

from prism import Run
from prism.errors import DataError


def note_checkpoint(run: Run, path: Path, *, step: int) -> None:
    """Record a checkpoint; one that cannot be read, or still grows, is said, and the training goes on."""
    try:
        run.record_checkpoint(path, step=step)
    except (DataError, OSError) as error:
        run.warn(f"the checkpoint of step {step} is not recorded: {error}")
