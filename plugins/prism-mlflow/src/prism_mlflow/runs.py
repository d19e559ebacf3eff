"""Finding a Prism run in MLflow, or making it there: never a second one."""

from __future__ import annotations

import getpass
import os

from mlflow.entities import Experiment, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from prism.errors import EnvironmentUnfit
from prism.protocols import TrackedRun
from prism_mlflow.connection import Connection
from prism_mlflow.location import Location
from prism_mlflow.naming import MAX_TAG, cut, text

RUN_ID = "prism.run_id"


def open_run(connection: Connection, run: TrackedRun) -> tuple[Run, bool]:
    """MLflow's run with our run's id in its tag, and whether it was made now.

    Raises `EnvironmentUnfit` when the experiment or the run was deleted in MLflow.
    """
    with connection.reach(f"open the run {run.ref.run_id}") as client:
        known = _known_run(client, run)
        if known is not None:
            return known, False
        experiment = _experiment(client, run, artifacts=connection.location.artifacts)
        found = _search(client, experiment, run_id=run.ref.run_id)
        return (found, False) if found is not None else (_create(client, experiment, run), True)


def run_url(location: Location, run: Run) -> str:
    """The run's page, "" where MLflow has no web server of which we know."""
    if not location.is_server:
        return ""
    return f"{location.uri}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"


def _known_run(client: MlflowClient, run: TrackedRun) -> Run | None:
    """The run by MLflow's own id, from an earlier opening; the id may be of another server."""
    mlflow_id = run.ref.trackers.get("mlflow", "")
    if not mlflow_id:
        return None
    try:
        found = client.get_run(mlflow_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return _alive(found) if found.data.tags.get(RUN_ID) == run.ref.run_id else None


def _experiment(client: MlflowClient, run: TrackedRun, *, artifacts: str) -> Experiment:
    name = run.experiment or "Default"
    found = client.get_experiment_by_name(name)
    if found is None:
        tags = {"mlflow.note.content": text(run.description)} if run.description else {}
        try:
            client.create_experiment(name, artifact_location=artifacts or None, tags=tags)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another run's process was quicker
                raise
        found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        number = found.experiment_id if found else ""
        raise EnvironmentUnfit(
            f"the experiment {name!r} was deleted in MLflow",
            hint=f"restore it (mlflow experiments restore -x {number}) or take another foundation.experiment_name",
        )
    return found


def _search(client: MlflowClient, experiment: Experiment, *, run_id: str) -> Run | None:
    query = f"tags.`{RUN_ID}` = '{run_id}'"
    found = list(client.search_runs([experiment.experiment_id], query, run_view_type=ViewType.ALL))
    # should two be there, everyone must take the same
    return _alive(min(found, key=lambda run: (run.info.start_time, run.info.run_id))) if found else None


def _alive(run: Run) -> Run:
    if run.info.lifecycle_stage != "active":
        raise EnvironmentUnfit(
            f"the run {run.data.tags.get(RUN_ID)} was deleted in MLflow (there: {run.info.run_id})",
            hint=f"restore it: mlflow runs restore --run-id {run.info.run_id}",
        )
    return run


def _create(client: MlflowClient, experiment: Experiment, run: TrackedRun) -> Run:
    tags = {
        RUN_ID: run.ref.run_id,
        "mlflow.user": _user(),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": text(run.project),
    }
    if run.description:
        whole = "the configuration's experiment_description"
        tags["mlflow.note.content"] = cut(text(run.description), limit=MAX_TAG, whole=whole)
    name = text(run.name)[:250] or run.ref.run_id
    return client.create_run(experiment.experiment_id, start_time=run.started, tags=tags, run_name=name)


def run_tags(values: dict[str, str]) -> list[RunTag]:
    """Tags as MLflow's batches take them."""
    return [RunTag(key, value) for key, value in values.items()]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
