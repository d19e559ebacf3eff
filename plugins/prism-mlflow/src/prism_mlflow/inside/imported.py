"""Modules that remember where MLflow is, told when that changes: at the beginning and at the end of a run.

Some are imported before the run begins, some later; imports nothing of MLflow itself.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import wrapt

_LOGGERS = ("lightning.pytorch.loggers.mlflow", "pytorch_lightning.loggers.mlflow")
_STORES = ("mlflow.tracking._tracking_service.registry", "mlflow.tracking._model_registry.registry")
_KINDS = {"mlflow.tracking_store": "tracking", "mlflow.model_registry_store": "registry"}

Builder = Callable[..., Any]


def tell_loggers(address: str | None) -> None:
    """Lightning's MLFlowLogger reads the variable once, when it is imported: as the default of `tracking_uri`."""
    for name in _LOGGERS:
        logger = getattr(sys.modules.get(name), "MLFlowLogger", None)
        if logger is not None:
            names = list(inspect.signature(logger.__init__).parameters)
            defaults = list(logger.__init__.__defaults__)
            defaults[names.index("tracking_uri") - len(names)] = address
            logger.__init__.__defaults__ = tuple(defaults)


def is_active(run_id: str) -> bool:
    """Whether the run is active in MLflow's own eyes, in this thread."""
    fluent: Any = sys.modules.get("mlflow.tracking.fluent")
    active = fluent.active_run() if fluent is not None else None
    return active is not None and bool(active.info.run_id == run_id)


def forget_run(run_id: str, address: str) -> None:
    """End the run `run_id` in MLflow's own eyes, where MLflow is imported, and let its variables speak again."""
    fluent: Any = sys.modules.get("mlflow.tracking.fluent")
    service: Any = sys.modules.get("mlflow.tracking._tracking_service.utils")
    if fluent is None or service is None:
        return
    while (active := fluent.active_run()) is not None and active.info.run_id.startswith(run_id):
        fluent.end_run()
    fluent._active_experiment_id = None
    if service._tracking_uri == address:
        service.set_tracking_uri(None)
    forget_stores()


def forget_stores() -> None:
    """Let MLflow make its stores anew, for addresses that mean something else from now on."""
    for name, kind in zip(_STORES, ("TrackingStoreRegistry", "ModelRegistryStoreRegistry"), strict=True):
        registry = getattr(sys.modules.get(name), kind, None)
        if registry is not None:
            registry._get_store_with_resolved_uri.cache_clear()


def choose_stores(choose: Callable[[str, str], Builder | None]) -> None:
    """Ask `choose(kind, address)` for a store's builder before MLflow's own rule, now or when MLflow is imported.

    `kind` is "tracking" or "registry". Once per process.
    """

    def wrap(module: Any) -> None:
        wrapt.wrap_function_wrapper(module, "StoreRegistry.get_store_builder", ask)

    def ask(rule: Callable[[str], Builder], registry: Any, arguments: Any, named: Any) -> Builder:
        address = str((arguments or list(named.values()))[0])
        kind = _KINDS.get(registry.group_name, "")
        return choose(kind, address) or rule(address)

    wrapt.register_post_import_hook(wrap, "mlflow.tracking.registry")
