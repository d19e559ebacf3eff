"""Beginning a journal file: its name, and its first record, which says whose it is."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from prism.errors import EnvironmentUnfit
from prism.journal.directory import RunDirectory
from prism.journal.identity import ProcessIdentity
from prism.journal.records import FORMAT, JournalWriter
from prism.stderr import tell
from prism.version import VERSION


def open_journal(
    directory: RunDirectory, stem: str, *, role: str, facts: Mapping[str, Any] | None = None
) -> JournalWriter:
    """Begin a journal file of this process with its `start` record.

    A name that is taken already (a second process of the same rank) gets the pid appended, and one that
    this process took itself a number after that.
    """
    own = f"{stem}-p{os.getpid()}"
    for name in itertools.chain((stem, own), (f"{own}-p{number}" for number in itertools.count(2))):
        with suppress(FileExistsError):
            journal = _create(directory.journal / f"{name}.jsonl")
            break
    return _begin(journal, role=role, facts=facts)


def claim_journal(
    directory: RunDirectory, stem: str, *, role: str, facts: Mapping[str, Any] | None = None
) -> JournalWriter:
    """As `open_journal`, for a name that one process alone may have. Raises `FileExistsError`."""
    return _begin(_create(directory.journal / f"{stem}.jsonl"), role=role, facts=facts)


def _begin(journal: JournalWriter, *, role: str, facts: Mapping[str, Any] | None) -> JournalWriter:
    start = {"format": FORMAT, "role": role, "prism": VERSION, "process": ProcessIdentity.mine().dump()}
    journal.write("start", {**start, **(facts or {})})
    return journal


def _create(path: Path) -> JournalWriter:
    try:
        return JournalWriter(path, warn=_warn)
    except FileExistsError:
        raise
    except OSError as error:
        raise EnvironmentUnfit(f"cannot begin the journal {path}: {error.strerror}") from error


def _warn(message: str) -> None:
    tell(f"warning: {message}\n")
