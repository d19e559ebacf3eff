"""Installed entry points of one group, read one distribution at a time so that a damaged one cannot hide the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NoReturn

import importlib_metadata
from attrs import frozen


@frozen
class EntryPoint:
    """A name that a distribution offers. `load()` imports it and may raise anything at all."""

    name: str
    distribution: str
    version: str
    load: Callable[[], Any]


def entry_points(group: str) -> tuple[EntryPoint, ...]:
    """Every entry point of `group`, sorted by name and distribution; nothing is imported.

    A distribution found twice on `sys.path` counts once, the first time, as it does for imports.
    """
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for distribution in importlib_metadata.distributions():
        text = distribution.read_text("entry_points.txt") or ""
        if f"[{group}]" in text:  # most distributions have no entry point of ours: do not parse theirs
            points = tuple(_of_distribution(distribution, group))
            if points:
                found.setdefault(points[0].distribution, points)
    every = [point for points in found.values() for point in points]
    return tuple(sorted(every, key=lambda point: (point.name, point.distribution)))


def _of_distribution(distribution: importlib_metadata.Distribution, group: str) -> Iterator[EntryPoint]:
    name, version = _name_and_version(distribution)
    try:
        for entry in distribution.entry_points.select(group=group):
            yield EntryPoint(entry.name, name, version, entry.load)
    except Exception as error:
        damage = f"its entry_points.txt cannot be read: {type(error).__name__}: {error}"
        yield EntryPoint(name, name, version, partial(_refuse, damage))


def _name_and_version(distribution: importlib_metadata.Distribution) -> tuple[str, str]:
    """What METADATA says, read by its first lines: the full parser costs more than all else at start-up.

    A half-removed distribution without METADATA is named by its folder, its version is "".
    """
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    head = text.partition("\n\n")[0].splitlines()
    fields = dict(line.split(": ", 1) for line in head if ": " in line and not line.startswith(" "))
    return fields.get("Name", str(getattr(distribution, "_path", "unknown"))), fields.get("Version", "")


def _refuse(message: str) -> NoReturn:
    raise ImportError(message)
