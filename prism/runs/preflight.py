"""What can be known to fail before anything is started: plugins that cannot load, modules that are missing."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from prism.errors import EnvironmentUnfit
from prism.project import Project
from prism.providers import Provider

if TYPE_CHECKING:
    from prism.config import Configuration


def check_before_run(project: Project, *, target: str) -> None:
    """Raise `EnvironmentUnfit` when something that the run will need cannot be imported here."""
    missing = []
    for kind, name in needed(project.config, target=target):
        absent = absent_modules(project.plugins.find(kind, name))
        if absent:
            missing.append(lack_of(kind, name, absent))
    if missing:
        raise EnvironmentUnfit("\n".join(missing), hint="prism doctor says how to install it")


def absent_modules(provider: Provider) -> list[str]:
    """The modules that a provider needs and that are not installed here; nothing is imported."""
    modules = dict.fromkeys((provider.target.partition(":")[0].partition(".")[0], *provider.requires))
    return [module for module in modules if not _is_here(module)]


def _is_here(module: str) -> bool:
    try:
        return module in sys.modules or find_spec(module) is not None
    except ModuleNotFoundError:  # what the module is in is not here either
        return False


def lack_of(kind: str, name: str, absent: Sequence[str]) -> str:
    """What is said of a provider that lacks modules."""
    return f"the {kind.replace('_', ' ')} {name!r} needs {', '.join(absent)}, not installed here"


def needed(config: Configuration, *, target: str) -> Iterator[tuple[str, str]]:
    """Kind and name of every provider that a run of `config` needs; a `target` of the user's own is its trainer."""
    yield "launcher", config.launcher.name
    if not target:
        yield "trainer", config.trainer.name
    datasets = (config.data.train, config.data.validation, *config.unified_data_access.data_access.dataset_names)
    if config.unified_data_access.enabled and any((*datasets, *config.evaluation.data)):
        yield "data_client", config.unified_data_access.client.name
    if config.ml.enabled:
        for tracker in config.trackers:
            yield "tracker", tracker.name
    if config.evaluation.data:
        yield "predictor", config.evaluation.predictor.name
    evaluators = config.evaluation.evaluators if config.evaluation.data else ()
    scored = [one.evaluator for one in config.ml.custom_metrics if one.evaluator is not None]
    for name in dict.fromkeys(one.name for one in (*evaluators, *scored)):
        yield "evaluator", name
