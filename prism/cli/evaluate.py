"""`prism evaluate`: let a model answer a dataset, score its answers, and put the scores into the model's run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from prism.cli.output import data as show
from prism.cli.output import document, talk, warn
from prism.cli.session import Session, pass_session
from prism.errors import DataError, UsageError
from prism.evaluation.evaluate import rescore as score_again
from prism.evaluation.questions import Questions, read_questions
from prism.evaluation.rescoring import read_kept
from prism.evaluation.results import Evaluation, write_document
from prism.evaluation.summary import summary_text
from prism.protocols import DatasetVersion, Evaluator

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
        _check_free(output_file)
    if rescore is not None:
        evaluation = _rescore(session, rescore, model=model, data=data, names=names, max_samples=max_samples)
        closing = f"Scored again from {rescore}"
    else:
        if model is None or data is None:
            raise UsageError("prism evaluate wants a MODEL and --data DATA", hint="or --rescore FILE of predictions")
        overrides = [] if max_new_tokens is None else [f"evaluation.max_new_tokens={max_new_tokens}"]
        project = session.open_project(overrides=overrides)
        evaluation = _evaluate(project, model=model, data=data, names=names, max_samples=max_samples)
        closing = "Detailed results saved to {}"
    if output_file is not None:
        write_document(output_file, evaluation)
        evaluation = attrs.evolve(evaluation, samples_file=output_file)
        closing = "Detailed results saved to {}"
    _show(evaluation, form=form, closing=closing)


def _evaluate(project: Project, *, model: str, data: str, names: Sequence[str], max_samples: int | None) -> Evaluation:
    from prism.cli.model_folders import find_model
    from prism.runs.evaluating import evaluate_model, make_judges
    from prism.runs.later import deliver_now, say_later

    questions, version = _find_data(project, data)
    found = find_model(model, project=project)
    judges = make_judges(project, evaluators=names)
    asked = questions.first(max_samples or project.config.evaluation.max_samples)
    with say_later(project, found.run, name=f"evaluation of {model}") as run:
        talk(f"run {run.run_id} in {run.directory}")
        run.record_dataset(version, use="evaluation")
        evaluation = evaluate_model(run, asked, model=found.path, name=found.name, judges=judges)
    problem = deliver_now(run.directory, project=project)
    if problem:
        warn(f"{problem}; the scores are in the run, prism sync delivers them")
    return evaluation


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
    return _find_data(project, data)[0] if project is not None else read_questions(Path(data))


def _find_data(project: Project, data: str) -> tuple[Questions, DatasetVersion]:
    """The dataset of that name; else the file at that path, which is not a version anyone keeps."""
    from prism.runs.datasets import find_dataset

    path = Path(data).expanduser()
    if not (data.startswith((".", "/", "~")) and path.exists()):
        try:
            found = find_dataset(project, data)
            return read_questions(found.path, data=found.name, digest=found.digest), found.as_version()
        except DataError:
            if not path.is_file():
                raise
    questions = read_questions(path)
    version = questions.digest.removeprefix("sha256:")[:12]
    return questions, DatasetVersion(questions.data, version, path.resolve().as_uri(), questions.digest)


def _check_free(output_file: Path) -> None:
    if output_file.exists():
        raise UsageError(f"{output_file} exists already", hint="name another file, or move it away")
    if not output_file.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {output_file.absolute().parent} for --output-file")


def _show(evaluation: Evaluation, *, form: str, closing: str) -> None:
    if form == "json":
        shown = {"metrics": evaluation.metrics, "signatures": evaluation.signatures}
        document({**shown, "samples_file": str(evaluation.samples_file)})
        return
    show(summary_text(evaluation, closing=closing))
