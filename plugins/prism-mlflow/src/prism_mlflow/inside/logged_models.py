"""LoggedModels inside a run: made in the journal under an id of ours, made at the server by delivery."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.store.entities.paged_list import PagedList

from prism_mlflow.inside.asking import ask_server
from prism_mlflow.inside.entities import texts
from prism_mlflow.inside.searching import model_of, search_models
from prism_mlflow.inside.within import Within, for_mlflow


class LoggedModelCalls:
    """The methods of the tracking store that are about LoggedModels."""

    @property
    def _within(self) -> Within:
        raise NotImplementedError

    @for_mlflow
    def create_logged_model(
        self,
        experiment_id: str,
        name: str | None = None,
        source_run_id: str | None = None,
        tags: Any = None,
        params: Any = None,
        model_type: str | None = None,
    ) -> LoggedModel:
        here, identity = self._within, f"m-{uuid.uuid4().hex}"
        source = source_run_id or here.run.run_id  # it is made in this run, whether MLflow has one active or not
        names = {"name": name or identity, "run": source, "type": model_type or ""}
        here.say("create_model", model=identity, **names, tags=texts(tags), params=texts(params))
        if not source_run_id:
            here.say("log_outputs", run=source, models=[[identity, 0]])
        return self.get_logged_model(identity)

    @for_mlflow
    def get_logged_model(self, model_id: str, allow_deleted: bool = False) -> LoggedModel:
        here = self._within
        own = model_of(here, model_id)
        return own if own is not None else ask_server(here, "get_logged_model", model_id, allow_deleted)

    @for_mlflow
    def finalize_logged_model(self, model_id: str, status: LoggedModelStatus) -> LoggedModel:
        if not self._tell(model_id, status=str(LoggedModelStatus(status))):
            return ask_server(self._within, "finalize_logged_model", model_id, status)  # type: ignore[no-any-return]
        return self.get_logged_model(model_id)

    @for_mlflow
    def set_logged_model_tags(self, model_id: str, tags: Any) -> None:
        if not self._tell(model_id, tags=texts(tags)):
            ask_server(self._within, "set_logged_model_tags", model_id, tags)

    @for_mlflow
    def delete_logged_model_tag(self, model_id: str, key: str) -> None:
        if not self._tell(model_id, untag=key):
            ask_server(self._within, "delete_logged_model_tag", model_id, key)

    @for_mlflow
    def log_logged_model_params(self, model_id: str, params: Any) -> None:
        if not self._tell(model_id, params=texts(params)):
            ask_server(self._within, "log_logged_model_params", model_id, params)

    @for_mlflow
    def delete_logged_model(self, model_id: str) -> None:
        if not self._tell(model_id, deleted=True):
            ask_server(self._within, "delete_logged_model", model_id)

    @for_mlflow
    def search_logged_models(
        self,
        experiment_ids: Sequence[str],
        filter_string: str | None = None,
        datasets: Sequence[dict[str, Any]] | None = None,
        max_results: int | None = None,
        order_by: Sequence[dict[str, Any]] | None = None,
        page_token: str | None = None,
    ) -> PagedList[LoggedModel]:
        given = (filter_string, datasets, max_results, order_by, page_token)
        return search_models(self._within, experiment_ids, *given)

    def _tell(self, model_id: str, **change: Any) -> bool:
        """Journal a change of a model of ours; False for any other model."""
        here = self._within
        if here.find_model(model_id) is None:
            return False
        here.say("update_model", model=model_id, **change)
        return True
