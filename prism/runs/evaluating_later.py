"""Evaluating a model by itself, long after its training or without one: the scores go to the run that made it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import attrs
from attrs import frozen

from prism.data.versions import version_of
from prism.errors import DataError
from prism.evaluation.questions import Questions, read_questions
from prism.evaluation.results import Evaluation
from prism.project import Project
from prism.protocols import DatasetVersion
from prism.runs.datasets import find_dataset
from prism.runs.evaluating import Judges, evaluate_model
from prism.runs.later import deliver_now, say_later
from prism.runs.model_facts import TAGS, facts_of
from prism.runs.model_folders import ModelFolder
from prism.stderr import tell

_NOTHING: Mapping[str, str] = MappingProxyType({})


@frozen
class Asked:
    """The questions of an evaluation, and the dataset version that they are."""

    questions: Questions
    version: DatasetVersion


def find_questions(data: str, *, project: Project) -> Asked:
    """The dataset of that name; else the file at that path, which is not a version anyone keeps.

    Raises `DataError`.
    """
    path = Path(data).expanduser()
    if not (data.startswith((".", "/", "~")) and path.exists()):
        try:
            found = find_dataset(project, data)
            return Asked(read_questions(found.path, data=found.name, digest=found.digest), found.as_version())
        except DataError:
            if not path.is_file():
                raise
    return questions_in(path)


def questions_in(file: Path) -> Asked:
    """The questions of a file of records, as a version of their own. Raises `DataError`."""
    questions = read_questions(file)
    version = version_of(questions.digest)
    return Asked(questions, DatasetVersion(questions.data, version, file.resolve().as_uri(), questions.digest))


def evaluate_found(
    found: ModelFolder, asked: Asked, *, project: Project, judges: Judges, otherwise: Mapping[str, str] = _NOTHING
) -> Evaluation:
    """Let a model answer, score its answers, and log scores and tags to the run that made it, or to a new one.

    `otherwise` has what is true of the model where `facts_of` knows nothing. Says on stderr in which run
    the scores are, and what keeps them from the trackers. Raises `WorkFailed`, `EnvironmentUnfit`.
    """
    with say_later(project, found.run, name=f"evaluation of {found.name.partition(' sha256:')[0]}") as run:
        tell(f"run {run.run_id} in {run.directory}\n")
        run.record_dataset(asked.version, use="evaluation")
        questions = asked.questions.first(project.config.evaluation.max_samples)
        evaluation = evaluate_model(run, questions, model=found.path, name=found.name, judges=judges)
        evaluation = describe(evaluation, found, project=project, otherwise=otherwise, run_id=run.run_id)
        run.set_tags({name: value for name in _TOLD if (value := evaluation.metadata[name]) is not None})
    problem = deliver_now(run.directory, project=project)
    if problem:
        tell(f"warning: {problem}; the scores are in the run, prism sync delivers them\n")
    return evaluation


_TOLD = (*TAGS, "evaluation_dataset", "evaluation_dataset_digest")


def describe(
    evaluation: Evaluation, found: ModelFolder, *, project: Project, otherwise: Mapping[str, str], run_id: str = ""
) -> Evaluation:
    """The evaluation with what is known of its model and its dataset as its metadata, None where nothing is."""
    facts = facts_of(found, project=project)
    metadata = {
        **dict.fromkeys(TAGS),
        **otherwise,
        **facts.tags,
        "evaluation_dataset": evaluation.data,
        "evaluation_dataset_digest": evaluation.digest,
        "model_version": facts.version,
        "model_version_from": facts.version_from,
        "run_id": run_id or None,
    }
    return attrs.evolve(evaluation, metadata=metadata)
