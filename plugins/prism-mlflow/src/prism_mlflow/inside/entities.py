"""MLflow's entities from what the journal was told, and journal values from MLflow's entities."""

from __future__ import annotations

import getpass
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlflow.entities import (
    Dataset,
    DatasetInput,
    Experiment,
    FileInfo,
    InputTag,
    LifecycleStage,
    LoggedModel,
    LoggedModelInput,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunOutputs,
    RunTag,
)
from mlflow.entities.model_registry import ModelVersion, ModelVersionTag, RegisteredModel, RegisteredModelTag

from prism.runs.inside import number
from prism_mlflow.inside.told import Point, ToldModel, ToldRun, ToldVersion

_RUN_NAME = "mlflow.runName"
_PARENT = "mlflow.parentRunId"
_VersionTag: Any = ModelVersionTag  # MLflow's are not typed
_ModelTag: Any = RegisteredModelTag
_FEWEST, _MOST = 10**17, 9 * 10**17


def experiment_id(name: str) -> str:
    """The id that stands for the experiment of that name inside a run: digits, the same everywhere."""
    digest = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return str(_FEWEST + digest % _MOST)


def is_stand_in(experiment: str) -> bool:
    """Whether an experiment's id is one of ours; servers count from 0 or give random ids of other lengths."""
    return experiment.isdigit() and len(experiment) == len(str(_FEWEST))


def as_experiment(identity: str, name: str) -> Experiment:
    """The experiment of that name, as far as anybody can tell without the server."""
    return Experiment(identity, name, artifact_location="", lifecycle_stage=LifecycleStage.ACTIVE, tags=[])


def as_run(told: ToldRun, *, experiment: str, artifacts: str) -> Run:
    """The run as MLflow's clients see one."""
    info = RunInfo(
        run_id=told.id,
        experiment_id=experiment,
        user_id=_user(),
        status=told.status,
        start_time=told.started,
        end_time=told.ended,
        lifecycle_stage=LifecycleStage.DELETED if told.deleted else LifecycleStage.ACTIVE,
        artifact_uri=artifacts,
        run_name=told.name or told.id,
    )
    tags = {_RUN_NAME: info.run_name, **({_PARENT: told.parent} if told.parent else {}), **told.tags}
    data = RunData(
        metrics=[as_metric(point) for point in told.latest.values()],
        params=[Param(name, value) for name, value in told.params.items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )
    inputs = RunInputs([as_dataset(data) for data in told.datasets], [LoggedModelInput(one) for one in told.models_in])
    outputs = RunOutputs([LoggedModelOutput(model, step) for model, step in told.models_out])
    return Run(info, data, inputs, outputs)


def as_metric(point: Point, *, run_id: str | None = None) -> Metric:
    """The point as MLflow's metric."""
    linked = {"model_id": point.model_id, "dataset_name": point.dataset_name, "dataset_digest": point.dataset_digest}
    given = {name: value for name, value in linked.items() if value}
    return Metric(point.key, point.value, point.timestamp, point.step, run_id=run_id, **given)


def metric_values(metric: Metric, *, model_id: str | None) -> list[Any]:
    """The metric as it stands in a call's `metrics`: the fields of `Point`, in their order."""
    linked = (model_id or "", metric.dataset_name or "", metric.dataset_digest or "")
    return [metric.key, number(metric.value), metric.timestamp, metric.step, *linked]


def as_dataset(values: Mapping[str, Any]) -> DatasetInput:
    """The dataset input that `dataset_values` made."""
    names = ("name", "digest", "source_type", "source", "schema", "profile")
    tags = [InputTag(name, value) for name, value in values["tags"].items()]
    return DatasetInput(Dataset(**{name: values[name] for name in names}), tags)


def dataset_values(given: DatasetInput) -> dict[str, Any]:
    """A dataset input as JSON values."""
    tags = {tag.key: tag.value for tag in given.tags or ()}
    return {**dict(given.dataset), "tags": tags}


def as_model(told: ToldModel, *, experiment: str, artifacts: str) -> LoggedModel:
    """The model as MLflow's clients see one."""
    return LoggedModel(
        experiment_id=experiment,
        model_id=told.id,
        name=told.name,
        artifact_location=artifacts,
        creation_timestamp=told.created,
        last_updated_timestamp=told.updated,
        model_type=told.kind or None,
        source_run_id=told.run_id or None,
        status=LoggedModelStatus(told.status),
        tags=dict(told.tags),
        params=dict(told.params),
        metrics=[as_metric(point, run_id=run_id) for run_id, point in told.points],
    )


def as_version(told: ToldVersion) -> ModelVersion:
    """The version as MLflow's clients see one, under the number that stands for the server's."""
    return ModelVersion(
        name=told.name,
        version=told.version,
        creation_timestamp=told.created,
        last_updated_timestamp=told.created,
        description=told.description,
        current_stage="None",
        source=told.source,
        run_id=told.run_id or None,
        tags=[_VersionTag(name, value) for name, value in told.tags.items()],
        aliases=sorted(told.aliases),
        model_id=told.model_id or None,
    )


def as_registered_model(told: Mapping[str, Any], versions: Sequence[ToldVersion]) -> RegisteredModel:
    """The registered model as far as this run has made it."""
    tags = [_ModelTag(name, value) for name, value in told["tags"].items()]
    latest = [as_version(max(versions, key=lambda version: version.created))] if versions else []
    return RegisteredModel(told["name"], told["created"], told["created"], told["description"], latest, tags)


def as_files(names: Mapping[str, Mapping[str, Any]], folder: str) -> list[FileInfo]:
    """What lies directly under `folder` ("" for the root), folders first known by their files."""
    prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
    found: dict[str, FileInfo] = {}
    for name in sorted(names):
        if name.startswith(prefix):
            first, slash, _ = name.removeprefix(prefix).partition("/")
            size = None if slash else int(names[name]["size"])
            found[first] = FileInfo(prefix + first, is_dir=bool(slash), file_size=size)
    return list(found.values())


def texts(pairs: Iterable[Any] | None) -> dict[str, str]:
    """Names and values of MLflow's parameters or tags."""
    return {str(pair.key): str(pair.value) for pair in pairs or ()}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
