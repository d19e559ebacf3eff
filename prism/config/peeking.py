"""Looks into a configuration before it is structured: which plugins are off, and which are local files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prism.config.nodes import Node


def peek_plugins(node: Node) -> tuple[tuple[str, ...], tuple[Path, ...]]:
    """The names in `plugins.off` and the paths in `plugins.local`, absolute against the file's folder.

    `node` is a file as it was read, or all layers of `compose`. What does not fit is left out here: `load` reports it.
    """
    section = node.value.get("plugins") if isinstance(node.value, dict) else None
    folder = Path(node.file).absolute().parent
    local = (folder / Path(text).expanduser() for text in _texts(section, "local"))
    return tuple(_texts(section, "off")), tuple(local)


def _texts(section: Node | None, key: str) -> Iterator[str]:
    entries = section.value.get(key) if section is not None and isinstance(section.value, dict) else None
    for entry in entries.value if entries is not None and isinstance(entries.value, list) else ():
        if isinstance(entry.value, str) and entry.value:
            yield entry.value
