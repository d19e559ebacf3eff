"""MLflow inside a run: the variables that point it at the run's journal, and the runs that this process has a hold on.

Imports nothing of MLflow: whether user code does is not known yet.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from prism_mlflow.access.location import Location, locate, without_credentials
from prism_mlflow.inside import stores
from prism_mlflow.inside.addresses import OUTER, OUTER_REGISTRY, is_journal, journal_address
from prism_mlflow.inside.autolog import disable_autologging, enable_autologging
from prism_mlflow.inside.imported import choose_stores, forget_run, forget_stores, is_active, tell_loggers

if TYPE_CHECKING:
    from prism.runs.handle import Run

TRACKING = "MLFLOW_TRACKING_URI"
REGISTRY = "MLFLOW_REGISTRY_URI"
RUN = "MLFLOW_RUN_ID"
EXPERIMENT = "MLFLOW_EXPERIMENT_ID"
TELEMETRY = "MLFLOW_DISABLE_TELEMETRY"
_OURS = (TRACKING, REGISTRY, RUN, EXPERIMENT, TELEMETRY, OUTER, OUTER_REGISTRY)

_held: dict[Path, Run] = {}


def held_run(directory: Path) -> Run | None:
    """The run in that directory, when this process has a hold on it."""
    return _held.get(directory)


def enter(run: Run) -> Callable[[], None]:
    """Point MLflow at the run's journal, in this process and in what it starts; returns what undoes that."""
    _held[run.directory] = run
    before = {name: os.environ.get(name) for name in _OURS}
    address = journal_address(run.directory)
    outer = before[OUTER] if is_journal(before[TRACKING]) else before[TRACKING]
    if outer:
        os.environ[OUTER] = without_credentials(outer)
    os.environ[TRACKING] = address
    if not is_active(run.run_id):  # then MLflow's next `start_run` would take it for the same run again
        os.environ[RUN] = run.run_id
    os.environ[TELEMETRY] = "true"  # its thread and import hooks can block each other
    if (registry := before[REGISTRY]) and not is_journal(registry):
        os.environ[OUTER_REGISTRY] = without_credentials(registry)
    os.environ[REGISTRY] = address  # unset, MLflow looks for Spark at every call
    os.environ.pop(EXPERIMENT, None)  # of the run around this one, or of a server
    tell_loggers(address)
    forget_stores()
    _choose_stores()
    if run.config.ml.auto_log:
        enable_autologging()

    def leave() -> None:
        disable_autologging()
        forget_run(run.run_id, address)
        _held.pop(run.directory, None)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        tell_loggers(before[TRACKING])

    return leave


@functools.cache
def _choose_stores() -> None:
    choose_stores(_store_of)


def _store_of(kind: str, address: str) -> Callable[..., object] | None:
    """The journal's store for the address of an open run's own server, so that naming it changes nothing.

    For another server None: that is the user's own business, of which the run warns once.
    """
    if is_journal(address) or address.endswith(".invalid"):  # a name that is no server's, by its standard
        return None
    for run in reversed(_held.values()):
        if run.status == "RUNNING":
            own = {"tracking_uri": run.config.section("ml").get("tracking_uri")}  # credentials may be missing
            if _is_same(locate(run.project, settings=own), address):
                return stores.for_run(kind, journal_address(run.directory))
            _warn_once(run, without_credentials(address))
    return None


def _is_same(location: Location, address: str) -> bool:
    named = locate(Path.cwd(), settings={"tracking_uri": address})
    return without_credentials(named.uri) == without_credentials(location.uri).rstrip("/")


@functools.lru_cache(maxsize=64)
def _warn_once(run: Run, address: str) -> None:
    run.warn(f"MLflow was told to use {address}, which is not this run's: what is logged there is not in the run")
