"""The plugin `yaml`: reads .yaml and .yml configuration files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prism.hookspecs import hookimpl

if TYPE_CHECKING:
    from prism.config.document import Node


@hookimpl
def prism_load_config(path: Path) -> Node | None:
    """The file's values with their positions, or None when it is not YAML by its name."""
    if path.suffix.lower() not in (".yaml", ".yml"):
        return None
    from prism.config.document import read_yaml  # ruamel costs more than all of `prism plugins list`

    return read_yaml(path)
