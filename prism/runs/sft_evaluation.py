"""Evaluating a fine-tuned language model as examples/evaluate_sft_model.py does: one call, one file of results."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs

from prism.config import find_config
from prism.errors import UsageError
from prism.evaluation.publishing import check_free, publish, publish_as, results_folder
from prism.evaluation.results import Evaluation
from prism.project import Project, as_overrides, open_project
from prism.runs.evaluating import judge, make_judges
from prism.runs.evaluating_later import Asked, describe, evaluate_found, questions_in
from prism.runs.model_folders import ModelFolder, find_model
from prism.stderr import tell

_EVALUATORS = ("rouge", "bleu")
_CONFIGS = ("config.json", "adapter_config.json")
_SFT = {"framework": "pytorch", "task_type": "language-model"}


def evaluate_sft_model(
    model: str,
    *,
    file: Path,
    max_samples: int | None = None,
    max_new_tokens: int | None = None,
    output_file: Path | None = None,
) -> Evaluation:
    """Let a model answer the records of `file`, score its answers with ROUGE and BLEU, and write the results.

    `model` is a folder, or what else `prism evaluate` takes. Metrics and tags go to the run that made the
    model, or to a new one. Without a `sais_foundation.yaml` here or above, nor above the model, there is no run,
    and the results are in their file alone: `output_file`, else the next
    `artifacts/evaluation_results/sft_evaluation_results_v…json` of the project (or of this folder). What is not
    given is as the configuration's `evaluation` says: all samples, 200 new tokens. Returns the evaluation with
    that file as its `samples_file`. Raises `UsageError` and `DataError` before any work, `WorkFailed`,
    `EnvironmentUnfit`.
    """
    given = {"evaluation.max_samples": max_samples, "evaluation.max_new_tokens": max_new_tokens}
    overrides = as_overrides({key: value for key, value in given.items() if value is not None})
    if output_file is not None:
        check_free(output_file)
    here = Path.cwd()
    config = find_config(here) or find_config(Path(model).expanduser())
    project = open_project(config, overrides=overrides) if config else _without_file(here, overrides)
    asked = questions_in(file)
    found = find_model(model, project=project)
    _check_model(found)
    folder = results_folder(project.config.project) if output_file is None else output_file.parent  # before the work
    evaluation = _evaluate(found, asked, project=project) if config else _evaluate_alone(found, asked, project=project)
    if output_file is not None:
        return publish_as(output_file, evaluation)
    version = str(evaluation.metadata["model_version"])
    published = publish(evaluation, folder=folder, version=version, day=datetime.now().date())
    inside = published.samples_file.is_relative_to(here)
    return attrs.evolve(published, samples_file=published.samples_file.relative_to(here)) if inside else published


def _check_model(found: ModelFolder) -> None:
    """A folder that is no model is refused before a run is begun for it; weights of an adapter are a model."""
    if found.path.is_dir() and not any((found.path / name).is_file() for name in _CONFIGS):
        raise UsageError(f"{found.path} has no config.json, it is no model folder", hint="save_pretrained writes one")


def _evaluate(found: ModelFolder, asked: Asked, *, project: Project) -> Evaluation:
    judges = make_judges(project, evaluators=_EVALUATORS)
    return evaluate_found(found, asked, project=project, judges=judges, otherwise=_SFT)


def _evaluate_alone(found: ModelFolder, asked: Asked, *, project: Project) -> Evaluation:
    """Without a run: nobody has said where one would be tracked."""
    tell(
        "there is no sais_foundation.yaml here or above: the scores go to the file of results alone, "
        "to no run and no tracker\n"
    )
    judges = make_judges(project, evaluators=_EVALUATORS)
    questions = asked.questions.first(project.config.evaluation.max_samples)
    with TemporaryDirectory(prefix="prism-evaluation-") as folder:
        evaluation = judge(questions, model=found.path, name=found.name, judges=judges, output=Path(folder))
    return describe(evaluation, found, project=project, otherwise=_SFT)


def _without_file(folder: Path, overrides: Sequence[str]) -> Project:
    """A project of `folder` in which everything is as it is by default, and nothing is tracked."""
    with TemporaryDirectory(prefix="prism-defaults-") as elsewhere:
        file = Path(elsewhere) / "sais_foundation.yaml"
        file.write_text("ml: {enabled: false}\n", encoding="utf-8")
        return open_project(file, overrides=overrides, folder=folder)
