"""Keeping what a run logs: a copy that later changes to the original do not reach."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import define, field

from prism.data.digest import sha256_of
from prism.errors import DataError

COPY_LIMIT = 1 << 30
"""Bytes above which a file is kept by reference (path and digest) where it cannot be reflinked."""

_FICLONE = 0x40049409  # linux/fs.h: share the extents of another file, copy on write


@define
class KeptFiles:
    """What one process of a run logs, under `files/` of the run directory.

    Each file gets a folder of its own, named after the process's journal and a count, so that the
    same name may be logged often and every state of it stays.
    """

    run: Path
    stem: str
    _pid: int = field(factory=os.getpid)
    _count: Iterator[int] = field(factory=lambda: itertools.count(1))

    def keep(self, source: Path, *, name: str) -> dict[str, Any]:
        """Keep a file as it is now; returns the content of its `file` record."""
        target = self._new(name)
        try:
            kept = keep_file(source, target)
        except OSError:
            shutil.rmtree(target.parent, ignore_errors=True)  # a part of a file is not what was logged
            raise
        return self._facts(kept, name, stored=target.relative_to(self.run).as_posix() if kept == target else "")

    def keep_text(self, text: str, *, name: str) -> dict[str, Any]:
        """Keep a text as a file of that name."""
        target = self._new(name)
        target.parent.mkdir(parents=True)
        target.write_text(text, encoding="utf-8", errors="backslashreplace")
        return self._facts(target, name, stored=target.relative_to(self.run).as_posix())

    def _new(self, name: str) -> Path:
        pid = os.getpid()
        stem = self.stem if pid == self._pid else f"{self.stem}-p{pid}"  # a fork counts on from the same number
        return self.run / "files" / f"{stem}-{next(self._count)}" / name

    def _facts(self, kept: Path, name: str, *, stored: str) -> dict[str, Any]:
        if stored:
            sync_file(kept)
        where = {"name": name, "stored": stored, "original": "" if stored else str(kept)}
        return {**where, "size": kept.stat().st_size, "sha256": sha256_of(kept)}


def keep_file(source: Path, target: Path, *, limit: int = COPY_LIMIT) -> Path:
    """Keep `source` at `target`; returns where the kept content is: `target`, or `source` itself.

    Reflinks where the file system can, copies up to `limit` bytes, and leaves larger files where
    they are.
    """
    if not source.is_file():
        raise DataError(f"{source} is not a file, so it cannot be logged")
    target.parent.mkdir(parents=True, exist_ok=True)
    if _reflink(source, target):
        return target
    if source.stat().st_size > limit:
        target.unlink(missing_ok=True)
        return source.absolute()
    shutil.copyfile(source, target)
    return target


def keep_folder(source: Path, target: Path) -> None:
    """Copy a folder's files to a new folder `target`, synced to disk, all of them or none."""
    if not source.is_dir():
        raise DataError(f"{source} is not a folder")
    try:
        for path in sorted(source.rglob("*")):
            if path.is_file():
                kept = target / path.relative_to(source)
                keep_file(path, kept, limit=1 << 62)
                sync_file(kept)
    except OSError:
        shutil.rmtree(target, ignore_errors=True)
        raise


def matching_files(folder: Path, pattern: str, *, without: Path) -> list[Path]:
    """The files that a glob pattern means inside `folder`, not those under `without`.

    A folder that matches means all its files; nothing outside `folder` is ever meant.
    """
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        return []
    found = (file for match in folder.glob(pattern) for file in (match.rglob("*") if match.is_dir() else (match,)))
    return sorted({file for file in found if file.is_file() and without not in file.parents})


def sync_file(path: Path) -> None:
    """Flush a file or folder entry to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reflink(source: Path, target: Path) -> bool:
    with source.open("rb") as reader, target.open("wb") as writer:
        try:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
        except OSError:
            return False
    return True
