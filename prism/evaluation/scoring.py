"""Asking evaluators for their scores, checking what they answer, and giving each figure one name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from attrs import frozen

from prism.errors import PrismError, WorkFailed
from prism.protocols import Evaluator, Prediction, Reference, Scores

# what Prism measures itself; no evaluator's figure may take these names
MEASURED = ("avg_tokens_per_second", "avg_generation_time", "total_samples")


@frozen
class Scoring:
    """All evaluators together: figure → value; id → figure → value; evaluator → signature."""

    figures: Mapping[str, float]
    samples: Mapping[str, Mapping[str, float]]
    signatures: Mapping[str, str]


def score_all(
    evaluators: Mapping[str, Evaluator], *, predictions: Sequence[Prediction], references: Sequence[Reference]
) -> Scoring:
    """Scores by every evaluator, in the order of the mapping.

    A figure is called what its evaluator calls it; where an earlier evaluator has that name already,
    `<evaluator>_<name>`. Raises `WorkFailed`, naming the evaluator, for an answer that breaks the role.
    """
    figures: dict[str, float] = {}
    signatures: dict[str, str] = {}
    samples: dict[str, dict[str, float]] = {reference.id: {} for reference in references}
    taken = set(MEASURED)
    for name, evaluator in evaluators.items():
        scores = score(evaluator, name=name, predictions=predictions, references=references)
        signatures[name] = scores.signature
        names = {*scores.corpus, *(figure for values in scores.samples.values() for figure in values)}
        shown = {figure: f"{name}_{figure}" if figure in taken else figure for figure in names}
        figures |= {shown[figure]: value for figure, value in scores.corpus.items()}
        for key, values in scores.samples.items():
            samples[key] |= {shown[figure]: value for figure, value in values.items()}
        taken |= set(shown.values())
    return Scoring(figures, samples, signatures)


def score(
    evaluator: Evaluator, *, name: str, predictions: Sequence[Prediction], references: Sequence[Reference]
) -> Scores:
    """The scores of one evaluator, checked, as plain floats. Raises as `score_all`."""
    try:
        scores = evaluator.score(predictions, references)
    except PrismError:
        raise
    except Exception as error:  # the boundary to a plugin's code
        raise WorkFailed(f"the evaluator {name!r} failed: {type(error).__name__}: {error}") from error
    if not isinstance(scores, Scores):
        raise _broken(name, f"it gave {type(scores).__name__}, not prism.protocols.Scores")
    if not isinstance(scores.signature, str) or not scores.signature.strip():
        raise _broken(name, "its signature is not a text that says how it scored")
    if not isinstance(scores.samples, Mapping):
        raise _broken(name, f"its samples are {type(scores.samples).__name__}, not a mapping of id → scores")
    unknown = [key for key in scores.samples if key not in {reference.id for reference in references}]
    if unknown:
        raise _broken(name, f"it scored ids that were not asked: {', '.join(map(repr, unknown[:3]))}")
    return Scores(
        corpus=_numbers(scores.corpus, name=name, where="the corpus"),
        samples={key: _numbers(values, name=name, where=f"sample {key!r}") for key, values in scores.samples.items()},
        signature=scores.signature,
    )


def _numbers(values: Any, *, name: str, where: str) -> dict[str, float]:
    if not isinstance(values, Mapping):
        raise _broken(name, f"its scores of {where} are {type(values).__name__}, not a mapping of name → number")
    for figure, value in values.items():
        if not isinstance(figure, str) or not figure:
            raise _broken(name, f"a score of {where} has the name {figure!r}")
        if isinstance(value, bool) or not isinstance(value, Real):
            raise _broken(name, f"{figure!r} of {where} is {value!r}, not a number")
        if not math.isfinite(value):
            raise _broken(name, f"{figure!r} of {where} is {float(value)}; leave out what cannot be scored")
    return {figure: float(value) for figure, value in values.items()}


def _broken(name: str, what: str) -> WorkFailed:
    return WorkFailed(f"the evaluator {name!r} breaks its role: {what}", hint="tell whoever wrote its plugin")
