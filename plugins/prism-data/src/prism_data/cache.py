"""A cache of datasets by their digest, safe for many processes and hosts at once, without locks.

`<folder>/<digest>/files/…` holds the files and `<folder>/<digest>/manifest.json`, written last, says
what they are. Every file is copied under a name of its own and renamed over its place when its
content has been checked: whoever else does the same puts the same bytes there. Nothing is believed
because it is there: a copy is verified each time it is asked for, and what is damaged is replaced.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from prism.data.digest import verify_files
from prism.errors import DataError, EnvironmentUnfit
from prism.protocols import DatasetFile, DatasetVersion

_CHUNK = 1 << 20
_STALE_SECONDS = 86_400.0  # nobody copies one file for longer than a day

_LOGGER = logging.getLogger(__name__)


class Cache:
    """Whole, verified copies of datasets under `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fetch(self, version: DatasetVersion, *, source: Callable[[DatasetVersion], Path]) -> Path:
        """The cached file or folder; `source` is asked where the original lies when it is needed.

        Raises `DataError` when the original is not that version any more, `EnvironmentUnfit` when
        the cache cannot be written.
        """
        if not version.files:
            raise DataError(f"{version.name}@{version.version} comes without its files, so it cannot be verified")
        place = self._place(version)
        files = place / "files"
        problems = verify_files(files, version.files)
        if problems:
            if (place / "manifest.json").exists():
                _LOGGER.warning("the cached copy %s is damaged and is replaced: %s", files, "; ".join(problems[:3]))
            self._fill(place, version, source=source(version))
        elif not (place / "manifest.json").exists():
            self._publish(place, version)
        single = version.files[0].path if not version.uri.endswith("/") else ""
        return files / single

    def whole(self, version: DatasetVersion) -> bool:
        """Whether a whole, unchanged copy is here."""
        return not verify_files(self._place(version) / "files", version.files)

    def incoming(self) -> Path:
        """Where one process may write one file, for `adopt`; what killed processes left there is removed."""
        folder = self._folder / "incoming"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _remove_stale(folder)
        except OSError as error:
            raise unwritable(folder, error) from error
        return folder / unique_name()

    def adopt(self, copy: Path, version: DatasetVersion) -> None:
        """Take the file `copy` from `incoming`, checked by its writer, as the only file of `version`."""
        place = self._place(version)
        try:
            (place / "files").mkdir(parents=True, exist_ok=True)
            (place / "incoming").mkdir(exist_ok=True)
            with copy.open("rb") as stream:
                os.fsync(stream.fileno())
            copy.chmod(0o444)
            copy.replace(place / "files" / version.files[0].path)
            _remove_foreign(place / "files", version)
        except OSError as error:
            raise unwritable(place, error) from error
        self._publish(place, version)

    def _place(self, version: DatasetVersion) -> Path:
        return self._folder / version.digest.removeprefix("sha256:")

    def _fill(self, place: Path, version: DatasetVersion, *, source: Path) -> None:
        try:
            (place / "incoming").mkdir(parents=True, exist_ok=True)
            (place / "files").mkdir(exist_ok=True)
            _remove_stale(place / "incoming")
            # each process begins elsewhere, so that several share the work instead of all copying file 1
            folder = source.is_dir()
            start = random.randrange(len(version.files))
            for file in version.files[start:] + version.files[:start]:
                _bring(file, original=source / file.path if folder else source, place=place)
            _remove_foreign(place / "files", version)
        except OSError as error:
            raise unwritable(place, error) from error
        left = verify_files(place / "files", version.files)
        if left:
            raise DataError(f"{place}: the cached copy does not stay as it was written: {'; '.join(left[:3])}")
        self._publish(place, version)

    def _publish(self, place: Path, version: DatasetVersion) -> None:
        """Write the manifest, last: its presence says that the copy was whole once."""
        manifest = {
            "format": 1,
            "name": version.name,
            "uri": version.uri,
            "digest": version.digest,
            "files": [[file.path, file.size, file.sha256] for file in version.files],
        }
        incoming = place / "incoming" / unique_name()
        try:
            incoming.parent.mkdir(exist_ok=True)
            incoming.write_text(json.dumps(manifest))
            incoming.replace(place / "manifest.json")
        except OSError as error:
            raise unwritable(place, error) from error


def _bring(file: DatasetFile, *, original: Path, place: Path) -> None:
    """Put one file at its place, unless a whole one is there by now."""
    if PurePosixPath(file.path).is_absolute() or ".." in PurePosixPath(file.path).parts:
        raise DataError(f"{file.path!r} leaves the dataset that it is said to belong to")
    target = place / "files" / file.path
    if target.is_file() and not verify_files(target, [file]):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    incoming = place / "incoming" / unique_name()
    try:
        found = _copy(original, incoming)
        if found != (file.size, file.sha256):
            raise DataError(
                f"{original} is no longer what was asked for ({found[0]} bytes, sha256 {found[1][:12]}…)",
                hint="ask for the dataset by its name alone to take it as it is now",
            )
        incoming.chmod(0o444)  # a script that writes into the cache would spoil it for all
        incoming.replace(target)
    finally:
        incoming.unlink(missing_ok=True)


def _copy(original: Path, target: Path) -> tuple[int, str]:
    """Copy a file; its size and sha256 as it was read."""
    digest, size = hashlib.sha256(), 0
    with target.open("xb", buffering=0) as copy:
        for chunk in _chunks(original):
            digest.update(chunk)
            size += len(chunk)
            _write_all(copy.fileno(), chunk)
        os.fsync(copy.fileno())
    return size, digest.hexdigest()


def _chunks(original: Path) -> Iterator[bytes]:
    try:
        with original.open("rb", buffering=0) as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise DataError(f"{original}: cannot be read: {error.strerror or error}") from error


def _write_all(descriptor: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _remove_foreign(files: Path, version: DatasetVersion) -> None:
    known = {file.path for file in version.files}
    for path in files.rglob("*"):
        if not path.is_dir() and path.relative_to(files).as_posix() not in known:
            path.unlink(missing_ok=True)


def _remove_stale(incoming: Path) -> None:
    """Remove what killed processes left behind."""
    for path in incoming.iterdir():
        try:
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink(missing_ok=True)
        except FileNotFoundError:  # its owner has just finished
            continue


def unique_name() -> str:
    """A name that no other process has for a file, on any machine."""
    return f"{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex}"


def unwritable(place: Path, error: OSError) -> EnvironmentUnfit:
    """What is said of a cache that does not take what it is given."""
    return EnvironmentUnfit(
        f"the cache {place} cannot be written: {error.strerror or error}",
        hint="choose another folder, unified_data_access.client: {…, cache: …}; or, for mounted data, cached: false",
    )
