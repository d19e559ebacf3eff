"""What an evaluation found, and the files that keep it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from prism.errors import EnvironmentUnfit
from prism.protocols import Prediction
from prism.writing import write_whole

FORMAT = 1


@frozen
class Sample:
    """One question with its record, the model's answer, and what the evaluators made of it."""

    id: str
    record: Mapping[str, Any]
    prediction: Prediction
    scores: Mapping[str, float] = field(factory=dict)

    def as_json(self) -> dict[str, Any]:
        """One line of `samples.jsonl`."""
        answer = {"prediction": self.prediction.output, "reference": self.record.get("output")}
        cost = {"tokens": self.prediction.tokens, "seconds": round(self.prediction.seconds, 6)}
        return {"id": self.id, **answer, "scores": dict(self.scores), **cost, "record": dict(self.record)}


@frozen
class Evaluation:
    """A model's scores on one dataset.

    `figures` are the scores and what was measured, by the names of the summary; `metrics` the same as
    a run logs them, `eval/<set>/<name>`. `samples_file` is the path of `samples.jsonl`, or of the
    document that was asked for. `metadata` is what a document says of model and dataset.
    """

    data: str
    name: str
    digest: str
    model: str
    date: str
    figures: Mapping[str, float]
    signatures: Mapping[str, str]
    samples: Sequence[Sample]
    samples_file: Path
    metadata: Mapping[str, str | None] = field(factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        return {f"eval/{self.name}/{name}": value for name, value in self.figures.items()}

    def as_json(self) -> dict[str, Any]:
        """`scores.json`: everything but the samples."""
        return {
            "format": FORMAT,
            "data": self.data,
            "digest": self.digest,
            "model": self.model,
            "date": self.date,
            "scores": dict(self.figures),
            "metrics": self.metrics,
            "signatures": dict(self.signatures),
        }


def write_samples(file: Path, samples: Sequence[Sample]) -> None:
    """`samples.jsonl`, whole or not at all."""
    write_file(file, "".join(json.dumps(sample.as_json(), ensure_ascii=False) + "\n" for sample in samples))


def write_document(file: Path, evaluation: Evaluation) -> None:
    """Everything in one new JSON document: what `scores.json` says, the metadata, and the samples under "results".

    Raises `FileExistsError` when the file is there already, `EnvironmentUnfit` when it cannot be written.
    """
    metadata = {"metadata": dict(evaluation.metadata)} if evaluation.metadata else {}
    results = [sample.as_json() for sample in evaluation.samples]
    document = {**evaluation.as_json(), **metadata, "results": results}
    write_new_file(file, json.dumps(document, ensure_ascii=False, indent=2) + "\n")


def write_scores(file: Path, evaluation: Evaluation) -> None:
    """`scores.json`, whole or not at all; its presence says that the evaluation is complete."""
    write_file(file, json.dumps(evaluation.as_json(), ensure_ascii=False, indent=2) + "\n")


def write_new_file(file: Path, text: str) -> None:
    """`write_file` of a file that is not there yet: of two processes that write it, one gets `FileExistsError`.

    The name is claimed first, since not every file system has hard links; the claim is empty for a moment.
    """
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    except FileExistsError:
        raise
    except OSError as error:
        raise _unwritable(file, error) from error
    try:
        write_file(file, text)
    except BaseException:
        file.unlink(missing_ok=True)
        raise


def write_file(file: Path, text: str) -> None:
    """Write a file that others see whole or not at all. Raises `EnvironmentUnfit` when it cannot be written."""
    try:
        write_whole(file, text)
    except OSError as error:
        raise _unwritable(file, error) from error


def _unwritable(file: Path, error: OSError) -> EnvironmentUnfit:
    return EnvironmentUnfit(f"{file} cannot be written: {error.strerror or error}", hint="make room first")
