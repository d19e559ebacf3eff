"""Predictions in a file, written as they come, so that an evaluation that was killed goes on.

`predictions.jsonl` begins with a line that says whose predictions these are (model, data, settings);
each further line is one prediction: `{"id", "output", "tokens", "seconds"}`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from prism.data.reading import read_records
from prism.errors import DataError, EnvironmentUnfit, PrismError, WorkFailed
from prism.protocols import Example, Prediction, Predictor

FORMAT = 1
Progress = Callable[[int, int], None]


def predict(
    examples: Sequence[Example],
    *,
    model: Path,
    predictor: Predictor,
    file: Path,
    origin: Mapping[str, Any],
    progress: Progress = lambda done, total: None,
) -> list[Prediction]:
    """A prediction for each example, in their order; those that `file` has already are not asked again.

    `origin` is what the file's first line says; `progress` gets (done, total) after each prediction.
    Raises `WorkFailed` when the predictor fails, leaves out an example or answers another.
    """
    answers = _answers(file, origin)
    asked = [example for example in examples if example.id not in answers]
    progress(len(examples) - len(asked), len(examples))
    waiting = {example.id for example in asked}
    with _Lines(file) as lines:
        if not answers:
            lines.begin({"format": FORMAT, "kind": "predictions", **origin})
        for prediction in _asked(predictor, model, asked):
            _check(prediction, waiting)
            waiting.remove(prediction.id)
            lines.append(dump(prediction))
            answers[prediction.id] = prediction
            progress(len(examples) - len(waiting), len(examples))
    if waiting:
        raise WorkFailed(f"the predictor left out {len(waiting)} of {len(examples)} examples: {sorted(waiting)[:3]}")
    return [answers[example.id] for example in examples]


def origin_of(file: Path) -> Mapping[str, Any] | None:
    """What the first line says whose predictions these are; None when there is no whole first line."""
    try:
        first, end, _ = file.read_bytes().partition(b"\n")
        header = json.loads(first) if end else None
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(header, dict) or header.get("kind") != "predictions":
        return None
    return {key: value for key, value in header.items() if key not in ("format", "kind")}


def load_prediction(record: Mapping[str, Any], file: Path) -> Prediction:
    """The prediction that a line of `file` holds. Raises `DataError` when it holds none."""
    key = record.get("id")
    if not isinstance(key, str | int) or not {"prediction", "output"} & record.keys():
        raise DataError(f"{file}: a prediction is an object with 'id' and 'output', here it is {str(record)[:80]}")
    try:
        output = record["prediction"] if "prediction" in record else record["output"]
        return Prediction(str(key), output, int(record.get("tokens", 0)), float(record.get("seconds", 0.0)))
    except (TypeError, ValueError) as error:
        raise DataError(f"{file}: 'tokens' and 'seconds' of {key!r} are not numbers") from error


def dump(prediction: Prediction) -> dict[str, Any]:
    """The prediction as JSON values. Raises `WorkFailed` when its output is none."""
    line = {"id": prediction.id, "output": prediction.output, "tokens": prediction.tokens}
    return {**line, "seconds": round(prediction.seconds, 6)}


def _answers(file: Path, origin: Mapping[str, Any]) -> dict[str, Prediction]:
    """What a killed evaluation left behind; a torn last line is cut off."""
    if not file.exists():
        return {}
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(file, len(whole))
    if not whole:
        return {}
    found = origin_of(file)
    if found != dict(origin):
        raise DataError(f"{file} holds predictions of something else: {found}", hint="move it away")
    answers = [load_prediction(record, file) for record in read_records(file)[1:]]
    return {prediction.id: prediction for prediction in answers}


def _asked(predictor: Predictor, model: Path, examples: Sequence[Example]) -> Any:
    if not examples:
        return
    name = type(predictor).__name__
    try:
        yield from predictor.predict(model, examples)
    except PrismError:
        raise
    except Exception as error:  # the boundary to a plugin's code
        raise WorkFailed(f"the predictor {name} failed: {type(error).__name__}: {error}") from error


def _check(prediction: object, waiting: set[str]) -> None:
    if not isinstance(prediction, Prediction):
        raise WorkFailed(f"the predictor gave {type(prediction).__name__}, not prism.protocols.Prediction")
    if prediction.id not in waiting:
        raise WorkFailed(f"the predictor answered {prediction.id!r}, which was not asked or is answered already")


class _Lines:
    """A file that is only appended to: one line by one write, so that a kill tears at most the last one."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> Self:
        with self._writing():
            self._descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        return self

    def __exit__(self, *_: object) -> None:
        with self._writing():
            os.fsync(self._descriptor)
            os.close(self._descriptor)

    def begin(self, line: Mapping[str, Any]) -> None:
        """Append `line` if the file is empty."""
        if os.fstat(self._descriptor).st_size == 0:
            self.append(line)

    def append(self, line: Mapping[str, Any]) -> None:
        try:
            text = json.dumps(line, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise WorkFailed(f"the prediction {line.get('id')!r} is no JSON value: {error}") from error
        data = memoryview(text.encode(errors="replace") + b"\n")
        with self._writing():
            while data:
                data = data[os.write(self._descriptor, data) :]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EnvironmentUnfit(
                f"{self._file} cannot be written: {error.strerror or error}", hint="make room first"
            ) from error
