"""A project as every command finds it: its configuration, its plugins, and what the one builds of the other."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from attrs import frozen

from prism.config import Configuration, ConfigurationError, Launcher, Named, compose, load, locate_config, peek_plugins
from prism.config.credentials import CREDENTIAL_VARIABLES, TRACKING_VARIABLE
from prism.config.document import Node
from prism.plugins import Plugins

OUTER_VARIABLE = "PRISM_OUTER_TRACKING_URI"
JOURNAL_SCHEME = "prism-journal:"
"""What begins the address that stands in `TRACKING_VARIABLE` inside a run: no server, so a run that is begun from
within another one takes what stood there before, from `OUTER_VARIABLE`."""


@frozen
class Project:
    """A loaded configuration, and the plugins that it was loaded with."""

    config: Configuration
    plugins: Plugins
    overrides: tuple[str, ...] = ()

    def build(self, kind: str, named: Named | Launcher) -> Any:
        """What the configuration names for that role, built with its options.

        Raises `EnvironmentUnfit` when its plugin cannot load.
        """
        return self.plugins.build(kind, named.name, named.options)


def open_project(
    file: Path | None = None,
    *,
    start: Path | None = None,
    overrides: Sequence[str] = (),
    off: Collection[str] = (),
    environ: Mapping[str, str] = os.environ,
    folder: Path | None = None,
    option_type: Callable[[Plugins, str, str], type[Any] | None] = Plugins.option_type,
    adapt: Callable[[Node], Node] = lambda tree: tree,
) -> Project:
    """Load the plugins and the configuration `file`, else `sais_foundation.yaml` from `start` upwards.

    `folder` is the project's folder where that is not the file's; `option_type` says what a provider's options
    are; `adapt` makes of what a file says what it says today, for files that are older. Raises `UsageError`
    (`ConfigurationError` with every problem in it) and, for a plugin that is named and cannot load,
    `EnvironmentUnfit`.
    """
    path = locate_config(file, start=start or Path.cwd()).absolute()
    plugins = Plugins.load(off=off, environ=environ)

    def read(path: Path) -> Node:
        try:
            return adapt(plugins.load_config(path))
        except ConfigurationError as error:
            error.partial = error.partial and adapt(error.partial)
            raise

    switched_off, local = peek_plugins(path, read=read, environ=environ, overrides=overrides, project=folder)
    plugins.switch_off(switched_off)
    plugins.add_local(local)
    config = load(
        path,
        read=read,
        option_type=partial(option_type, plugins),
        environ=_with_tracking_uri(environ, compose(path, read=read, environ=environ, overrides=overrides).node),
        overrides=overrides,
        project=folder,
    )
    plugins.require_local()  # last: what is wrong with the configuration is told first, and all at once
    return Project(config, plugins, tuple(overrides))


def as_overrides(values: Mapping[str, Any]) -> tuple[str, ...]:
    """`KEY=VALUE` texts that set these values."""
    return tuple(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items())


def _with_tracking_uri(environ: Mapping[str, str], tree: Node) -> Mapping[str, str]:
    """The environment, with MLflow's own variables standing in where the configuration names no address or user."""
    stand_ins: dict[str, str] = {}
    address = environ.get(TRACKING_VARIABLE, "")
    if address.startswith(JOURNAL_SCHEME):
        address = environ.get(OUTER_VARIABLE, "")
    if address and _given(tree, "tracking_uri") is None:
        stand_ins["PRISM__ML__TRACKING_URI"] = _literal(address)
    username, password = (environ.get(name, "") for name in CREDENTIAL_VARIABLES)
    if username and password and _given(tree, "security") is None:
        stand_ins["PRISM__ML__SECURITY__ENABLED"] = "true"
        stand_ins["PRISM__ML__SECURITY__USERNAME"] = json.dumps(_literal(username))
        stand_ins["PRISM__ML__SECURITY__PASSWORD"] = password  # a secret is taken as it is
    return {**environ, **stand_ins} if stand_ins else environ


def _given(tree: Node, key: str) -> Any:
    """What the configuration itself says at `ml.<key>`, or None."""
    ml = tree.value.get("ml") if isinstance(tree.value, dict) else None
    named = ml.value.get(key) if ml is not None and isinstance(ml.value, dict) else None
    return None if named is None else named.value


def _literal(text: str) -> str:
    return text.replace("${", "$${")
