"""The project of a run that is there already, as the run had it, for whoever delivers or joins it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from prism.config import Configuration
from prism.errors import PrismError
from prism.journal.directory import RunDirectory
from prism.journal.state import RunState
from prism.plugins import OFF_VARIABLE
from prism.project import Project, as_overrides, open_project


def reopen_project(directory: RunDirectory, *, secrets: Mapping[str, Any]) -> Project:
    """The project from the run's own `config.yaml`, with the secrets that were left out there.

    Of this shell's environment nothing reaches the configuration: the run has taken what it named.
    """
    switched_off = {name: os.environ[name] for name in (OFF_VARIABLE,) if name in os.environ}
    overrides = as_overrides(secrets)
    return open_project(directory.config, folder=directory.project, overrides=overrides, environ=switched_off)


def reopen_with_secrets(state: RunState) -> Project:
    """The run's project, with the secrets of the project's configuration as it stands now."""
    current = _current_config(state)
    return reopen_project(state.directory, secrets=current.secrets() if current is not None else {})


def _current_config(state: RunState) -> Configuration | None:
    """The project's configuration as it stands now: the run's own copy has no secrets."""
    file = state.configuration.get("config_file", "")
    try:
        return open_project(state.directory.project / file).config
    except PrismError:
        return None  # then the server says that it wants a password
