"""Keeping what a run logs: a copy that later changes to the original do not reach."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from attrs import define, field, frozen

from prism.errors import DataError

COPY_LIMIT = 1 << 30
"""Bytes above which a file that cannot be reflinked is kept by a hard link, or else by reference."""

_FICLONE = 0x40049409  # linux/fs.h: share the extents of another file, copy on write
_CHUNK = 1 << 20
_LONGEST_PART = 255  # bytes of a file's name, on all file systems that matter
_LONGEST_NAME = 1024  # bytes of a path below its folder: 4096 is the limit for the whole


@frozen
class Kept:
    """A kept file: where its content is, how it is kept, and what it was then.

    `how` is "copy" (a reflink is one, too), "link" (a hard link: safe from deletion, but not from writing
    into the file) or "reference" (the original itself).
    """

    path: Path
    how: str
    size: int
    sha256: str


@frozen
class Contents:
    """What a folder holds: plain files, and other entries (pipes, sockets, links that lead nowhere)."""

    files: tuple[Path, ...]
    others: tuple[Path, ...]


@define
class KeptFiles:
    """What one process of a run logs, under `files/` of the run directory.

    Each file gets a folder of its own, named after the process's journal and a count, so that the
    same name may be logged often and every state of it stays.
    """

    run: Path
    stem: str
    limit: int = COPY_LIMIT
    _pid: int = field(factory=os.getpid)
    _count: Iterator[int] = field(factory=lambda: itertools.count(1))

    def keep(self, source: Path, *, name: str) -> dict[str, Any]:
        """Keep a file as it is now; returns the content of its `file` record."""
        target = self._new(name)
        try:
            return self._facts(keep_file(source, target, limit=self.limit), name, original=source)
        except (OSError, DataError):
            shutil.rmtree(self._folder_of(target), ignore_errors=True)  # a part of a file is not what was logged
            raise

    def keep_text(self, text: str, *, name: str) -> dict[str, Any]:
        """Keep a text as a file of that name."""
        target = self._new(name)
        content = text.encode(errors="backslashreplace")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            kept = Kept(target, "copy", len(content), hashlib.sha256(content).hexdigest())
            return self._facts(kept, name, original=target)
        except OSError:
            shutil.rmtree(self._folder_of(target), ignore_errors=True)
            raise

    def _new(self, name: str) -> Path:
        """A place of its own for a file. The number may be taken: by an earlier fork with the same pid."""
        pid = os.getpid()
        stem = self.stem if pid == self._pid else f"{self.stem}-p{pid}"  # a fork counts on from the same number
        while True:
            folder = self.run / "files" / f"{stem}-{next(self._count)}"
            with suppress(FileExistsError):
                folder.mkdir(parents=True)
                return folder / place_of(name)

    def _folder_of(self, target: Path) -> Path:
        return self.run / "files" / target.relative_to(self.run / "files").parts[0]

    def _facts(self, kept: Kept, name: str, *, original: Path) -> dict[str, Any]:
        if kept.how == "copy":
            sync_file(kept.path)
        stored = "" if kept.how == "reference" else kept.path.relative_to(self.run).as_posix()
        where = {"name": name, "stored": stored, "original": "" if kept.how == "copy" else str(original.absolute())}
        return {**where, "size": kept.size, "sha256": kept.sha256}


def keep_file(source: Path, target: Path, *, limit: int = COPY_LIMIT) -> Kept:
    """Keep `source` at `target`, by whatever protects it best.

    Reflinks where the file system can; copies up to `limit` bytes, as many as there were when it began, so that
    a file that grows meanwhile is kept as it was; keeps a larger one by a hard link; and leaves it where it is
    where that is not possible. Raises `DataError` for what is no file, `OSError` for one that cannot be read.
    """
    with _opened(source) as content:
        target.parent.mkdir(parents=True, exist_ok=True)
        if _reflink(content, target):
            return Kept(target, "copy", *measure(target))
        size = os.fstat(content.fileno()).st_size
        if size <= limit:
            return Kept(target, "copy", *_copy(content, target, size=size))
    target.unlink(missing_ok=True)
    if _hard_link(source, target):
        return Kept(target, "link", *measure(target))
    return Kept(source.absolute(), "reference", *measure(source))


def keep_folder(source: Path, target: Path) -> None:
    """Copy a folder's files to a new folder `target`, synced to disk, all of them or none."""
    if not source.is_dir():
        raise DataError(f"{source} is not a folder")
    try:
        for path in contents_of(source).files:
            kept = target / path.relative_to(source)
            keep_file(path, kept, limit=1 << 62)
            sync_file(kept)
    except OSError:
        shutil.rmtree(target, ignore_errors=True)
        raise


def contents_of(folder: Path) -> Contents:
    """Everything below `folder`, in order; links to folders are followed, but not in circles."""
    files: list[Path] = []
    others: list[Path] = []

    def visit(place: Path, above: tuple[tuple[int, int], ...]) -> None:
        status = place.stat()
        here = (status.st_dev, status.st_ino)
        if here in above:
            others.append(place)
            return
        for entry in sorted(place.iterdir()):
            if entry.is_dir():
                visit(entry, (*above, here))
            else:
                (files if entry.is_file() else others).append(entry)

    visit(folder, ())
    return Contents(tuple(files), tuple(others))


def log_folder(folder: Path, name: str, *, log: Callable[..., None], warn: Callable[[str], None]) -> None:
    """Let `log(path, name=…)` keep every file of a folder under the artifact path `name`; say what is none."""
    contents = contents_of(folder)
    for file in contents.files:
        try:
            log(file, name=f"{name}/{file.relative_to(folder).as_posix()}")
        except DataError as error:  # gone, or something else by now: the other files are kept all the same
            warn(f"of the folder {folder}: {error.message}")
    if contents.others:
        some = ", ".join(map(str, contents.others[:5]))
        warn(f"{len(contents.others)} entries of {folder} are no files and were not logged: {some}")


def matching_files(folder: Path, pattern: str, *, without: Path) -> list[Path]:
    """The files that a glob pattern means inside `folder`, not those under `without`.

    A folder that matches means all its files; nothing outside `folder` is ever meant.
    """
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        return []
    found = (file for match in folder.glob(pattern) for file in (match.rglob("*") if match.is_dir() else (match,)))
    return sorted({file for file in found if file.is_file() and without not in file.parents})


def place_of(name: str) -> str:
    """Where an artifact is kept below its folder: under its own name, where a file system takes that."""
    try:
        encoded = [os.fsencode(part) for part in name.split("/")]
    except UnicodeEncodeError:  # half of a character that stands for no byte
        return _short(name)
    if sum(map(len, encoded)) + len(encoded) > _LONGEST_NAME:
        return _short(name)
    return "/".join(
        part if len(raw) <= _LONGEST_PART else _short(part) for part, raw in zip(name.split("/"), encoded, strict=True)
    )


def measure(path: Path) -> tuple[int, str]:
    """Size in bytes and sha256 in hex of one reading of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def sync_file(path: Path) -> None:
    """Flush a file or folder entry to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _opened(source: Path) -> BinaryIO:
    """The file, open for reading: a pipe that nobody writes to must not hold up the run."""
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
            raise DataError(f"{source} is not a file, so it cannot be logged") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DataError(f"{source} is not a file, so it cannot be logged")
    return os.fdopen(descriptor, "rb", buffering=0)


def _copy(content: BinaryIO, target: Path, *, size: int) -> tuple[int, str]:
    """Copy `size` bytes (all, where a file of the kernel's says 0); size and sha256 of what was copied."""
    digest, copied = hashlib.sha256(), 0
    with target.open("wb", buffering=0) as copy:
        while chunk := content.read(min(_CHUNK, size - copied) if size else _CHUNK):
            digest.update(chunk)
            copied += len(chunk)
            rest = memoryview(chunk)
            while rest:
                rest = rest[copy.write(rest) :]
    return copied, digest.hexdigest()


def _hard_link(source: Path, target: Path) -> bool:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:  # another file system, or one that has none, or a file of somebody else's
        return False
    return True


def _reflink(content: BinaryIO, target: Path) -> bool:
    with target.open("wb") as copy:
        try:
            fcntl.ioctl(copy.fileno(), _FICLONE, content.fileno())
        except OSError:
            return False
    return True


def _short(part: str) -> str:
    """A name with a readable beginning and the digest of the whole, at most 120 bytes long."""
    raw = part.encode(errors="surrogatepass")
    stem, suffix = os.path.splitext(part.rpartition("/")[2])
    clean = stem.encode(errors="replace")[:60].decode(errors="ignore")
    ending = suffix if len(suffix) <= 12 and suffix.isascii() else ""
    return f"{clean}-{hashlib.sha256(raw).hexdigest()[:16]}{ending}"
