"""Finding a Prism run in MLflow, or making it there; of two that were made, one stays.

MLflow makes a run each time it is asked to: when its reply is lost, or two processes ask at once, there
are two. Whoever made one looks again, and all agree on the one that has something in it, else on the
one made first; the others are deleted, with a tag that says which run stands for them.
"""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Mapping
from types import MappingProxyType

from mlflow.entities import Experiment, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from prism.errors import EnvironmentUnfit, Unreachable
from prism.protocols import TrackedRun
from prism_mlflow.access.connection import Connection
from prism_mlflow.access.location import Location
from prism_mlflow.naming import MAX_TAG, cut, text

RUN_ID = "prism.run_id"
MADE = "prism.made"
"""The tag that says when its maker had a run, in ns since the epoch; none: the reply was lost, so nobody uses it."""
_MOMENT = 1.0
_INSTEAD = "prism.superseded_by"


def open_run(
    connection: Connection, run: TrackedRun, *, tags: Mapping[str, str] = MappingProxyType({})
) -> tuple[Run, bool]:
    """MLflow's run with our run's id in its tag, and whether it was made now, with these `tags`.

    Raises `EnvironmentUnfit` when the experiment or the run was deleted in MLflow, `Unreachable` when a
    part of the run comes before the run itself is there.
    """
    with connection.reach(f"open the run {run.ref.run_id}") as client:
        known = _known_run(client, run)
        if known is not None:
            return known, False
        experiment = _experiment(client, run, artifacts=connection.location.artifacts)
        found = settle(client, experiment.experiment_id, run_id=run.ref.run_id)
        if found is not None:
            return found, False
        if run.part:
            shown = connection.location.shown
            raise Unreachable(f"the run {run.ref.run_id} is not in MLflow at {shown} yet: its first node makes it")
        with connection.making(f"the run {run.ref.run_id}"):
            made = _create(client, experiment, run, tags)
        client.set_tag(made.info.run_id, MADE, str(time.time_ns()))
        if len(_search(client, experiment.experiment_id, run_id=run.ref.run_id)) > 1:
            time.sleep(_MOMENT)  # whoever made another one just now has then said when
        stays = settle(client, experiment.experiment_id, run_id=run.ref.run_id) or made
        return stays, stays.info.run_id == made.info.run_id


def settle(client: MlflowClient, experiment_id: str, *, run_id: str, keep: str = "") -> Run | None:
    """The one run of the experiment with our run's id, None if there is none; further ones are deleted.

    `keep` is the MLflow id of one that surely stays. Raises `EnvironmentUnfit` when all were deleted by someone else.
    """
    found = _search(client, experiment_id, run_id=run_id)
    alive = sorted((run for run in found if run.info.lifecycle_stage == "active"), key=_precedence)
    if not alive:
        return _alive(found[0]) if found else None
    stays = next((run for run in alive if run.info.run_id == keep), alive[0])
    for run in alive:
        if run is not stays:
            _retire(client, run.info.run_id, instead=stays.info.run_id)
    return stays


def _retire(client: MlflowClient, mlflow_id: str, *, instead: str) -> None:
    try:
        client.set_tag(mlflow_id, _INSTEAD, instead)
        client.delete_tag(mlflow_id, RUN_ID)
        client.delete_run(mlflow_id)
    except MlflowException:  # unless another process was quicker
        if client.get_run(mlflow_id).info.lifecycle_stage == "active":
            raise


def replacement(client: MlflowClient, mlflow_id: str) -> str:
    """The MLflow id of the run that stands for this one, "" if it stands for itself."""
    return str(client.get_run(mlflow_id).data.tags.get(_INSTEAD, ""))


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


def _search(client: MlflowClient, experiment_id: str, *, run_id: str) -> list[Run]:
    query = f"tags.`{RUN_ID}` = '{run_id}'"
    return list(client.search_runs([experiment_id], query, run_view_type=ViewType.ALL))


def _precedence(run: Run) -> tuple[bool, bool, int, str]:
    is_empty = not (run.data.metrics or run.data.params)
    made = run.data.tags.get(MADE, "")
    return is_empty, not made.isdigit(), int(made) if made.isdigit() else 0, run.info.run_id


def _alive(run: Run) -> Run:
    if run.info.lifecycle_stage != "active":
        raise EnvironmentUnfit(
            f"the run {run.data.tags.get(RUN_ID)} was deleted in MLflow (there: {run.info.run_id})",
            hint=f"restore it: mlflow runs restore --run-id {run.info.run_id}",
        )
    return run


def _create(client: MlflowClient, experiment: Experiment, run: TrackedRun, given: Mapping[str, str]) -> Run:
    tags = {
        **given,
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
