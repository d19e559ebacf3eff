"""Calls that fall through to the server: ids of this run become the server's, and no call waits for long."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from mlflow.store.model_registry.abstract_store import AbstractStore as RegistryStore
from mlflow.store.tracking.abstract_store import AbstractStore as TrackingStore

from prism_mlflow.inside.within import Within, for_mlflow

_STORES: Mapping[str, type] = {"tracking": TrackingStore, "registry": RegistryStore}
_TRANSLATIONS: Mapping[str, Callable[[Within, str], str]] = {
    "run_id": Within.run_at_server,
    "source_run_id": Within.run_at_server,
    "experiment_id": Within.experiment_at_server,
    "model_id": Within.model_at_server,
}
_PLURALS = {"run_ids": "run_id", "experiment_ids": "experiment_id"}


def ask_server(here: Within, method: str, *arguments: Any, kind: str = "tracking", **named: Any) -> Any:
    """The server's answer to a method of its store. Raises `MlflowException` when there is none in time."""
    positions, names = translated(here, kind, method, arguments, named)
    return here.server.ask(kind, method, *positions, **names)


def translated(
    here: Within, kind: str, method: str, arguments: tuple[Any, ...], named: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with the server's ids in place of those that only this run knows."""
    declared = getattr(_STORES[kind], method, None)
    if declared is None:
        names: list[str] = ["run_id"]  # of `delete_tag` and the like, which no class declares
    else:
        names = list(inspect.signature(declared).parameters)[1:]
    positions = tuple(
        _translate(here, names[index], value) if index < len(names) else value for index, value in enumerate(arguments)
    )
    return positions, {name: _translate(here, name, value) for name, value in named.items()}


def falling_through(kind: str, method: str) -> Callable[..., Any]:
    """A store's method that asks the server; `self` has the run as `_within`."""

    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        return ask_server(self._within, method, *arguments, kind=kind, **named)

    call.__name__ = method
    call.__doc__ = "Asked of the server, with a time-out."
    return for_mlflow(call)


def _translate(here: Within, name: str, value: Any) -> Any:
    if name in _PLURALS and isinstance(value, (list, tuple)):
        return [_translate(here, _PLURALS[name], each) for each in value]
    translate = _TRANSLATIONS.get(name)
    return translate(here, value) if translate and isinstance(value, str) and value else value
