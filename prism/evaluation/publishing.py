"""Where the results of evaluations are put for people: files named after version and day, never one over another."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from itertools import count
from pathlib import Path

import attrs

from prism.errors import EnvironmentUnfit, UsageError
from prism.evaluation.results import Evaluation, write_document


def results_folder(project: Path) -> Path:
    """`artifacts/evaluation_results` below the project's folder, made if it is not there.

    Raises `EnvironmentUnfit`.
    """
    folder = project / "artifacts" / "evaluation_results"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentUnfit(f"cannot make {folder}: {error.strerror or error}", hint="make room first") from error
    return folder


def publish(evaluation: Evaluation, *, folder: Path, version: str, day: date) -> Evaluation:
    """Write `sft_evaluation_results_v<version>_<YYYYMMDD>.json` into `folder`; with `-2`, `-3`, … where it is there.

    Returns the evaluation with that file as its `samples_file`. Raises `EnvironmentUnfit`.
    """
    for file in _names(folder, f"sft_evaluation_results_v{version}_{day:%Y%m%d}"):
        try:
            return publish_as(file, evaluation)
        except UsageError:  # another process was faster
            continue
    raise AssertionError("unreachable")


def publish_as(file: Path, evaluation: Evaluation) -> Evaluation:
    """Write the results to `file`, and return them with that as their `samples_file`.

    Raises `UsageError` when it exists by now, and `EnvironmentUnfit`.
    """
    try:
        write_document(file, evaluation)
    except FileExistsError:
        kept = evaluation.samples_file.exists()
        raise _taken(file, hint=f"the samples are in {evaluation.samples_file}" if kept else "") from None
    return attrs.evolve(evaluation, samples_file=file)


def check_free(file: Path) -> None:
    """Raises `UsageError` when `publish_as` could not write there: before any work, so that none is lost."""
    if file.exists():
        raise _taken(file, hint="name another file, or move it away")
    if not file.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {file.absolute().parent} for the results", hint="make it first")


def _names(folder: Path, stem: str) -> Iterator[Path]:
    for number in count(1):
        file = folder / (f"{stem}.json" if number == 1 else f"{stem}-{number}.json")
        if not file.exists():
            yield file


def _taken(file: Path, *, hint: str) -> UsageError:
    return UsageError(f"{file} exists already", hint=hint)
