"""Checkpoints that are published whole or not at all, found by their manifest, verified by digest.

A checkpoint is `checkpoints/step-<n>-a<attempt>/`, written under its final name; the manifest
(names, sizes, sha256) is written last, and only then are older ones pruned. So at every instant
each folder with a manifest is whole, and one without is no checkpoint.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

from prism.data.digest import digest_files, manifest_digest, verify_files
from prism.errors import UsageError
from prism.protocols import DatasetFile, Ranks
from prism.runs.files import sync_file
from prism.writing import write_whole

MANIFEST = "manifest.json"
FORMAT = 1
_NAME = re.compile(r"step-(\d+)-a(\d+)")


@frozen
class Checkpoint:
    """A published checkpoint: its folder, optimizer step, attempt, and digest of all its files."""

    folder: Path
    step: int
    attempt: int
    digest: str
    files: tuple[DatasetFile, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(file.size for file in self.files)


@contextmanager
def write_checkpoint(folder: Path, *, step: int, attempt: int, ranks: Ranks) -> Iterator[Path]:
    """Give all ranks one empty folder to write to; publish it when all have left without an error."""
    target = folder / f"step-{step:08d}-a{attempt}"
    if ranks.rank == 0:
        if (target / MANIFEST).exists():
            raise UsageError(f"step {step} of attempt {attempt} has its checkpoint already: {target}")
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
    ranks.barrier()
    try:
        yield target
        ranks.barrier()
        if ranks.rank == 0:
            _publish(target, step=step, attempt=attempt)
    except BaseException:
        if ranks.rank == 0 and not (target / MANIFEST).exists():
            shutil.rmtree(target, ignore_errors=True)  # a part of one is no use, and the disk may be full
        raise
    ranks.barrier()


def prune_checkpoints(folder: Path, *, keep: int) -> list[Path]:
    """Delete all but the newest `keep` (at least 1) published checkpoints; returns what is gone."""
    gone = [checkpoint.folder for checkpoint in published_checkpoints(folder)[max(keep, 1) :]]
    for path in gone:
        (path / MANIFEST).unlink()  # first, so that a half-deleted folder is no checkpoint
        shutil.rmtree(path)
    return gone


def published_checkpoints(folder: Path) -> list[Checkpoint]:
    """All checkpoints with a manifest, newest first: by attempt, then by step. Not verified."""
    found = [_read(path) for path in folder.glob("step-*") if _NAME.fullmatch(path.name)]
    return sorted((c for c in found if c), key=lambda c: (c.attempt, c.step), reverse=True)


def latest_checkpoint(folder: Path, *, report: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint whose files all have their digests; `report` is told of each that has not."""
    for path in sorted(folder.glob("step-*")):
        if (path / MANIFEST).exists() and _read(path) is None:
            report(f"checkpoint {path.name} is damaged and passed over: its {MANIFEST} cannot be read")
    for checkpoint in published_checkpoints(folder):
        problems = verify_files(checkpoint.folder, checkpoint.files, without=(MANIFEST,))
        if not problems:
            return checkpoint
        report(f"checkpoint {checkpoint.folder.name} is damaged and passed over: {'; '.join(problems)}")
    return None


def foreign_checkpoint(path: Path) -> dict[str, Any]:
    """What is recorded of a checkpoint that is not Prism's own: where it is, its digest and its bytes."""
    files = digest_files(path)
    return {
        "folder": str(path.absolute()),
        "digest": manifest_digest(files),
        "size": sum(file.size for file in files),
    }


def _publish(target: Path, *, step: int, attempt: int) -> None:
    files = digest_files(target)
    for file in files:
        sync_file(target / file.path)
    manifest = {
        "format": FORMAT,
        "step": step,
        "attempt": attempt,
        "digest": manifest_digest(files),
        "files": [asdict(file) for file in files],
    }
    write_whole(target / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    sync_file(target)
    sync_file(target.parent)


def _read(folder: Path) -> Checkpoint | None:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = tuple(DatasetFile(**file) for file in manifest["files"])
        return Checkpoint(folder, manifest["step"], manifest["attempt"], manifest["digest"], files)
    except (OSError, ValueError, KeyError, TypeError):
        return None
