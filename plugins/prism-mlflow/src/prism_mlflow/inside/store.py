"""MLflow's tracking store inside a run: what is logged goes to the run's journal, at once and without the server."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from mlflow.entities import Experiment, Metric, Run, RunInfo, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.utils.async_logging.run_operations import RunOperations

from prism_mlflow.inside import coverage, searching
from prism_mlflow.inside.addresses import run_directory
from prism_mlflow.inside.asking import ask_server, falling_through
from prism_mlflow.inside.entering import EXPERIMENT, RUN
from prism_mlflow.inside.entities import (
    as_experiment,
    as_metric,
    as_run,
    dataset_values,
    experiment_id,
    is_stand_in,
    texts,
)
from prism_mlflow.inside.logged_models import LoggedModelCalls
from prism_mlflow.inside.points import log_batch, log_metric
from prism_mlflow.inside.within import Within, for_mlflow, within

PARENT = "mlflow.parentRunId"
RUN_NAME = "mlflow.runName"
_MODELS = "mlflow.log-model.history"
_OF_THE_LAUNCH = ("mlflow.user", "mlflow.source.name", "mlflow.source.type", RUN_NAME)
_UNCHOSEN = ("lightning_logs", "Default")  # names that stand there when nobody chose one


class JournalStore(LoggedModelCalls, AbstractStore):
    """See `prism_mlflow.inside.coverage` for what becomes of each method."""

    def __init__(self, address: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._directory = run_directory(address)

    @property
    def _within(self) -> Within:
        return within(self._directory)

    # ------------------------------------------------------------ runs

    @for_mlflow
    def create_run(self, experiment_id: str, user_id: str, start_time: int, tags: Any, run_name: str | None) -> Run:
        """The run that this is in, since one launch is one run; a run of its own when it is nested in another."""
        here, given = self._within, texts(tags)
        if PARENT not in given:
            if rest := {name: value for name, value in given.items() if name not in _OF_THE_LAUNCH}:
                here.run.set_tags(rest)
            _take_name(here, run_name or given.get(RUN_NAME))
            return self.get_run(here.run.run_id)
        identity = f"{here.run.run_id}-{secrets.token_hex(4)}"
        name = run_name or given.get(RUN_NAME) or identity
        started = start_time or int(time.time() * 1000)
        rest = {key: value for key, value in given.items() if key not in (PARENT, RUN_NAME)}
        here.say("create_run", run=identity, parent=given[PARENT], name=name, started=started, tags=rest)
        return self.get_run(identity)

    @for_mlflow
    def get_run(self, run_id: str) -> Run:
        here = self._within
        told = here.find_run(run_id)
        if told is None:
            return searching.as_seen_here(here, here.server.ask("tracking", "get_run", run_id))
        return as_run(told, experiment=_experiment_now(here), artifacts=here.artifacts_of("run", told.id))

    @for_mlflow
    def update_run_info(
        self, run_id: str, run_status: int | None, end_time: int | None, run_name: str | None
    ) -> RunInfo:
        """The status of a nested run; that of Prism's own is Prism's to say, whatever ends in MLflow's eyes."""
        here = self._within
        told = here.find_run(run_id)
        if told is None:
            given = (run_id, run_status, end_time, run_name)
            return ask_server(here, "update_run_info", *given)  # type: ignore[no-any-return]
        if told is not here.told.own:
            status = RunStatus.to_string(run_status) if run_status else None
            here.say("update_run", run=run_id, status=status, ended=end_time, name=run_name)
        elif here.run.status == "RUNNING":
            _take_name(here, run_name)
            if run_status and RunStatus.is_terminated(run_status):
                os.environ[RUN] = run_id  # MLflow deletes it when a run ends; what follows is of this run all the same
        return self.get_run(run_id).info

    @for_mlflow
    def get_metric_history(
        self, run_id: str, metric_key: str, max_results: int | None = None, page_token: str | None = None
    ) -> PagedList[Metric]:
        here = self._within
        if here.find_run(run_id) is None:
            return ask_server(here, "get_metric_history", run_id, metric_key, max_results, page_token)  # type: ignore[no-any-return]
        return PagedList([as_metric(point) for point in here.told.history(run_id, metric_key)], token=None)

    # ------------------------------------------------------------ what is logged

    @for_mlflow
    def log_metric(self, run_id: str, metric: Metric) -> None:
        log_metric(self._within, run_id, metric)

    @for_mlflow
    def log_batch(self, run_id: str, metrics: Sequence[Metric], params: Any, tags: Any) -> None:
        log_batch(self._within, run_id, metrics=metrics, params=texts(params), tags=texts(tags))

    def log_param(self, run_id: str, param: Any) -> None:
        self.log_batch(run_id, metrics=[], params=[param], tags=[])

    def set_tag(self, run_id: str, tag: Any) -> None:
        self.log_batch(run_id, metrics=[], params=[], tags=[tag])

    def log_batch_async(self, run_id: str, metrics: Sequence[Metric], params: Any, tags: Any) -> RunOperations:
        """Done when it returns: the journal is quicker than MLflow's queue, and loses nothing."""
        self.log_batch(run_id, metrics=metrics, params=params, tags=tags)
        return RunOperations([])  # type: ignore[no-untyped-call]

    def flush_async_logging(self) -> None:
        """Nothing waits."""

    def end_async_logging(self) -> None:
        """Nothing waits."""

    def shut_down_async_logging(self) -> None:
        """Nothing waits."""

    @for_mlflow
    def delete_tag(self, run_id: str, key: str) -> None:
        here = self._within
        if here.find_run(run_id) is None:
            ask_server(here, "delete_tag", run_id, key)
        else:
            here.say("update_run", run=run_id, status=None, ended=None, name=None, untag=key)

    @for_mlflow
    def log_inputs(self, run_id: str, datasets: Any = None, models: Any = None) -> None:
        here = self._within
        if here.find_run(run_id) is None:
            ask_server(here, "log_inputs", run_id, datasets, models)
            return
        found = [dataset_values(dataset) for dataset in datasets or ()]
        here.say("log_inputs", run=run_id, datasets=found, models=[model.model_id for model in models or ()])

    @for_mlflow
    def log_outputs(self, run_id: str, models: Any) -> None:
        here = self._within
        if here.find_run(run_id) is None:
            ask_server(here, "log_outputs", run_id, models)
        else:
            here.say("log_outputs", run=run_id, models=[[model.model_id, model.step] for model in models])

    @for_mlflow
    def record_logged_model(self, run_id: str, mlflow_model: Any) -> None:
        """Kept where MLflow itself keeps it: in a tag of the run that lists its models."""
        here = self._within
        before = json.loads(self.get_run(run_id).data.tags.get(_MODELS, "[]"))
        here_too = json.dumps([*before, mlflow_model.get_tags_dict()])
        log_batch(here, run_id, metrics=[], params={}, tags={_MODELS: here_too})

    # ------------------------------------------------------------ experiments

    @for_mlflow
    def get_experiment_by_name(self, experiment_name: str) -> Experiment:
        here, identity = self._within, experiment_id(experiment_name)
        if identity not in here.told.poll().experiments:
            here.say("name_experiment", id=identity, name=experiment_name)
        return as_experiment(identity, experiment_name)

    def create_experiment(self, name: str, artifact_location: str | None = None, tags: Any = None) -> str:
        """The id that stands for the experiment. Nothing is made: this run stays in its own."""
        return str(self.get_experiment_by_name(name).experiment_id)

    @for_mlflow
    def get_experiment(self, experiment_id: str) -> Experiment:
        here = self._within
        name = here.told.poll().experiments.get(str(experiment_id))
        if name is not None:
            return as_experiment(str(experiment_id), name)
        return here.server.ask("tracking", "get_experiment", experiment_id)  # type: ignore[no-any-return]

    @for_mlflow
    def set_experiment_tag(self, experiment_id: str, tag: Any) -> None:
        here = self._within
        if str(experiment_id) in here.told.poll().experiments:
            here.say("set_experiment_tag", key=tag.key, value=tag.value)
        else:
            ask_server(here, "set_experiment_tag", experiment_id, tag)

    # ------------------------------------------------------------ searches, traces, and all the rest

    @for_mlflow
    def _search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str | None,
        run_view_type: int,
        max_results: int,
        order_by: Sequence[str] | None,
        page_token: str | None,
    ) -> tuple[list[Run], str | None]:
        given = (filter_string, run_view_type, max_results, order_by, page_token)
        return searching.search_runs(self._within, experiment_ids, *given)

    def start_trace(self, trace_info: Any) -> Any:
        self._drop_trace()
        return trace_info

    def log_spans(self, location: str, spans: Any, tracking_uri: str | None = None) -> Any:
        self._drop_trace()
        return spans

    async def log_spans_async(self, location: str, spans: Any) -> Any:
        return self.log_spans(location, spans)

    def link_traces_to_run(self, trace_ids: Any, run_id: str) -> None:
        self._drop_trace()

    def _drop_trace(self) -> None:
        self._within.warn_once("traces", "MLflow's traces are not part of a Prism run: they are dropped")


def _take_name(here: Within, name: str | None) -> None:
    """Let MLflow name the run, unless it has a name."""
    if name and not here.told.poll().own.name:
        here.run.set_tags({RUN_NAME: name})


def _experiment_now(here: Within) -> str:
    """The experiment's id that answers give for this run: of the one that user code has set, whichever that is.

    MLflow's `start_run` refuses a run of another experiment than the one set. The run stays where the configuration
    says, which is said once.
    """
    given = os.environ.get(EXPERIMENT, "")
    if not is_stand_in(given) or given == here.experiment:
        return here.experiment
    name = here.told.poll().experiments.get(given, "")
    if name not in _UNCHOSEN:
        stays = f"MLflow's experiment {name!r} is not used: this run is in {here.experiment_name!r}"
        here.warn_once("experiment", f"{stays}, as foundation.experiment_name says")
    return given


def _refusing(method: str) -> Callable[..., Any]:
    def call(self: JournalStore, *arguments: Any, **named: Any) -> Any:
        here, target = self._within, str((*arguments, *named.values(), "")[0])
        about = here.is_ours(target) or target in here.told.poll().experiments
        if not about and method.endswith(("_run", "_experiment", "_experiment_tag")):
            return ask_server(here, method, *arguments, **named)
        raise MlflowException(f"{method}() {coverage.REFUSED[method]}", error_code=INVALID_PARAMETER_VALUE)

    call.__name__, call.__doc__ = method, coverage.REFUSED[method]
    return for_mlflow(call)


for _method in coverage.FALLING_THROUGH:
    setattr(JournalStore, _method, falling_through("tracking", _method))
for _method in coverage.REFUSED:
    setattr(JournalStore, _method, _refusing(_method))
