"""Keeping what a run logs: a copy that later changes to the original do not reach."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

from prism.errors import DataError

COPY_LIMIT = 1 << 30
"""Bytes above which a file is kept by reference (path and digest) where it cannot be reflinked."""

_FICLONE = 0x40049409  # linux/fs.h: share the extents of another file, copy on write


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
    """Copy a folder's files to a new folder `target`, synced to disk."""
    if not source.is_dir():
        raise DataError(f"{source} is not a folder")
    for path in sorted(source.rglob("*")):
        if path.is_file():
            kept = target / path.relative_to(source)
            keep_file(path, kept, limit=1 << 62)
            sync_file(kept)


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
