"""A run as MLflow's stores inside it see it: the journal to write to, what it has been told, the server behind it."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from attrs import define, field
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_STATE, RESOURCE_DOES_NOT_EXIST, TEMPORARILY_UNAVAILABLE

from prism.errors import PrismError
from prism.runs.handle import Run
from prism.runs.inside import join_run, kept_files
from prism_mlflow.inside.addresses import artifact_address
from prism_mlflow.inside.entering import RUN, held_run
from prism_mlflow.inside.entities import experiment_id
from prism_mlflow.inside.server import Server
from prism_mlflow.inside.told import TRACKER, Told, ToldModel, ToldRun

F = TypeVar("F", bound=Callable[..., Any])

RUN_ID = "prism.run_id"
MODEL_ID = "prism.model_id"


@define
class Within:
    """One run, and everything about it that MLflow's calls need in this process."""

    run: Run
    told: Told = field(init=False)
    warned: set[str] = field(factory=set)
    _at_server: dict[str, str] = field(factory=dict)
    _kept: Any = None
    _server: Server | None = None

    def __attrs_post_init__(self) -> None:
        self.told = Told(self.run)
        self.told.experiments[self.experiment] = self.experiment_name

    @property
    def server(self) -> Server:
        """The server behind the run. Raises `MlflowException` where the configuration gives no access to it.

        Only who asks the server hears of that, as where it is away: nothing that is logged needs it.
        """
        if self._server is None:
            try:
                self._server = Server.of(self.run)
            except PrismError as error:
                raise MlflowException(str(error), error_code=TEMPORARILY_UNAVAILABLE) from error
        return self._server

    @property
    def experiment_name(self) -> str:
        return self.run.config.foundation.experiment_name or "Default"

    @property
    def experiment(self) -> str:
        """The id that stands for the run's experiment."""
        return experiment_id(self.experiment_name)

    def say(self, method: str, **arguments: Any) -> None:
        """Write a call to the journal."""
        self.run.say("call", {"tracker": TRACKER, "method": method, "arguments": arguments})

    def warn_once(self, topic: str, message: str) -> None:
        """Warn of a topic the first time only; not when the run has ended: nothing more can be said in it."""
        if topic not in self.warned and self.run.status == "RUNNING":
            self.warned.add(topic)
            self.run.warn(message)

    def find_run(self, run_id: str) -> ToldRun | None:
        """The run of ours with that id, Prism's own or a nested one; None for any other."""
        return self.told.poll().runs.get(run_id) if self.is_ours(run_id) else None

    def is_ours(self, run_id: str) -> bool:
        """Whether an id is this run's or of one nested in it: those begin with Prism's."""
        return run_id == self.run.run_id or run_id.startswith(f"{self.run.run_id}-")

    def find_model(self, model_id: str) -> ToldModel | None:
        """The model that this run has made under that id."""
        return self.told.poll().models.get(model_id)

    def artifacts_of(self, kind: str, owner: str) -> str:
        """The address of the artifacts of a run or model of ours."""
        return artifact_address(self.run.directory, kind, owner)

    def keep_file(self, path: Path, *, name: str, run: str = "", model: str = "") -> None:
        """Keep a file that is an artifact of something within the run, and say so."""
        self._kept = self._kept or kept_files(self.run)
        self.say("log_file", run=run, model=model, **self._kept.keep(path, name=name))

    def run_at_server(self, run_id: str) -> str:
        """The server's id of a run of ours; any other id as it is. Raises `MlflowException` where it is not there."""
        if not self.is_ours(run_id):
            return run_id
        if run_id == self.run.run_id and (known := self.told.recorded.id_at(TRACKER)):
            return known
        return self._search(run_id, "search_runs", RUN_ID, lambda found: str(found.info.run_id))

    def model_at_server(self, model_id: str) -> str:
        """The server's id of a model of ours; any other id as it is."""
        if self.find_model(model_id) is None:
            return model_id
        return self._search(model_id, "search_logged_models", MODEL_ID, lambda found: str(found.model_id))

    def experiment_at_server(self, identity: str) -> str:
        """The server's id of an experiment for which an id of ours stands; any other id as it is."""
        name = self.told.poll().experiments.get(identity)
        if name is None:
            return identity
        if identity not in self._at_server:
            found = None
            if not self.server.is_empty:
                found = self.server.ask("tracking", "get_experiment_by_name", name)
            if found is None:
                raise not_there(f"the experiment {name!r}")
            self._at_server[identity] = str(found.experiment_id)
        return self._at_server[identity]

    def stand_in(self, identity: str) -> str:
        """The id of ours that stands for the server's experiment, where it was asked for; else as it is."""
        return next((ours for ours, theirs in self._at_server.items() if theirs == identity), identity)

    def _search(self, ours: str, method: str, tag: str, id_of: Callable[[Any], str]) -> str:
        if ours not in self._at_server:
            experiment = self.experiment_at_server(self.experiment)
            query = f"tags.`{tag}` = '{ours}'"
            arguments = ([experiment], query, 1, 1) if method == "search_runs" else ([experiment], query)
            found = list(self.server.ask("tracking", method, *arguments))
            if not found:
                raise not_there(ours)
            self._at_server[ours] = id_of(found[0])
        return self._at_server[ours]


_withins: dict[Path, Within] = {}
_joining = threading.RLock()


def _joined(directory: Path) -> Run:
    """The run, joined in the middle of a call of MLflow: one that has just taken the run's id from its variable."""
    before = os.environ.get(RUN)
    run = join_run(directory)
    if before is None:
        os.environ.pop(RUN, None)
    return run


def _forget_parent() -> None:
    """After a fork: what another thread of the parent held stays held for ever in the child."""
    global _joining
    _withins.clear()
    _joining = threading.RLock()


os.register_at_fork(after_in_child=_forget_parent)


def within(directory: Path) -> Within:
    """The run in that directory, as this process sees it; a process without a hold on it joins it first."""
    run = held_run(directory)
    found = _withins.get(directory)
    if found is not None and (run is None or found.run is run):
        return found
    with _joining:
        run = held_run(directory) or _joined(directory)
        if directory not in _withins or _withins[directory].run is not run:
            _withins[directory] = Within(run)
        return _withins[directory]


def not_there(what: str) -> MlflowException:
    """The exception for something that the server does not have, or not yet."""
    return MlflowException(
        f"{what} is not at the server: not delivered yet, or never made", error_code=RESOURCE_DOES_NOT_EXIST
    )


def for_mlflow(method: F) -> F:
    """Let a method raise what callers of MLflow expect: `MlflowException`, not Prism's own errors."""

    @functools.wraps(method)
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            return method(*arguments, **named)
        except (PrismError, TypeError, OSError) as error:
            raise MlflowException(str(error), error_code=INVALID_STATE) from error

    return call  # type: ignore[return-value]
