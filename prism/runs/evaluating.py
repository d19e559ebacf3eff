"""The evaluation that a run's configuration asks for, of the model that the run has made."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import attrs
from attrs import define

from prism.evaluation.evaluate import evaluate_set
from prism.evaluation.questions import Questions, check_names, read_questions
from prism.evaluation.results import Evaluation
from prism.evaluation.summary import summary_text
from prism.runs.handle import Run
from prism.runs.progress import Progress, progress
from prism.runs.project import Project


def load_questions(run: Run) -> list[Questions]:
    """The datasets of `evaluation.data`, read before any work so that one that is unfit costs nothing.

    Raises `DataError` and `UsageError`.
    """
    names = run.config.evaluation.data
    check_names(names)
    datasets = [run.dataset(name, use="evaluation") for name in names]
    return [read_questions(one.path, data=one.name, digest=one.digest) for one in datasets]


def evaluate_run(run: Run, questions: Sequence[Questions], *, project: Project) -> None:
    """Let the run's model answer each set, score the answers, log the scores and print their summary."""
    if not questions:
        return
    if not (run.directory / "model").is_dir():
        run.warn("evaluation.data is set, but the run has logged no model to evaluate")
        return
    settings = project.config.evaluation
    predictor = project.build("predictor", settings.predictor)
    evaluators = {named.name: project.build("evaluator", named) for named in settings.evaluators}
    options = attrs.asdict(settings.predictor.options) if settings.predictor.options is not None else {}
    for asked in questions:
        total = len(asked.first(settings.max_samples).records)
        with progress(f"evaluating {asked.name}", total=total, unit="answer") as bar:
            evaluation = evaluate_set(
                asked,
                model=run.directory / "model",
                predictor=predictor,
                evaluators=evaluators,
                output=run.directory / "evaluation",
                model_name=run.config.ml.model_repo.name or run.run_id,
                max_samples=settings.max_samples,
                settings={"predictor": settings.predictor.name, **options},
                progress=_Advance(bar),
            )
        _log(run, evaluation)


@define
class _Advance:
    """Moves a bar to how much is done."""

    bar: Progress
    shown: int = 0

    def __call__(self, done: int, total: int) -> None:
        self.bar.advance(done - self.shown)
        self.shown = done


def _log(run: Run, evaluation: Evaluation) -> None:
    samples = evaluation.samples_file.relative_to(run.directory).as_posix()
    run.log_evaluation(
        evaluation.data, metrics=evaluation.metrics, signatures=evaluation.signatures, samples_file=samples
    )
    run.log_artifact(evaluation.samples_file.parent, name=samples.rpartition("/")[0])
    sys.stdout.write(f"\n{evaluation.data}\n{summary_text(evaluation)}\n")
    sys.stdout.flush()
