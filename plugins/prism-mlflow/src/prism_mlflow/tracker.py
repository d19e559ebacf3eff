"""The tracker `mlflow`: a run's journal projected into an MLflow run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from mlflow.entities import Param
from mlflow.exceptions import MlflowException

from prism.errors import Unreachable
from prism.protocols import Record, TrackedRun, TrackerRun
from prism_mlflow.access.connection import Connection, is_gone
from prism_mlflow.batches import MAX_METRICS, Batch, Entity, cut_batches
from prism_mlflow.naming import MAX_PARAM, MAX_TAG, cut, own_tag
from prism_mlflow.options import TrackerOptions
from prism_mlflow.positions import position_in, position_tags
from prism_mlflow.projection import File, Projection, project, whole_file
from prism_mlflow.replay import CALLS, Replay, calls_in
from prism_mlflow.runs import open_run, replacement, run_tags, run_url, settle
from prism_mlflow.system import SystemMetrics
from prism_mlflow.uploads import NOTED_SIZE, put_text, sha256_of, upload

_FEWEST_POINTS = 50


class MlflowTracker:
    """A run in MLflow, fed through `MlflowClient` alone: no active run, nothing global.

    What was delivered up to which record is kept in the run's tags `prism.position…`, set with the
    last batch of a delivery, so that delivering the same records again changes nothing.
    """

    def __init__(self, options: TrackerOptions | None = None) -> None:
        self._options = options or TrackerOptions()
        self._connection: Connection | None = None
        self._run: TrackedRun | None = None
        self._experiment_id = ""
        self._mlflow_id = ""
        self._delivered: dict[str, int] = {}
        self._params: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self._wholes: dict[str, str] = {}
        self._configurations: set[str] = set()
        self._points = MAX_METRICS
        self._system: SystemMetrics | None = None
        self._replay: Replay | None = None

    def open(self, run: TrackedRun) -> TrackerRun:
        """Find MLflow's run by the tag `prism.run_id`, or make it; upload each attempt's resolved configuration.

        That of an attempt that begins later comes with its first records. A part of a run is never made, and
        brings no configuration. Raises `Unreachable`, and
        `EnvironmentUnfit` when experiment or run were deleted in MLflow.
        """
        connection = Connection.of(run.project, settings=run.settings, timeout=self._options.timeout)
        found, _ = open_run(connection, run)
        self._connection, self._run = connection, run
        self._mlflow_id, self._experiment_id = found.info.run_id, found.info.experiment_id
        self._params, self._tags = dict(found.data.params), dict(found.data.tags)
        self._delivered = position_in(self._tags, part=run.part)
        self._configurations.clear()
        self._bring_configurations()
        return TrackerRun(id=self._mlflow_id, url=run_url(connection.location, found))

    def position(self) -> Mapping[str, int]:
        """Journal file → number of its last record delivered, from the run's tags."""
        with self._opened.reach("read the position") as client:
            return position_in(client.get_run(self._mlflow_id).data.tags, part=self._part)

    def deliver(self, records: Sequence[Record], position: Mapping[str, int]) -> None:
        """Bring the records there, files first, and keep `position` with the last batch."""
        try:
            self._bring(records, position)
        except Unreachable as error:
            if not is_gone(error) or not self._move():
                raise
            self._bring(records, position)
        self._delivered = dict(position)

    def _bring(self, records: Sequence[Record], position: Mapping[str, int]) -> None:
        projection = project(records)
        self._bring_configurations()
        self._wholes = projection.params
        new = {name: value for name, value in projection.params.items() if name not in self._params}
        projection.own.update(self._changed(projection))
        for name, content in (projection.texts | _too_long("params", new, limit=MAX_PARAM)).items():
            put_text(self._opened, self._mlflow_id, content=content, name=name)
        for file in projection.files.values():
            projection.own.update(self._upload(file, noted_from=NOTED_SIZE))
        if projection.datasets:
            with self._opened.reach("take the datasets") as client:
                client.log_inputs(self._mlflow_id, datasets=projection.datasets)
        if calls := calls_in(records):
            self._replayed.bring(calls)
            projection.own[CALLS] = "true"
        for batch in cut_batches(self._entities(projection, position), points=self._points):
            self._send(batch)

    def close(self, status: str, ended: int) -> None:
        """Set the status, and the end in ms; RUNNING opens a run again (MLflow keeps its earlier end).

        A part of a run leaves the status alone.
        """
        if self._part:
            return
        self._bring_configurations()
        with self._opened.reach(f"set the status {status}") as client:
            if status == "RUNNING":
                client.update_run(self._mlflow_id, status=status)
            else:
                client.set_terminated(self._mlflow_id, status=status, end_time=ended)
            # a run that MLflow was asked for long ago, and made after we had asked again
            settle(client, self._experiment_id, run_id=self._tracked.ref.run_id, keep=self._mlflow_id)
        if CALLS in self._tags and status != "RUNNING":
            self._replayed.close(status, ended)

    def system_metrics(self) -> dict[str, float]:
        """What MLflow samples of this machine now: CPU, memory, disk, network, GPU if there is one."""
        if self._system is None:
            self._system = SystemMetrics()
        return self._system.sample()

    def _move(self) -> bool:
        """Go over to the run that was kept in place of ours, if it has all that ours was given."""
        with self._opened.reach("look for the run that was kept") as client:
            kept = replacement(client, self._mlflow_id)
            if not kept:
                return False
            data = client.get_run(kept).data
        theirs = position_in(data.tags, part=self._part)
        if any(theirs.get(file, 0) < number for file, number in self._delivered.items()):
            return False  # whoever opens it next begins where it is
        self._mlflow_id, self._params, self._tags = kept, dict(data.params), dict(data.tags)
        self._configurations.clear()
        return True

    @property
    def _opened(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("open() comes first")
        return self._connection

    @property
    def _tracked(self) -> TrackedRun:
        if self._run is None:
            raise RuntimeError("open() comes first")
        return self._run

    @property
    def _replayed(self) -> Replay:
        """What of the run's calls of MLflow's library is there; begun anew when the run is another one."""
        if self._replay is None or self._replay.mlflow_id != self._mlflow_id:
            self._replay = Replay(self._opened, self._tracked, self._mlflow_id, self._experiment_id)
        return self._replay

    @property
    def _part(self) -> str:
        return self._tracked.part

    def _entities(self, projection: Projection, position: Mapping[str, int]) -> Iterator[Entity]:
        """Everything for `log_batch`, the position last."""
        known = self._params
        given = projection.params.items()
        yield from (Param(name, _param(name, value)) for name, value in given if name not in known)
        yield from projection.metrics
        tags = projection.tags | projection.own | self._nonfinite(projection)
        yield from run_tags({name: value for name, value in tags.items() if self._tags.get(name) != value})
        yield from run_tags(position_tags(position, part=self._part))

    def _changed(self, projection: Projection) -> dict[str, str]:
        """Tags for parameters of which MLflow has another value already, or had: it refuses the second."""
        others = {
            name: value
            for name, value in projection.params.items()
            if self._params.get(name) not in (None, _param(name, value)) or own_tag("changed", name) in self._tags
        }
        return self._noted(others | projection.changed)

    def _noted(self, changed: Mapping[str, str]) -> dict[str, str]:
        """Tags with these values of parameters; what is too long for one is brought there whole, as an artifact."""
        for name, content in _too_long("changed", changed, limit=MAX_TAG).items():
            put_text(self._opened, self._mlflow_id, content=content, name=name)
        return {
            own_tag("changed", name): cut(value, limit=MAX_TAG, whole=whole_file("changed", name))
            for name, value in changed.items()
        }

    def _nonfinite(self, projection: Projection) -> dict[str, str]:
        """Tags that say which metrics were not finite, and from which step on: databases keep no infinity."""
        tags = {}
        for name, found in projection.nonfinite.items():
            key = own_tag("nonfinite", name)
            before = json.loads(self._tags.get(key, "{}"))
            first = {kind: min(step, before.get(kind, step)) for kind, step in found.items()}
            tags[key] = json.dumps(before | first, sort_keys=True)
        return tags

    def _send(self, batch: Batch) -> None:
        try:
            self._log(batch)
        except Unreachable:
            # perhaps the server is only too slow for so much at once
            self._points = max(_FEWEST_POINTS, self._points // 2)
            raise
        self._points = min(MAX_METRICS, self._points * 2)
        self._params.update((param.key, param.value) for param in batch.params)
        self._tags.update((tag.key, tag.value) for tag in batch.tags)

    def _log(self, batch: Batch) -> None:
        with self._opened.reach("take a batch") as client:
            try:
                client.store.log_batch(self._mlflow_id, batch.metrics, batch.params, batch.tags)
            except MlflowException as error:
                if "Changing param values is not allowed" not in str(error):
                    raise
                # someone else wrote a parameter since we opened the run: theirs stays, ours is told in a tag
                self._params = dict(client.get_run(self._mlflow_id).data.params)
                theirs = [
                    param.key for param in batch.params if self._params.get(param.key, param.value) != param.value
                ]
                tags = run_tags(self._noted({name: self._wholes[name] for name in theirs}))
                params = [param for param in batch.params if param.key not in self._params]
                client.log_batch(self._mlflow_id, metrics=batch.metrics, params=params)
                for tag in [*tags, *batch.tags]:
                    client.set_tag(self._mlflow_id, tag.key, tag.value)
                batch.params = params

    def _bring_configurations(self) -> None:
        """Upload the configurations that are in the run directory and were not there at the last look."""
        if self._part:
            return
        directory = self._tracked.ref.directory
        for path in (directory / "config.yaml", *sorted(directory.glob("config-a*.yaml"))):
            if path.name not in self._configurations and path.is_file():
                self._upload(File(path.name, path, sha256_of(path)), noted_from=0)
                self._configurations.add(path.name)

    def _upload(self, file: File, *, noted_from: int) -> dict[str, str]:
        """Upload unless noted as uploaded; the tags that say what became of it."""
        noted = own_tag("uploaded", file.name)
        if file.sha256 and self._tags.get(noted) == file.sha256:
            return {}
        problem = upload(self._opened, self._mlflow_id, file)
        if problem:
            return {own_tag("file", file.name): problem}
        if not file.sha256 or file.path.stat().st_size < noted_from:
            return {}
        with self._opened.reach("note the upload") as client:
            client.set_tag(self._mlflow_id, noted, file.sha256)
        self._tags[noted] = file.sha256
        return {}


def _param(name: str, value: str) -> str:
    """The parameter's value as MLflow takes it."""
    return cut(value, limit=MAX_PARAM, whole=whole_file("params", name))


def _too_long(folder: str, values: Mapping[str, str], *, limit: int) -> dict[str, str]:
    """Artifact → content, for the values that are cut."""
    return {whole_file(folder, name): value for name, value in values.items() if len(value) > limit}
