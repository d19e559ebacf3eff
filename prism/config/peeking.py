"""Looks into a configuration before it is structured: which plugins are off, and which are local files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from prism.config.layers import Read, compose
from prism.config.nodes import Node

_NOTHING: Mapping[str, str] = MappingProxyType({})


def peek_plugins(
    path: Path,
    *,
    read: Read,
    environ: Mapping[str, str] = _NOTHING,
    overrides: Sequence[str] = (),
    project: Path | None = None,
) -> tuple[tuple[str, ...], tuple[Path, ...]]:
    """The names in `plugins.off` and the paths in `plugins.local`, absolute against the project's folder.

    What does not fit is left out here: `load` reports it. Raises `ConfigurationError` when the file at `path`
    cannot be read at all.
    """
    tree = compose(path, read=read, environ=environ, overrides=overrides).node
    section = tree.value.get("plugins")
    folder = (project or path.parent).absolute()
    local = (folder / Path(text).expanduser() for text in _texts(section, "local"))
    return tuple(_texts(section, "off")), tuple(local)


def _texts(section: Node | None, key: str) -> Iterator[str]:
    entries = section.value.get(key) if section is not None and isinstance(section.value, dict) else None
    for entry in entries.value if entries is not None and isinstance(entries.value, list) else ():
        if isinstance(entry.value, str) and entry.value:
            yield entry.value
