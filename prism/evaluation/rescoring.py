"""Taking predictions that were kept before to be scored again, without a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from prism.data.reading import read_records
from prism.errors import DataError, UsageError
from prism.evaluation.predictions import load_prediction, origin_of
from prism.evaluation.questions import Questions
from prism.protocols import Prediction


@frozen
class Kept:
    """Predictions from a file, the model that they are of ("" if unknown), and their questions if the file has them."""

    predictions: Sequence[Prediction]
    model: str = ""
    questions: Questions | None = None

    def against(self, questions: Questions) -> Kept:
        """The same predictions with the questions of `questions` that they answer, in its order.

        An evaluation of the first N samples is so scored against the whole dataset's file.
        """
        answered = {prediction.id for prediction in self.predictions}
        keep = [place for place, key in enumerate(questions.ids) if key in answered]
        records = [questions.records[place] for place in keep]
        found = Questions(questions.data, records, questions.digest, [questions.ids[place] for place in keep])
        return Kept(self.predictions, self.model, found)


def read_kept(file: Path) -> Kept:
    """Read `predictions.jsonl`, `samples.jsonl`, or the document that `--output-file` wrote.

    Any JSON lines with `id` and `output` will do. Raises `DataError` for what is none of these.
    """
    if file.suffix == ".json":
        return _read_document(file)
    records = [record for record in read_records(file) if record.get("kind") != "predictions"]
    if not records:
        raise DataError(f"{file}: there are no predictions")
    origin = origin_of(file) or _scores_beside(file)
    return _kept(records, file=file, origin=origin)


def _read_document(file: Path) -> Kept:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{file}: not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("results"), list) or not document["results"]:
        raise DataError(f"{file}: no document of an evaluation: it has no list under 'results'")
    return _kept(document["results"], file=file, origin=document)


def _kept(records: Sequence[Mapping[str, Any]], *, file: Path, origin: Mapping[str, Any]) -> Kept:
    predictions = [load_prediction(record, file) for record in records]
    model = str(origin.get("model", ""))
    if not all(isinstance(record.get("record"), dict) for record in records):
        return Kept(predictions, model)
    data, digest = str(origin.get("data") or file.name), str(origin.get("digest", ""))
    ids = [prediction.id for prediction in predictions]
    return Kept(predictions, model, Questions(data, [record["record"] for record in records], digest, ids))


def _scores_beside(file: Path) -> Mapping[str, Any]:
    """What `scores.json` beside a `samples.jsonl` says of it, if it is there."""
    scores = file.with_name("scores.json")
    return json.loads(scores.read_text(encoding="utf-8")) if file.name == "samples.jsonl" and scores.exists() else {}
