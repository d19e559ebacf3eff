"""Every hook of Prism. A plugin is a module or object that answers some of them.

One hook is a question and the first answer wins; the others are censuses: each plugin says what it
has, and never does the work there. The configuration then picks by name, and only what was picked
is imported.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

from prism.providers import Provider

if TYPE_CHECKING:
    from prism.config.document import Node

hookspec = pluggy.HookspecMarker("prism")
hookimpl = pluggy.HookimplMarker("prism")


@hookspec(firstresult=True)
def prism_load_config(path: Path) -> Node | None:
    """Read a configuration file into values with their positions, or None if it is not your format."""


@hookspec
def prism_data_clients() -> Iterable[Provider]:
    """Data clients: what finds a dataset by its name and brings it here. Role `DataClient`."""
    return ()


@hookspec
def prism_trackers() -> Iterable[Provider]:
    """Trackers: where a run's journal is projected to. Role `Tracker`."""
    return ()


@hookspec
def prism_trainers() -> Iterable[Provider]:
    """Trainers: what turns a task and data into a model folder. Role `Trainer`."""
    return ()


@hookspec
def prism_evaluators() -> Iterable[Provider]:
    """Evaluators: what scores predictions against references. Role `Evaluator`."""
    return ()


@hookspec
def prism_predictors() -> Iterable[Provider]:
    """Predictors: what lets a model answer examples. Role `Predictor`."""
    return ()


@hookspec
def prism_launchers() -> Iterable[Provider]:
    """Launchers: what turns a job into argv and environment. Role `Launcher`."""
    return ()


@hookspec
def prism_model_registries() -> Iterable[Provider]:
    """Model registries: where a finished model becomes a named version. Role `ModelRegistry`."""
    return ()
