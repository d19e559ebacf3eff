"""The project that plain MLflow code runs in, if it runs in one: asked by MLflow's own plugin points."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from prism.config.finding import find_config

if TYPE_CHECKING:
    from prism_mlflow.plain.facts import ProjectFacts

_LOGGER = logging.getLogger(__name__)


def project_here() -> ProjectFacts | None:
    """What is known of the project around the current folder, None outside of one. Never raises.

    A configuration that is wrong is told once, in a warning; of its project only the folder and the code are known.
    """
    try:
        config = find_config(Path.cwd())
        if config is None:
            return None
        state = config.stat()
    except OSError:  # the current folder was deleted, or nobody may look
        return None
    return _facts(config, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _facts(config: Path, _modified: int, _size: int) -> ProjectFacts | None:
    # a configuration is read only where there is one: MLflow imports us for everybody
    try:
        from prism_mlflow.plain.facts import read_facts

        facts = read_facts(config)
    except Exception as error:  # the boundary to MLflow: nobody's plain MLflow code may fail because of a project
        _LOGGER.warning("the Prism project of %s cannot be read, so MLflow gets nothing of it: %s", config, error)
        return None
    if facts.problem:
        _LOGGER.warning("%s is wrong, so MLflow gets no experiment and no data from it: %s", config, facts.problem)
    return facts
