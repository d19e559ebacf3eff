"""The run directory: where everything of one run lies, `artifacts/runs/<run id>/` under the project."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from attrs import frozen

from prism.errors import EnvironmentUnfit, UsageError
from prism.journal.identity import ProcessIdentity
from prism.writing import write_whole

FORMAT = 1
LEAST_ROOM = 1 << 20
"""Bytes that a disk must have free for a run to begin on it."""


@frozen
class JournalName:
    """What a journal file's name says: the attempt and rank whose process wrote it, and nothing else's.

    `a2-rank0` is a worker, `a2-rank0-p71` a child or a further process of it, `a2-rank0-p71-p74` a child
    of that, or what it began next. Other names (`a2-launch`, `eval-…`, `node-…`) have no rank, and attempt
    `LATER` where they have none.
    """

    attempt: int
    rank: int | None
    is_worker: bool


LATER = 1 << 30
_JOURNAL_NAME = re.compile(r"a(\d+)-(?:rank(\d+)((?:-p\d+)+)?|launch.*)")


@lru_cache(maxsize=4096)  # asked for every record
def parse_journal_name(stem: str) -> JournalName:
    match = _JOURNAL_NAME.fullmatch(stem)
    if match is None:
        return JournalName(LATER, None, False)
    rank = None if match[2] is None else int(match[2])
    return JournalName(int(match[1]), rank, rank is not None and match[3] is None)


@frozen
class RunDirectory:
    """The paths inside one run directory; makes nothing by itself."""

    path: Path

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def project(self) -> Path:
        return self.path.parents[2]

    @property
    def summary(self) -> Path:
        """A cache of identity, attempts and status, derived from the journal."""
        return self.path / "run.json"

    def config_of(self, attempt: int) -> Path:
        """The resolved configuration of an attempt; a later one stands beside the first."""
        return self.path / ("config.yaml" if attempt == 1 else f"config-a{attempt}.yaml")

    def provenance_of(self, attempt: int) -> Path:
        return self.path / ("provenance.json" if attempt == 1 else f"provenance-a{attempt}.json")

    @property
    def config(self) -> Path:
        """The resolved configuration of the latest attempt."""
        later = self.path.glob("config-a*.yaml")
        return max(later, key=lambda path: int(path.stem.removeprefix("config-a")), default=self.config_of(1))

    @property
    def datasets(self) -> Path:
        return self.path / "data.json"

    @property
    def journal(self) -> Path:
        return self.path / "journal"

    @property
    def delivery(self) -> Path:
        return self.path / "delivery"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def files(self) -> Path:
        return self.path / "files"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation"

    @property
    def scratch(self) -> Path:
        """Work in progress of the running attempt, removed when it has succeeded."""
        return self.path / "scratch"

    def journal_files(self) -> list[Path]:
        """The journal's files: those of attempts in the attempts' order, then all others by name."""
        files, _ = _entries(self.journal)
        return sorted(files, key=lambda path: (parse_journal_name(path.stem).attempt, path.stem))

    def delivery_files(self) -> list[Path]:
        """What the deliverers wrote, oldest first."""
        files, _ = _entries(self.delivery)
        return sorted(path for path in files if path.stem.isdecimal())

    def strange_entries(self) -> list[Path]:
        """What is called like a file of records and is none: a folder, a pipe."""
        return [path for folder in (self.journal, self.delivery) for path in _entries(folder)[1]]


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """What is called `….jsonl` in a folder: the files, and whatever else it may be."""
    found: tuple[list[Path], list[Path]] = [], []
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".jsonl"):
                found[not entry.is_file()].append(folder / entry.name)
    return found


def runs_folder(project: Path) -> Path:
    return project / "artifacts" / "runs"


def create_run_directory(project: Path, run_id: str) -> RunDirectory:
    """Make the directory of a new run. Raises `EnvironmentUnfit` when it is there, or the disk does not allow it."""
    directory = RunDirectory(runs_folder(project).absolute() / run_id)
    try:
        _check_room(project)
        directory.path.mkdir(parents=True)
        for folder in (directory.journal, directory.delivery, directory.logs):
            folder.mkdir()
        begun_by = ProcessIdentity.mine().dump()  # all that is known of a run that dies before its first record
        write_whole(directory.summary, json.dumps({"format": FORMAT, "run_id": run_id, "begun_by": begun_by}) + "\n")
    except FileExistsError as error:  # of another run, which stays
        raise EnvironmentUnfit(
            f"{directory.path} is there already", hint="each run has a directory of its own"
        ) from error
    except OSError as error:
        remove_run_directory(directory)
        raise EnvironmentUnfit(
            f"cannot make the run directory {directory.path}: {error.strerror}",
            hint="make room or choose a project folder on another file system; nothing was started",
        ) from error
    return directory


def list_runs(project: Path) -> Iterator[RunDirectory]:
    """The runs of a project, newest first."""
    folder = runs_folder(project)
    if folder.is_dir():
        for path in sorted(folder.iterdir(), reverse=True):
            if not path.name.startswith(".") and (path / "run.json").is_file():
                yield RunDirectory(path)


def find_run(project: Path, prefix: str) -> RunDirectory:
    """The run whose id is, or uniquely begins with, `prefix`. Raises `UsageError`."""
    matches = [run for run in list_runs(project) if run.run_id.startswith(prefix)] if prefix else []
    exact = [run for run in matches if run.run_id == prefix]
    if len(exact or matches) == 1:
        return (exact or matches)[0]
    if matches:
        raise UsageError(
            f"{prefix!r} begins the ids of {len(matches)} runs", hint=", ".join(r.run_id for r in matches[:5])
        )
    raise UsageError(f"no run {prefix!r} in {runs_folder(project)}", hint="prism runs list shows them")


def read_summary(directory: RunDirectory) -> dict[str, Any]:
    """What `run.json` says, nothing when it is damaged. Raises `UsageError` for a format that a newer Prism wrote."""
    try:
        summary = json.loads(directory.summary.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(summary, dict) or "format" not in summary:
        return {}
    if summary["format"] != FORMAT:
        raise UsageError(
            f"{directory.summary} has format {summary['format']!r}, this Prism reads {FORMAT}",
            hint="upgrade sais-prism-core",
        )
    return summary


def remove_run_directory(directory: RunDirectory) -> None:
    """Take away a run that could not begin, and the folders above it where they are empty then."""
    shutil.rmtree(directory.path, ignore_errors=True)
    for folder in directory.path.parents[:2]:
        with suppress(OSError):  # other runs are there
            folder.rmdir()


def _check_room(folder: Path) -> None:
    disk = os.statvfs(folder)
    if disk.f_blocks and disk.f_bavail * disk.f_frsize < LEAST_ROOM:  # 0 blocks: one that does not tell
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
