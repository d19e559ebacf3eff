"""Content digests of files and folders: the manifest of a dataset, a model or a checkpoint.

The digest of a folder is sha256 over its manifest: one line of JSON `["path",size,"sha256"]` a
file, sorted by path, ASCII. It knows names and content and nothing else: no times, no owners.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from prism.errors import DataError
from prism.protocols import DatasetFile

T = TypeVar("T")
R = TypeVar("R")

_CHUNK = 1 << 20
_THREADS = min(16, 2 * (os.cpu_count() or 1))


def digest_files(path: Path, *, inside: Path | None = None, without: Collection[str] = ()) -> tuple[DatasetFile, ...]:
    """The files at `path`, sorted by path relative to it; a single file stands under its own name.

    Symbolic links are followed; with `inside`, one that leads out of that folder is refused.
    `without` names relative paths to leave out. Raises `DataError` when there is nothing, when
    something is no plain file, and when a file changes while it is read.
    """
    found = sorted(_walk(path, inside=inside, without=without))
    if len(found) < 2:
        return tuple(_digest_file(item) for item in found)
    # a few large tasks, not one per file: small files cost less than handing them to a thread
    share = max(1, -(-len(found) // (_THREADS * 4)))
    shares = [found[start : start + share] for start in range(0, len(found), share)]
    return tuple(file for done in _of_each(shares, _digest_share) for file in done)


def manifest_digest(files: Sequence[DatasetFile]) -> str:
    """The digest over the sorted manifest of `files`, as "sha256:<hex>"."""
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.path):
        digest.update(json.dumps([file.path, file.size, file.sha256], separators=(",", ":")).encode() + b"\n")
    return f"sha256:{digest.hexdigest()}"


def verify_files(path: Path, files: Sequence[DatasetFile], *, without: Collection[str] = ()) -> list[str]:
    """What differs between `path` and its manifest, one line a file; empty when it is whole and unchanged."""
    if not path.exists():
        return [f"{path}: missing"]
    if path.is_file():
        return _verify_single(path, files)
    expected = {file.path: file for file in files}
    present = dict(_walk(path, inside=None, without=without))
    problems = [f"{name}: missing" for name in sorted(expected.keys() - present.keys())]
    problems += [f"{name}: not in the manifest" for name in sorted(present.keys() - expected.keys())]
    shared = sorted(expected.keys() & present.keys())
    found = _of_each(shared, lambda name: _difference(present[name], expected[name]))
    return problems + [line for line in found if line]


def sha256_of(path: Path) -> str:
    """The sha256 of one file in hex."""
    return _digest_file((path.name, path)).sha256


def _of_each(items: Sequence[T], work: Callable[[T], R]) -> list[R]:
    """`work` of each, in threads; one after the other at the end of a process, where Python starts none any more."""
    try:
        threads = ThreadPoolExecutor(_THREADS)
        begun = [threads.submit(work, item) for item in items]
    except RuntimeError:
        return [work(item) for item in items]
    with threads:
        return [one.result() for one in begun]


def _verify_single(path: Path, files: Sequence[DatasetFile]) -> list[str]:
    if len(files) != 1:
        return [f"{path}: one file where the manifest has {len(files)}"]
    difference = _difference(path, files[0])
    return [difference] if difference else []


def _difference(path: Path, expected: DatasetFile) -> str:
    try:
        size = path.stat().st_size
    except FileNotFoundError:  # removed since it was listed
        return f"{expected.path}: missing"
    if size != expected.size:
        return f"{expected.path}: {size} bytes, expected {expected.size}"
    found = _digest_file((expected.path, path))
    return "" if found == expected else f"{expected.path}: content changed (sha256 {found.sha256[:12]}…)"


def _walk(path: Path, *, inside: Path | None, without: Collection[str]) -> Iterator[tuple[str, Path]]:
    """(relative path, path) of every file at `path`."""
    top = inside.resolve() if inside else None
    if path.is_dir():
        yield from _walk_folder(path, prefix="", top=top, without=without, above=(path.resolve(),))
    elif path.exists():
        _check_link(path, top)
        yield path.name, path
    else:
        raise DataError(f"{path}: there is no such file or folder")


def _walk_folder(
    folder: Path, *, prefix: str, top: Path | None, without: Collection[str], above: tuple[Path, ...]
) -> Iterator[tuple[str, Path]]:
    """The files below `folder`; `above` are the real paths from the top down to it, so that a loop is seen."""
    with os.scandir(folder) as listing:
        entries = list(listing)
    for entry in entries:
        name, path = prefix + entry.name, Path(entry.path)
        if name in without:
            continue
        if entry.is_symlink():
            _check_link(path, top)
        if not entry.is_dir():
            yield name, path
            continue
        real = path.resolve() if entry.is_symlink() else above[-1] / entry.name
        if real in above:
            raise DataError(f"{path}: a symbolic link to a folder that it lies in", hint="remove the link")
        yield from _walk_folder(path, prefix=f"{name}/", top=top, without=without, above=(*above, real))


def _check_link(path: Path, top: Path | None) -> None:
    if not path.exists():
        raise DataError(f"{path}: a symbolic link to nothing")
    if top is not None and not path.resolve().is_relative_to(top):
        raise DataError(f"{path}: a symbolic link that leaves {top}", hint="copy the data under the root")


def _digest_share(share: Sequence[tuple[str, Path]]) -> list[DatasetFile]:
    return [_digest_file(item) for item in share]


def _digest_file(item: tuple[str, Path]) -> DatasetFile:
    name, path = item
    digest = hashlib.sha256()
    size = 0
    # without O_NONBLOCK, opening a named pipe waits for ever
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise DataError(f"{path}: neither a file nor a folder")
        while chunk := os.read(descriptor, min(_CHUNK, before.st_size - size + 1)):
            digest.update(chunk)
            size += len(chunk)
            if size > before.st_size:
                break
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if size != before.st_size or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise DataError(f"{path}: changed while it was read", hint="let its writer finish first")
    return DatasetFile(path=name, size=size, sha256=digest.hexdigest())
