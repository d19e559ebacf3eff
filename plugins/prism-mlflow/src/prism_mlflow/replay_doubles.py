"""Of what MLflow was asked for twice, one stays: a run's nested runs, LoggedModels and model versions, at its end.

A request whose reply did not come in time is made again, and may be carried out late all the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

from mlflow.entities import LoggedModel, Run
from mlflow.store.entities.paged_list import PagedList
from mlflow.tracking import MlflowClient

from prism_mlflow.runs import RUN_ID, settle
from prism_mlflow.versions import MlflowVersion, number

WITHIN = "prism.within"
"""The tag of everything that a run's calls have made: the id of the run."""
MODEL_ID = "prism.model_id"
CALL = "prism.call"

Found = TypeVar("Found")


def settle_runs(client: MlflowClient, experiment_id: str, *, within: str) -> list[Run]:
    """The nested runs of the run `within`, one for each of ours; further ones are deleted."""
    query = _query(within)
    found = _all(lambda token: client.search_runs([experiment_id], query, page_token=token))
    groups = _grouped(found, lambda run: run.data.tags[RUN_ID])
    stay = (settle(client, experiment_id, run_id=group[0].data.tags[RUN_ID]) for group in groups if len(group) > 1)
    return [group[0] for group in groups if len(group) == 1] + [run for run in stay if run]


def settle_models(client: MlflowClient, experiment_id: str, *, within: str) -> None:
    """Delete all but the first of the LoggedModels that stand for one of ours."""
    query = _query(within)
    found = _all(lambda token: client.search_logged_models([experiment_id], query, page_token=token))
    for group in _grouped(found, lambda model: model.tags[MODEL_ID]):
        for model in sorted(group, key=model_precedence)[1:]:
            client.delete_logged_model(model.model_id)


def settle_versions(client: MlflowClient, *, within: str) -> None:
    """Delete all but the first of the versions that stand for one of ours."""
    query = _query(within)
    found = _all(lambda token: client.search_model_versions(query, page_token=token))
    for group in _grouped(found, version_key):
        for version in sorted(group, key=number)[1:]:
            client.delete_model_version(version.name, str(version.version))


def model_precedence(model: LoggedModel) -> tuple[int, str]:
    """Of several models for one of ours all take the first by this."""
    return model.creation_timestamp, model.model_id


def version_key(version: MlflowVersion) -> tuple[str, str]:
    """Which version of ours it is: its model's name, and the number that stood for it."""
    return version.name, version.tags[CALL]


def _query(within: str) -> str:
    return f"tags.`{WITHIN}` = '{within}'"


def _all(search: Callable[[str | None], PagedList[Found]]) -> list[Found]:
    page = search(None)
    found = list(page)
    while page.token:
        page = search(page.token)
        found += page
    return found


def _grouped(found: Iterable[Found], key: Callable[[Found], Hashable]) -> list[list[Found]]:
    groups: dict[Hashable, list[Found]] = defaultdict(list)
    for one in found:
        groups[key(one)].append(one)
    return list(groups.values())
