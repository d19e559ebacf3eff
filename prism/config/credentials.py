"""The tracking server's credentials in the environment: taken out once the configuration has them.

What a run starts (loader processes, the user's own subprocesses) inherits the environment and needs none of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping

from prism.config.configuration import Configuration

TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
CREDENTIAL_VARIABLES = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
_NAME = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)")


def credential_variables(config: Configuration, environ: Mapping[str, str]) -> frozenset[str]:
    """The variables in `environ` from which `ml.security`, or an address with a password in it, got its values."""
    keys: list[str] = []
    names: set[str] = set()
    if config.ml.security.enabled:
        keys += ["ml.security.username", "ml.security.password"]
        names.update(CREDENTIAL_VARIABLES)
    uri = config.ml.tracking_uri or ""
    if config.redact(uri) != uri:
        keys.append("ml.tracking_uri")
        names.add(TRACKING_VARIABLE)
    nodes = [config.nodes[key] for key in keys if key in config.nodes]
    names.update(name for node in nodes for name in _NAME.findall(node.written))
    return frozenset(names & environ.keys())


def take_credentials(config: Configuration, environ: MutableMapping[str, str]) -> dict[str, str]:
    """Take these variables out of `environ`; what they held, for whoever puts them back."""
    return {name: environ.pop(name) for name in credential_variables(config, environ)}
