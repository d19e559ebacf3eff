"""Searches inside a run: the server's answer, with what this run has said since in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlflow.entities import LifecycleStage, LoggedModel, Run
from mlflow.exceptions import MlflowException
from mlflow.store.entities.paged_list import PagedList
from mlflow.utils.search_utils import SearchLoggedModelsUtils, SearchUtils

from prism_mlflow.inside.addresses import artifact_address
from prism_mlflow.inside.entities import as_model, as_run
from prism_mlflow.inside.within import MODEL_ID, RUN_ID, Within

_Filters: Any = SearchUtils  # MLflow's are not typed
_ModelFilters: Any = SearchLoggedModelsUtils


def search_runs(
    here: Within,
    experiment_ids: Sequence[str],
    filter_string: str | None,
    run_view_type: int,
    max_results: int,
    order_by: Sequence[str] | None,
    page_token: str | None,
) -> tuple[list[Run], str | None]:
    """As MLflow's `search_runs`: runs and the next page's token. Raises `MlflowException` when the server is away."""
    wanted = _translated(here, experiment_ids)
    arguments = (filter_string, run_view_type, max_results, order_by, page_token)
    found = here.server.ask("tracking", "search_runs", wanted, *arguments) if wanted else PagedList([], None)
    theirs = [as_seen_here(here, run) for run in found if not here.is_ours(run.data.tags.get(RUN_ID, ""))]
    if page_token is not None:  # ours were on the first page
        return theirs, found.token
    ours = _Filters.filter(_own_runs(here, experiment_ids, view=run_view_type), filter_string)
    return _Filters.sort([*ours, *theirs], order_by)[:max_results], found.token


def search_models(
    here: Within,
    experiment_ids: Sequence[str],
    filter_string: str | None,
    datasets: Sequence[dict[str, Any]] | None,
    max_results: int | None,
    order_by: Sequence[dict[str, Any]] | None,
    page_token: str | None,
) -> PagedList[LoggedModel]:
    """As MLflow's `search_logged_models`. This run's own models are found without the server."""
    models = [model_of(here, told.id) for told in here.told.poll().models.values() if not told.deleted]
    news = _ModelFilters.filter_logged_models(
        [model for model in models if model and model.experiment_id in experiment_ids], filter_string, datasets
    )
    try:
        wanted = _translated(here, experiment_ids)
        found: PagedList[LoggedModel] = PagedList([], None)
        if wanted:
            arguments = (filter_string, datasets, max_results, order_by, page_token)
            found = here.server.ask("tracking", "search_logged_models", wanted, *arguments)
    except MlflowException:
        if news and page_token is None:
            return PagedList(news, None)
        raise
    ours = {model.model_id for model in news}
    known = {told.id for told in here.told.models.values()}
    theirs = [model for model in found if model.tags.get(MODEL_ID) not in known]
    theirs = [_model_seen_here(here, model) for model in theirs]
    if page_token is None and ours:
        theirs = _ModelFilters.sort([*news, *theirs], order_by) if order_by else [*news, *theirs]
    return PagedList(theirs[: max_results or len(theirs)], found.token)


def model_of(here: Within, model_id: str) -> LoggedModel | None:
    """The model of ours with that id, as MLflow's clients see one."""
    told = here.find_model(model_id)
    if told is None or told.deleted:
        return None
    return as_model(told, experiment=here.experiment, artifacts=here.artifacts_of("model", told.id))


def as_seen_here(here: Within, run: Run) -> Run:
    """A run at the server, its artifacts at an address that works from inside a run."""
    artifacts = artifact_address(here.run.directory, "there", run.info.artifact_uri)
    run.info._artifact_uri = artifacts
    run.info._experiment_id = here.stand_in(run.info.experiment_id)
    return run


def _model_seen_here(here: Within, model: LoggedModel) -> LoggedModel:
    model.artifact_location = artifact_address(here.run.directory, "there", model.artifact_location)
    model.experiment_id = here.stand_in(model.experiment_id)
    return model


def _own_runs(here: Within, experiment_ids: Sequence[str], *, view: int) -> list[Run]:
    """This run and those nested in it, where the search is about their experiment."""
    if here.experiment not in experiment_ids:
        return []
    runs = [
        as_run(told, experiment=here.experiment, artifacts=here.artifacts_of("run", told.id))
        for told in here.told.poll().runs.values()
    ]
    stages = LifecycleStage.view_type_to_stages(view)
    return [run for run in runs if run.info.lifecycle_stage in stages]


def _translated(here: Within, experiment_ids: Sequence[str]) -> list[str]:
    """The server's ids; those of experiments that it does not have are left out."""
    found = []
    for identity in experiment_ids:
        try:
            found.append(here.experiment_at_server(identity))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    return found
