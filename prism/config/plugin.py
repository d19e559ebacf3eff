"""The plugin `yaml`: reads .yaml and .yml configuration files."""

from __future__ import annotations

from pathlib import Path

from prism.config.document import Node, read_yaml
from prism.hookspecs import hookimpl


@hookimpl
def prism_load_config(path: Path) -> Node | None:
    """The file's values with their positions, or None when it is not YAML by its name."""
    return read_yaml(path) if path.suffix.lower() in (".yaml", ".yml") else None
