"""What people call a dataset (`name`, `name@version`), and where that lies under a root."""

from __future__ import annotations

import os
import re
from pathlib import Path

from attrs import frozen

from prism.errors import DataError

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+:-]*")


@frozen
class DatasetReference:
    """A dataset's name (a path relative to a root, with "/") and the version asked for ("" = the one there now)."""

    name: str
    version: str = ""

    def __str__(self) -> str:
        return f"{self.name}@{self.version}" if self.version else self.name


def parse_reference(text: str) -> DatasetReference:
    """Read `name` or `name@version`; the version stands after the last "@" and has no "/".

    Raises `DataError` for an empty name or version and for control characters.
    """
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise DataError(f"{text!r} is no name of a dataset: it holds a control character")
    name, at, version = text.rpartition("@")
    if not at or "/" in version:
        name, version = text, ""
    elif not _VERSION.fullmatch(version):
        raise DataError(f"{text!r} has no version after the '@'", hint="write name or name@version")
    if not name.strip():
        raise DataError(f"{text!r} names no dataset", hint="write name or name@version")
    return DatasetReference(name=name, version=version)


def locate(name: str, *, root: Path) -> Path:
    """The path that `name` means under `root`, whether or not there is anything.

    An absolute name is taken when it lies under the root. Raises `DataError` when the name leaves
    the root, by "..", as an absolute path or through a symbolic link.
    """
    top = root.resolve()
    wanted = (top / name).resolve()
    if wanted == top:
        raise DataError(f"{name!r} is the data root {root} itself, not a dataset in it")
    leaves = os.path.normpath(name).split(os.sep)[0] == ".."  # even if it comes back in by another name
    if leaves or not wanted.is_relative_to(top):
        raise DataError(
            f"{name!r} leaves the data root {root}: it means {wanted}",
            hint="put the data under the root, or name its folder in unified_data_access.client: {…, roots: […]}",
        )
    return wanted
