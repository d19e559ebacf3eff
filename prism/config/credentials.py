"""The tracking server's credentials in the environment: taken out once the configuration has them.

What a run starts (loader processes, the user's own subprocesses) inherits the environment and needs none of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, MutableMapping
from pathlib import Path

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
    """Take these variables out of `environ`; what they held, for whoever puts them back.

    Of this process's own environment also out of the memory that `/proc/<pid>/environ` shows, of it and of its forks.
    """
    taken = {name: environ.pop(name) for name in credential_variables(config, environ)}
    if taken and environ is os.environ:
        _wipe(taken)
    return taken


def _wipe(names: Collection[str]) -> None:
    """Overwrite the values with which the process was started. Nothing points at them once the variables are unset."""
    import ctypes  # only a process that has such variables pays for it

    try:
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:  # no Linux: there is no such file for others to read either
        return
    start, end = int(fields[47]), int(fields[48])  # env_start and env_end, fields 50 and 51 of proc(5)
    position = start
    for entry in ctypes.string_at(start, end - start).split(b"\0") if start else ():
        name, equals, value = entry.partition(b"=")
        if equals and os.fsdecode(name) in names:
            ctypes.memset(position + len(name) + 1, ord("*"), len(value))
        position += len(entry) + 1
