"""Finding a dataset by its name in a list of root folders."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from prism.data.digest import verify_files
from prism.data.references import locate, parse_reference
from prism.data.versions import version_at
from prism.errors import DataError
from prism.protocols import DatasetVersion

_LOGGER = logging.getLogger(__name__)


def resolve_in(roots: Sequence[Path], reference: str) -> DatasetVersion:
    """The version that `reference` means now; its `uri` ends with "/" when it is a folder.

    Raises `DataError` when it is not there, empty, outside the roots, or has other content than the
    version asked for (the version, or the first digits of the digest).
    """
    wanted = parse_reference(reference)
    root, path = find(wanted.name, roots=roots)
    return version_at(path, wanted, inside=root)


def find(name: str, *, roots: Sequence[Path]) -> tuple[Path, Path]:
    """(root, path) of the dataset in the first root that has it; that a later one has it too is said."""
    places = [(root, path) for root in roots if (path := _look(name, root)) is not None]
    if not places:
        raise _not_found(name, roots)
    if len({path for _, path in places}) > 1:
        _LOGGER.warning(
            "dataset %r lies in %s; the first is used", name, " and in ".join(str(root) for root, _ in places)
        )
    return places[0]


def check_unchanged(path: Path, version: DatasetVersion) -> None:
    """Raises `DataError` when `path` does not hold exactly `version`."""
    problems = verify_files(path, version.files)
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise DataError(
            f"{path} is no longer {version.name}@{version.version}: {'; '.join(problems[:3])}{more}",
            hint="ask for the dataset by its name alone to take it as it is now",
        )


def _look(name: str, root: Path) -> Path | None:
    """The path under `root`, or None; a root that is not there is an error, not a dataset less."""
    try:
        if not root.is_dir():
            raise DataError(f"the data root {root} is not there", hint="is the file system mounted, the path right?")
        path = locate(name, root=root) if _may_hold(name, root) else None
        return path if path is not None and path.exists() else None
    except OSError as error:
        raise DataError(f"the data root {root} does not answer: {error.strerror or error}") from error


def _may_hold(name: str, root: Path) -> bool:
    """False for an absolute name of another root: it is looked up there, and refused if it is in none."""
    return not os.path.isabs(name) or Path(name).resolve().is_relative_to(root.resolve())


def _not_found(name: str, roots: Sequence[Path]) -> DataError:
    shown = ", ".join(str(root) for root in roots)
    if os.path.isabs(name) and not any(_may_hold(name, root) for root in roots):
        return DataError(f"{name!r} leaves the data roots ({shown})", hint="name its folder as a root")
    close = [match for root in roots for match in _close_names(name, root)]
    if close:
        return DataError(f"there is no dataset {name!r} in {shown}", hint=f"did you mean {', '.join(close[:3])}?")
    empty = [str(root) for root in roots if not any(root.iterdir())]
    hint = f"{', '.join(empty)} is empty: is the file system mounted?" if empty else "names are paths under a root"
    return DataError(f"there is no dataset {name!r} in {shown}", hint=hint)


def _close_names(name: str, root: Path) -> list[str]:
    folder = (root / name).parent
    if not folder.is_dir():
        return []
    with os.scandir(folder) as listing:
        names = [entry.name for entry in islice(listing, 2000)]
    close = difflib.get_close_matches(Path(name).name, names, n=3)
    return [str(Path(name).parent / match) for match in close]
