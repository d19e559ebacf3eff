"""Evaluating a model within a run: who answers and who scores, and the scores in the run's journal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import attrs
from attrs import define, frozen

from prism.config import Named
from prism.data.digest import digest_files, manifest_digest
from prism.errors import UsageError
from prism.evaluation.evaluate import evaluate_set
from prism.evaluation.questions import Questions, check_names, read_questions
from prism.evaluation.results import Evaluation
from prism.evaluation.summary import summary_text
from prism.project import Project
from prism.protocols import Evaluator, Predictor
from prism.runs.handle import Run
from prism.runs.progress import Progress, progress


@frozen
class Judges:
    """The predictor and the evaluators, built once for all datasets.

    `settings` (JSON values) tells the answers of one predictor from those of another.
    """

    predictor: Predictor
    evaluators: Mapping[str, Evaluator]
    settings: Mapping[str, Any]


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
    model = run.directory / "model"
    if not model.is_dir():
        run.warn("evaluation.data is set, but the run has logged no model to evaluate")
        return
    judges = make_judges(project)
    # the digest, so that a resumed run does not go on with the answers of the model it had before
    name = f"{run.run_id} {manifest_digest(digest_files(model))}"
    for asked in questions:
        evaluation = evaluate_model(
            run, asked.first(run.config.evaluation.max_samples), model=model, name=name, judges=judges
        )
        sys.stdout.write(f"\n{evaluation.data}\n{summary_text(evaluation)}\n")
        sys.stdout.flush()


def evaluate_model(run: Run, questions: Questions, *, model: Path, name: str, judges: Judges) -> Evaluation:
    """Let the model in the folder `model`, which reports call `name`, answer one set; log the scores to the run."""
    evaluation = judge(questions, model=model, name=name, judges=judges, output=run.directory / "evaluation")
    samples = evaluation.samples_file.relative_to(run.directory).as_posix()
    run.log_evaluation(
        evaluation.data, metrics=evaluation.metrics, signatures=evaluation.signatures, samples_file=samples
    )
    run.log_artifact(evaluation.samples_file.parent, name=samples.rpartition("/")[0])
    return evaluation


def judge(questions: Questions, *, model: Path, name: str, judges: Judges, output: Path) -> Evaluation:
    """Let the model answer one set and score its answers, with a bar; everything is kept below the folder `output`."""
    with progress(f"evaluating {questions.name}", total=len(questions.records), unit="answer") as bar:
        return evaluate_set(
            questions,
            model=model,
            predictor=judges.predictor,
            evaluators=judges.evaluators,
            output=output,
            model_name=name,
            settings=judges.settings,
            progress=_Advance(bar),
        )


def make_judges(project: Project, *, evaluators: Sequence[str] = ()) -> Judges:
    """The configuration's predictor, and its evaluators or those of the given names.

    Raises `UsageError` for a name that nobody provides or that is given twice, `EnvironmentUnfit` for
    a plugin that cannot load.
    """
    chosen = project.config.evaluation.predictor
    options = attrs.asdict(cast("attrs.AttrsInstance", chosen.options)) if chosen.options is not None else {}
    return Judges(
        predictor=project.build("predictor", chosen),
        evaluators=make_evaluators(project, names=evaluators),
        settings={"predictor": chosen.name, **options},
    )


def make_evaluators(project: Project, *, names: Sequence[str] = ()) -> dict[str, Evaluator]:
    """Evaluators by name, with the options that the configuration gives them. Raises as `make_judges`."""
    configured = {named.name: named for named in project.config.evaluation.evaluators}
    wanted = [configured.get(name, Named(name)) for name in names] or list(project.config.evaluation.evaluators)
    called = [named.name for named in wanted]
    repeated = sorted({name for name in called if called.count(name) > 1})
    if repeated:
        raise UsageError(f"the evaluator {repeated[0]!r} is named twice", hint="its scores would have one name")
    return {named.name: project.build("evaluator", named) for named in wanted}


@define
class _Advance:
    """Moves a bar to how much is done."""

    bar: Progress
    shown: int = 0

    def __call__(self, done: int, total: int) -> None:
        self.bar.advance(done - self.shown)
        self.shown = done
