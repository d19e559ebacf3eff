"""Metrics that an evaluator computes from two logged series, as `ml.custom_metrics` says, when a run has succeeded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import frozen

from prism.config.sections import CustomMetric
from prism.errors import explain
from prism.evaluation.scoring import score
from prism.journal.directory import RunDirectory
from prism.project import Project
from prism.protocols import Prediction, Reference, Scores
from prism.runs.series import Points, read_series


@frozen
class Scored:
    """What one evaluator made of its two series."""

    name: str
    evaluator: str
    scores: Scores

    @property
    def metrics(self) -> dict[str, float]:
        """Its figures under the custom metric's name: `<name>/<figure>`."""
        return {f"{self.name}/{figure}": value for figure, value in self.scores.corpus.items()}


def score_series(
    project: Project, directory: RunDirectory, *, rank: int, warn: Callable[[str], None]
) -> Sequence[Scored]:
    """Every custom metric with an evaluator, from what `rank` has logged; `warn` is told of those that fail."""
    found = []
    for one in (one for one in project.config.ml.custom_metrics if one.evaluator is not None):
        try:
            found.append(_score(project, one, read_series(directory, _names(one), rank=rank)))
        except Exception as error:  # the plugin boundary: the work is done, and counts
            warn(f"the custom metric {one.name!r} could not be computed: {explain(error)}")
    return found


def _names(one: CustomMetric) -> tuple[str, str]:
    return one.predictions or "", one.references or ""


def _score(project: Project, one: CustomMetric, series: Mapping[str, Points]) -> Scored:
    """The evaluator's scores of the steps at which both metrics were logged; the last value at a step counts."""
    assert one.evaluator is not None
    answers, right = (dict(series[name]) for name in _names(one))
    steps = sorted(step for step in answers.keys() & right.keys() if step is not None)
    if not steps:
        raise ValueError(f"{one.predictions} and {one.references} have no step in common")
    return Scored(
        one.name,
        one.evaluator.name,
        score(
            project.build("evaluator", one.evaluator),
            name=one.evaluator.name,
            predictions=[Prediction(str(step), answers[step]) for step in steps],
            references=[Reference(str(step), right[step], {"step": step}) for step in steps],
        ),
    )
