"""Bringing predictions and references of the same ids together, for evaluators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from prism.errors import DataError
from prism.protocols import Prediction, Reference


def pair(predictions: Sequence[Prediction], references: Sequence[Reference]) -> list[tuple[Prediction, Reference]]:
    """One pair for each reference, in the order of the references.

    Raises `DataError` when an id stands twice or on one side only, and when there is nothing.
    """
    answers = {prediction.id: prediction for prediction in predictions}
    wanted = {reference.id for reference in references}
    problems = [
        _name("predicted twice", _repeated(prediction.id for prediction in predictions)),
        _name("referenced twice", _repeated(reference.id for reference in references)),
        _name("without a prediction", [reference.id for reference in references if reference.id not in answers]),
        _name("without a reference", [name for name in answers if name not in wanted]),
    ]
    if any(problems):
        raise DataError(f"predictions and references do not match: {'; '.join(filter(None, problems))}")
    if not references:
        raise DataError("there is nothing to score: no prediction and no reference")
    return [(answers[reference.id], reference) for reference in references]


def pair_texts(predictions: Sequence[Prediction], references: Sequence[Reference]) -> list[tuple[str, str, str]]:
    """(id, predicted text, reference text) for each reference, in their order.

    Raises `DataError` as `pair` does, and for an output that is not text.
    """
    pairs = pair(predictions, references)
    return [
        (
            reference.id,
            _text(prediction.output, "prediction", reference.id),
            _text(reference.output, "reference", reference.id),
        )
        for prediction, reference in pairs
    ]


def _text(output: Any, what: str, name: str) -> str:
    if not isinstance(output, str):
        raise DataError(f"the {what} of {name!r} is not text but {type(output).__name__}: {str(output)[:60]}")
    return output


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, times in Counter(names).items() if times > 1]


def _name(what: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{what}: {', '.join(map(repr, names[:3]))}{more}"
