"""`prism evaluate`: let a model answer a dataset, score its answers, and put the scores into the model's run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prism.cli.output import data as show
from prism.cli.output import document
from prism.cli.session import Session, pass_session
from prism.errors import UsageError
from prism.evaluation.evaluate import rescore as score_again
from prism.evaluation.publishing import check_free, publish_as
from prism.evaluation.questions import Questions, read_questions
from prism.evaluation.rescoring import read_kept
from prism.evaluation.results import Evaluation
from prism.evaluation.summary import summary_text
from prism.protocols import Evaluator

if TYPE_CHECKING:
    from prism.project import Project

_DEFAULT_EVALUATORS = ("rouge", "bleu")


@click.command()
@click.argument("model", required=False)
@click.option("--data", metavar="DATA", help="The dataset: its name, or a path to a file of records.")
@click.option("--max-samples", metavar="N", type=click.IntRange(min=1), help="At most so many samples.")
@click.option("--max-new-tokens", metavar="N", type=click.IntRange(min=1), help="The most tokens of an answer.")
@click.option(
    "--evaluator",
    "names",
    metavar="NAME",
    multiple=True,
    help="Score with this one (may be repeated), not as configured.",
)
@click.option(
    "--output-file",
    metavar="PATH",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write one JSON document.",
)
@click.option(
    "--rescore",
    metavar="FILE",
    type=click.Path(exists=True, path_type=Path, dir_okay=False),
    help="Score the predictions of this file again, without a model.",
)
@click.option("--json", "form", flag_value="json", default="text", help="Print one JSON document.")
@pass_session
def evaluate(
    session: Session,
    *,
    model: str | None,
    data: str | None,
    max_samples: int | None,
    max_new_tokens: int | None,
    names: Sequence[str],
    output_file: Path | None,
    rescore: Path | None,
    form: str,
) -> None:
    """Let a model answer a dataset and score its answers.

    MODEL is a folder, a run (its id or the beginning of it), NAME@VERSION or NAME@ALIAS of a registered
    model, or a hub name. The scores go into the run that made the model, or into a new one.
    """
    if output_file is not None:
        check_free(output_file)
    if rescore is not None:
        evaluation = _rescore(session, rescore, model=model, data=data, names=names, max_samples=max_samples)
        closing = f"Scored again from {rescore}"
    else:
        if model is None or data is None:
            raise UsageError("prism evaluate wants a MODEL and --data DATA", hint="or --rescore FILE of predictions")
        given = {"evaluation.max_samples": max_samples, "evaluation.max_new_tokens": max_new_tokens}
        overrides = [f"{key}={value}" for key, value in given.items() if value is not None]
        evaluation = _evaluate(session.open_project(overrides=overrides), model=model, data=data, names=names)
        closing = "Detailed results saved to {}"
    if output_file is not None:
        evaluation = publish_as(output_file, evaluation)
        closing = "Detailed results saved to {}"
    _show(evaluation, form=form, closing=closing)


def _evaluate(project: Project, *, model: str, data: str, names: Sequence[str]) -> Evaluation:
    from prism.runs.evaluating import make_judges
    from prism.runs.evaluating_later import evaluate_found, find_questions
    from prism.runs.model_folders import find_model

    asked = find_questions(data, project=project)
    found = find_model(model, project=project)
    return evaluate_found(found, asked, project=project, judges=make_judges(project, evaluators=names))


def _rescore(
    session: Session,
    file: Path,
    *,
    model: str | None,
    data: str | None,
    names: Sequence[str],
    max_samples: int | None,
) -> Evaluation:
    project = session.open_project() if session.config_file() is not None else None
    evaluators = _evaluators(session, project, names)
    kept = read_kept(file)
    if data is not None:
        kept = kept.against(_read_data(project, data))
    elif kept.questions is None:
        raise UsageError(f"{file} has predictions alone", hint="give --data, the dataset that they answer")
    assert kept.questions is not None
    questions = kept.questions.first(max_samples)
    predictions = kept.predictions
    if max_samples is not None:
        predictions = [prediction for prediction in predictions if prediction.id in set(questions.ids)]
    return score_again(
        questions, predictions=predictions, evaluators=evaluators, model_name=model or kept.model, file=file
    )


def _evaluators(session: Session, project: Project | None, names: Sequence[str]) -> Mapping[str, Evaluator]:
    if project is not None:
        from prism.runs.evaluating import make_evaluators

        return make_evaluators(project, names=names)
    return {name: session.plugins.build("evaluator", name) for name in names or _DEFAULT_EVALUATORS}


def _read_data(project: Project | None, data: str) -> Questions:
    if project is None:
        return read_questions(Path(data))
    from prism.runs.evaluating_later import find_questions

    return find_questions(data, project=project).questions


def _show(evaluation: Evaluation, *, form: str, closing: str) -> None:
    if form == "json":
        shown = {"metrics": evaluation.metrics, "signatures": evaluation.signatures}
        document({**shown, "samples_file": str(evaluation.samples_file)})
        return
    show(summary_text(evaluation, closing=closing))
