"""Calls of MLflow's library, brought from the journal to the server: each once, however often it is told.

What such a call makes carries a tag with our id for it (`prism.run_id`, `prism.model_id`, `prism.call`), which is
searched for first. Everything else sets what is then so, or is left out where it is so already.
"""

from __future__ import annotations

import posixpath
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import define, field
from mlflow.entities import LoggedModelInput, LoggedModelOutput, Metric, Param
from mlflow.exceptions import MlflowException

from prism.errors import WorkFailed
from prism.protocols import Record, TrackedRun
from prism_mlflow.access.connection import Connection
from prism_mlflow.batches import Entity, cut_batches
from prism_mlflow.inside.entities import as_dataset
from prism_mlflow.naming import MAX_PARAM, MAX_TAG, cut, own_tag, stored_name, stored_path, stored_tag, text
from prism_mlflow.projection import File
from prism_mlflow.replay_doubles import MODEL_ID, WITHIN, model_precedence, settle_models, settle_runs, settle_versions
from prism_mlflow.replay_versions import VERSIONS, ReplayedVersions
from prism_mlflow.runs import MADE, RUN_ID, run_tags, settle
from prism_mlflow.uploads import upload

CALLS = "prism.calls"
"""The tag of a run some of whose calls may have made something at the server."""

_PARENT = "mlflow.parentRunId"
_NON_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


@define
class Replay:
    """What of one run's calls is at the server: ours ids → the server's."""

    connection: Connection
    run: TrackedRun
    mlflow_id: str
    experiment_id: str
    runs: dict[str, str] = field(factory=dict)
    models: dict[str, str] = field(factory=dict)
    versions: ReplayedVersions = field(init=False)
    _waiting: dict[str, list[Entity]] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.runs[self.run.ref.run_id] = self.mlflow_id
        self.versions = ReplayedVersions(self)

    def bring(self, records: Iterable[Record]) -> None:
        """Make the calls, in the order of their times: processes of a run speak of each other's models and runs."""
        for record in sorted(records, key=lambda record: record.time):
            method, given = record.data["method"], record.data["arguments"]
            if method == "log_batch":
                self._waiting.setdefault(given["run"], []).extend(self._entities(given))
                continue
            self._flush()
            if (call := _CALLS.get(method)) is not None:
                call(self, given)
            elif method in VERSIONS:
                VERSIONS[method](self.versions, given, record)
        self._flush()

    def close(self, status: str, ended: int) -> None:
        """End the nested runs that nobody has ended, with the run around them; nothing is there twice afterwards."""
        within = self.run.ref.run_id
        with self.connection.reach("end the nested runs") as client:
            for run in settle_runs(client, self.experiment_id, within=within):
                if run.info.status == "RUNNING":
                    client.set_terminated(run.info.run_id, status=status, end_time=ended)
            settle_models(client, self.experiment_id, within=within)
            settle_versions(client, within=within)

    def find_run(self, ours: str) -> str:
        """The server's id of a run: of ours by its tag, any other as it is. Raises `WorkFailed` for one never made."""
        if not ours.startswith(self.run.ref.run_id):
            return ours
        if ours not in self.runs:
            with self.connection.reach(f"find the nested run {ours}") as client:
                found = settle(client, self.experiment_id, run_id=ours)
            if found is None:
                raise WorkFailed(f"the nested run {ours} was not made")
            self.runs[ours] = found.info.run_id
        return self.runs[ours]

    def find_model(self, ours: str) -> str:
        """The server's id of a LoggedModel: of ours by its tag, any other as it is."""
        if ours not in self.models:
            query = f"tags.`{MODEL_ID}` = '{ours}'"
            with self.connection.reach(f"find the model {ours}") as client:
                found = list(client.search_logged_models([self.experiment_id], query))
            # of two that were made all take the first
            self.models[ours] = min(found, key=model_precedence).model_id if found else ours
        return self.models[ours]

    def _entities(self, given: Mapping[str, Any]) -> list[Entity]:
        metrics = []
        for key, value, timestamp, step, model, dataset, digest in given["metrics"]:
            linked = {"dataset_name": dataset or None, "dataset_digest": digest or None}
            number = _NON_FINITE.get(value, value)
            model_id = self.find_model(model) if model else None
            metrics.append(Metric(stored_name(key), number, timestamp, step, model_id=model_id, **linked))
        params = [Param(stored_name(name), _param(value)) for name, value in given["params"].items()]
        return [*metrics, *params, *run_tags(_tags(given["tags"]))]

    def _flush(self) -> None:
        """Bring the points that wait, many at once."""
        while self._waiting:
            ours, entities = next(iter(self._waiting.items()))
            mlflow_id = self.find_run(ours)
            with self.connection.reach("take a nested run's points") as client:
                if any(isinstance(entity, Param) for entity in entities):
                    entities = _without_changed(entities, dict(client.get_run(mlflow_id).data.params))
                for batch in cut_batches(entities):
                    client.log_batch(mlflow_id, metrics=batch.metrics, params=batch.params, tags=batch.tags)
            del self._waiting[ours]

    def _create_run(self, given: Mapping[str, Any]) -> None:
        ours = given["run"]
        parent = self.find_run(given["parent"])
        with self.connection.reach(f"make the nested run {ours}") as client:
            found = settle(client, self.experiment_id, run_id=ours)
            if found is None:
                own = {RUN_ID: ours, WITHIN: self.run.ref.run_id, _PARENT: parent}
                tags = {**_tags(given["tags"]), **own}
                name = text(given["name"])[:250]
                with self.connection.making(f"the nested run {ours}"):
                    made = client.create_run(self.experiment_id, start_time=given["started"], tags=tags, run_name=name)
                found = settle(client, self.experiment_id, run_id=ours) or made
            if MADE not in found.data.tags:
                client.set_tag(found.info.run_id, MADE, str(time.time_ns()))
        self.runs[ours] = found.info.run_id

    def _update_run(self, given: Mapping[str, Any]) -> None:
        mlflow_id = self.find_run(given["run"])
        with self.connection.reach("change a nested run") as client:
            if given["status"] in ("FINISHED", "FAILED", "KILLED"):
                client.set_terminated(mlflow_id, status=given["status"], end_time=given["ended"])
            elif given["status"] or given["name"]:
                client.update_run(mlflow_id, status=given["status"])
            if given["name"]:
                client.update_run(mlflow_id, name=text(given["name"])[:250])
            if "untag" in given:
                _unless_gone(lambda: client.delete_tag(mlflow_id, stored_tag(given["untag"])))

    def _log_inputs(self, given: Mapping[str, Any]) -> None:
        mlflow_id = self.find_run(given["run"])
        models = [self.find_model(model) for model in given["models"]]
        datasets = [as_dataset(values) for values in given["datasets"]]
        with self.connection.reach("take a run's inputs") as client:
            inputs = client.get_run(mlflow_id).inputs
            known = {one.model_id for one in (inputs.model_inputs if inputs else ())}
            news = [LoggedModelInput(model) for model in models if model not in known]
            if datasets or news:
                client.log_inputs(mlflow_id, datasets=datasets, models=news or None)

    def _log_outputs(self, given: Mapping[str, Any]) -> None:
        mlflow_id = self.find_run(given["run"])
        models = [(self.find_model(model), step) for model, step in given["models"]]
        with self.connection.reach("take a run's outputs") as client:
            outputs = client.get_run(mlflow_id).outputs
            known = {(one.model_id, one.step) for one in (outputs.model_outputs if outputs else ())}
            if news := [LoggedModelOutput(*one) for one in models if one not in known]:
                client.log_outputs(mlflow_id, news)

    def _log_file(self, given: Mapping[str, Any]) -> None:
        path = self.run.ref.directory / given["stored"] if given["stored"] else Path(given["original"])
        file = File(stored_path(given["name"]), path, given["sha256"])
        if not given["model"]:
            mlflow_id = self.find_run(given["run"])
            if problem := upload(self.connection, mlflow_id, file):
                with self.connection.reach("note a file that is not there") as client:
                    client.set_tag(mlflow_id, own_tag("file", file.name), problem)
            return
        model_id = self.find_model(given["model"])
        with TemporaryDirectory(prefix="prism-") as temporary:
            if path.name == "MLmodel":
                path = self._with_server_ids(path, Path(temporary) / "with-server-ids")
            folder, base = posixpath.split(file.name)
            link = Path(temporary) / base  # MLflow names an artifact after the file it is given
            link.symlink_to(path.absolute())
            with self.connection.reach(f"take the model's file {file.name}") as client:
                client.log_model_artifact(model_id, str(link), folder or None)

    def _with_server_ids(self, path: Path, target: Path) -> Path:
        """MLflow's own description of a model, with the server's ids in the place of ours."""
        content = path.read_text(encoding="utf-8")
        for ours, theirs in sorted({**self.models, **self.runs}.items(), key=lambda pair: -len(pair[0])):
            content = content.replace(ours, theirs)
        target.write_text(content, encoding="utf-8")
        return target

    def _create_model(self, given: Mapping[str, Any]) -> None:
        ours = given["model"]
        if self.models.get(ours) == ours:  # it was not there when somebody looked, but the reply may have been lost
            del self.models[ours]
        if self.find_model(ours) != ours:
            return
        tags = {**_tags(given["tags"]), MODEL_ID: ours, WITHIN: self.run.ref.run_id}
        params = {stored_name(name): _param(value) for name, value in given["params"].items()}
        source = self.find_run(given["run"]) if given["run"] else None
        with self.connection.making(f"the model {given['name']}") as client:
            facts = {"name": given["name"], "source_run_id": source, "model_type": given["type"] or None}
            client.create_logged_model(self.experiment_id, **facts, tags=tags, params=params)
        del self.models[ours]
        self.find_model(ours)

    def _update_model(self, given: Mapping[str, Any]) -> None:
        model_id = self.find_model(given["model"])
        with self.connection.reach("change a model") as client:
            if given.get("tags"):
                client.set_logged_model_tags(model_id, _tags(self.versions.renumbered(given["tags"])))
            if given.get("params"):
                known = client.get_logged_model(model_id).params
                params = {stored_name(name): _param(value) for name, value in given["params"].items()}
                if news := {name: value for name, value in params.items() if name not in known}:
                    client.log_model_params(model_id, news)
            if "untag" in given:
                _unless_gone(lambda: client.delete_logged_model_tag(model_id, given["untag"]))
            if "status" in given:
                client.finalize_logged_model(model_id, given["status"])
            if given.get("deleted"):
                _unless_gone(lambda: client.delete_logged_model(model_id))

    def _set_experiment_tag(self, given: Mapping[str, Any]) -> None:
        with self.connection.reach("tag the experiment") as client:
            client.set_experiment_tag(self.experiment_id, given["key"], text(given["value"]))


def calls_in(records: Iterable[Record]) -> list[Record]:
    """The calls among the records that are MLflow's."""
    return [record for record in records if record.kind == "call" and record.data["tracker"] == "mlflow"]


def _without_changed(entities: Iterable[Entity], known: dict[str, str]) -> list[Entity]:
    """Parameters that MLflow has with another value become tags: it refuses a second value, and the batch with it."""
    found: list[Entity] = []
    for entity in entities:
        if isinstance(entity, Param) and known.setdefault(entity.key, entity.value) != entity.value:
            value = cut(entity.value, limit=MAX_TAG, whole="the journal")
            found += run_tags({own_tag("changed", entity.key): value})
        else:
            found.append(entity)
    return found


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {stored_tag(name): cut(text(value), limit=MAX_TAG, whole="the journal") for name, value in tags.items()}


def _param(value: str) -> str:
    return cut(text(value), limit=MAX_PARAM, whole="the journal")


def _unless_gone(take_away: Callable[[], Any]) -> None:
    """Take something away that may be away already."""
    try:
        take_away()
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


_CALLS: Mapping[str, Callable[[Replay, Mapping[str, Any]], None]] = {
    "create_run": Replay._create_run,
    "update_run": Replay._update_run,
    "log_inputs": Replay._log_inputs,
    "log_outputs": Replay._log_outputs,
    "log_file": Replay._log_file,
    "create_model": Replay._create_model,
    "update_model": Replay._update_model,
    "set_experiment_tag": Replay._set_experiment_tag,
}
