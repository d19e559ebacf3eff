"""What a run's journal has been told through MLflow's calls so far: its MLflow runs, models and model versions.

Folded forward from the records, so that every process of the run gives the same answers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, field

from prism.protocols import Record
from prism.runs.handle import Run
from prism.runs.inside import RecordedRun, parse_number

TRACKER = "mlflow"


@define
class Point:
    """A metric's value as MLflow has it: when (ms), at which step, and of which model and dataset ("" for none)."""

    key: str
    value: float
    timestamp: int
    step: int
    model_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""


@define
class ToldRun:
    """An MLflow run within Prism's: Prism's own (`parent` ""), or a nested one that is the script's."""

    id: str
    parent: str = ""
    name: str = ""
    started: int = 0
    ended: int | None = None
    status: str = "RUNNING"
    deleted: bool = False
    params: dict[str, str] = field(factory=dict)
    tags: dict[str, str] = field(factory=dict)
    latest: dict[str, Point] = field(factory=dict)
    datasets: list[Mapping[str, Any]] = field(factory=list)
    models_in: list[str] = field(factory=list)
    models_out: list[tuple[str, int]] = field(factory=list)
    files: dict[str, Mapping[str, Any]] = field(factory=dict)

    def add_point(self, point: Point) -> None:
        """Keep the point if it is the key's latest: of the highest step, then of the latest time."""
        before = self.latest.get(point.key)
        if before is None or (point.step, point.timestamp) >= (before.step, before.timestamp):
            self.latest[point.key] = point


@define
class ToldModel:
    """A LoggedModel that this run has made."""

    id: str
    name: str = ""
    run_id: str = ""
    kind: str = ""
    status: str = "PENDING"
    created: int = 0
    updated: int = 0
    deleted: bool = False
    params: dict[str, str] = field(factory=dict)
    tags: dict[str, str] = field(factory=dict)
    points: list[tuple[str, Point]] = field(factory=list)
    files: dict[str, Mapping[str, Any]] = field(factory=dict)


@define
class ToldVersion:
    """A version of a registered model that this run has made; `version` is a number of ours until it is delivered."""

    name: str
    version: str
    source: str = ""
    run_id: str = ""
    model_id: str = ""
    description: str = ""
    created: int = 0
    tags: dict[str, str] = field(factory=dict)
    aliases: set[str] = field(factory=set)


@define
class Told:
    """Everything, by MLflow's ids; `poll` brings it up to date.

    `experiments` are names by the ids that were given out for them.
    """

    run: Run
    own: ToldRun = field(init=False)
    runs: dict[str, ToldRun] = field(factory=dict)
    models: dict[str, ToldModel] = field(factory=dict)
    versions: dict[tuple[str, str], ToldVersion] = field(factory=dict)
    registered: dict[str, Mapping[str, Any]] = field(factory=dict)
    experiments: dict[str, str] = field(factory=dict)
    recorded: RecordedRun = field(init=False)
    _lock: threading.Lock = field(factory=threading.Lock)

    def __attrs_post_init__(self) -> None:
        self.own = ToldRun(self.run.run_id)
        self.runs[self.run.run_id] = self.own
        self.recorded = RecordedRun(self.run)

    def poll(self) -> Told:
        """Fold in what has come since."""
        with self._lock:
            for record in self.recorded.news():
                self._fold(record)
        return self

    def history(self, run_id: str, key: str) -> list[Point]:
        """All points of a metric in the order in which they were said."""
        points: list[Point] = []
        for record in RecordedRun(self.run).news():
            if run_id == self.own.id:
                points += [_point(record, key)] if key in record.data.get("metrics", ()) else []
            elif record.kind == "call" and record.data["method"] == "log_batch":
                arguments = record.data["arguments"]
                if arguments["run"] == run_id:
                    points += [point for point in _points(arguments) if point.key == key]
        return points

    def _fold(self, record: Record) -> None:
        data = record.data
        if record.kind == "run":
            self.own.name = self.own.name or data["name"]
            self.own.started = self.own.started or record.time
        elif record.kind == "params":
            self.own.params.update({name: str(value) for name, value in data["params"].items()})
        elif record.kind == "tags":
            self.own.tags.update(data["tags"])
        elif record.kind == "metrics":
            for key in data["metrics"]:
                self.own.add_point(_point(record, key))
        elif record.kind == "file":
            self.own.files[data["name"]] = data
        elif record.kind == "call" and data["tracker"] == TRACKER and data["method"] in _FOLDS:
            _FOLDS[data["method"]](self, data["arguments"], record)


def _point(record: Record, key: str) -> Point:
    when = record.data.get("timestamp", record.time)
    return Point(key, parse_number(record.data["metrics"][key]), when, record.data["step"] or 0)


def _points(arguments: Mapping[str, Any]) -> list[Point]:
    return [Point(key, parse_number(value), *rest) for key, value, *rest in arguments["metrics"]]


def _run(told: Told, given: Mapping[str, Any]) -> ToldRun:
    # what another process says of a run may be read before the call that made it
    return told.runs.setdefault(given["run"], ToldRun(given["run"]))


def _model(told: Told, model_id: str) -> ToldModel:
    return told.models.setdefault(model_id, ToldModel(model_id))


def _version(told: Told, given: Mapping[str, Any]) -> ToldVersion:
    key = given["name"], given["version"]
    return told.versions.setdefault(key, ToldVersion(*key))


def _create_run(told: Told, given: Mapping[str, Any], record: Record) -> None:
    run = _run(told, given)
    run.parent, run.name, run.started = given["parent"], given["name"], given["started"]
    run.tags = {**given["tags"], **run.tags}


def _update_run(told: Told, given: Mapping[str, Any], record: Record) -> None:
    run = _run(told, given)
    run.status = given["status"] or run.status
    run.ended = given["ended"] if run.status != "RUNNING" else None
    run.name = given["name"] or run.name
    run.deleted = given.get("deleted", run.deleted)
    run.tags.pop(given.get("untag", ""), None)


def _log_batch(told: Told, given: Mapping[str, Any], record: Record) -> None:
    run = _run(told, given)
    for point in _points(given):
        run.add_point(point)
        if point.model_id:
            _model(told, point.model_id).points.append((run.id, point))
    for name, value in given["params"].items():
        run.params.setdefault(name, value)
    run.tags.update(given["tags"])


def _log_inputs(told: Told, given: Mapping[str, Any], record: Record) -> None:
    run = _run(told, given)
    run.datasets += [dataset for dataset in given["datasets"] if dataset not in run.datasets]
    run.models_in += [model for model in given["models"] if model not in run.models_in]


def _log_outputs(told: Told, given: Mapping[str, Any], record: Record) -> None:
    _run(told, given).models_out += [(model, step) for model, step in given["models"]]


def _log_file(told: Told, given: Mapping[str, Any], record: Record) -> None:
    owner = _model(told, given["model"]) if given["model"] else _run(told, given)
    owner.files[given["name"]] = given


def _create_model(told: Told, given: Mapping[str, Any], record: Record) -> None:
    model = _model(told, given["model"])
    model.name, model.run_id, model.kind = given["name"], given["run"], given["type"]
    model.created = model.updated = record.time
    model.params, model.tags = {**given["params"], **model.params}, {**given["tags"], **model.tags}


def _update_model(told: Told, given: Mapping[str, Any], record: Record) -> None:
    model = _model(told, given["model"])
    model.updated = record.time
    model.status = given.get("status", model.status)
    model.params.update(given.get("params", {}))
    model.tags.update(given.get("tags", {}))
    model.tags.pop(given.get("untag", ""), None)
    model.deleted = given.get("deleted", model.deleted)


def _create_registered_model(told: Told, given: Mapping[str, Any], record: Record) -> None:
    told.registered.setdefault(given["name"], {**given, "created": record.time})


def _create_version(told: Told, given: Mapping[str, Any], record: Record) -> None:
    version = _version(told, given)
    version.source, version.run_id, version.model_id = given["source"], given["run"], given["model"]
    version.description, version.created = given["description"], record.time
    version.tags = {**given["tags"], **version.tags}


def _update_version(told: Told, given: Mapping[str, Any], record: Record) -> None:
    version = _version(told, given)
    version.description = given.get("description", version.description)
    version.tags.update(given.get("tags", {}))
    version.tags.pop(given.get("untag", ""), None)
    if alias := given.get("alias"):
        for other in told.versions.values():
            if other.name == version.name:
                other.aliases.discard(alias)
        version.aliases.add(alias)
    if given.get("deleted", False):
        del told.versions[given["name"], given["version"]]


def _name_experiment(told: Told, given: Mapping[str, Any], record: Record) -> None:
    told.experiments[given["id"]] = given["name"]


_FOLDS: Mapping[str, Callable[[Told, Mapping[str, Any], Record], None]] = {
    "create_run": _create_run,
    "update_run": _update_run,
    "log_batch": _log_batch,
    "log_inputs": _log_inputs,
    "log_outputs": _log_outputs,
    "log_file": _log_file,
    "create_model": _create_model,
    "update_model": _update_model,
    "create_registered_model": _create_registered_model,
    "create_version": _create_version,
    "update_version": _update_version,
    "name_experiment": _name_experiment,
}
