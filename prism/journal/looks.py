"""What one machine has seen of a run's processes on other machines, remembered in the run directory.

A process elsewhere gives signs of life by records in its file. Since when there was none is measured
on the clock of the machine that looks, and on no other: its clock since boot, which all its
processes share and nobody sets. So a look may be a command that ends at once; the next one, minutes
later, knows how long the file has been silent.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path

from attrs import define, field

from prism.errors import UsageError
from prism.journal.directory import RunDirectory
from prism.journal.identity import this_machine
from prism.writing import write_whole

LEASE_SECONDS = 90.0
LEASE_VARIABLE = "PRISM_LEASE_SECONDS"


def clock() -> float:
    """Seconds on a clock that all processes of this machine share and that nobody sets."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def lease_seconds() -> float:
    """How long a process of another machine may be silent before its end is written.

    `PRISM_LEASE_SECONDS` changes it. Raises `UsageError` when that is no number above 0.
    """
    return seconds_given(LEASE_VARIABLE, otherwise=LEASE_SECONDS)


def seconds_given(variable: str, *, otherwise: float) -> float:
    """A time that an environment variable may change. Raises `UsageError` when that is no number above 0."""
    text = os.environ.get(variable, "")
    try:
        seconds = float(text or otherwise)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise UsageError(f"{variable}={text!r} is no number of seconds above 0")
    return seconds


@define
class Looks:
    """Journal file → the last record that was seen in it, and since when it has been the last."""

    directory: RunDirectory
    _seen: dict[str, tuple[int, float]] = field(init=False)
    _noted: set[str] = field(factory=set)

    def __attrs_post_init__(self) -> None:
        self._seen = _read(self._path)

    def note(self, file: str, records: int) -> float:
        """Look at a file whose last record has number `records`; how long that has been so, in seconds."""
        now = clock()
        last, since = self._seen.get(file, (-1, now))
        if records != last or since > now:  # later than now: the machine has been started anew
            self._seen[file] = (records, now)
            self._noted.add(file)
            return 0.0
        return now - since

    def keep(self) -> None:
        """Remember the looks for the next process of this machine."""
        if self._noted:
            merged = _read(self._path) | {file: self._seen[file] for file in self._noted}
            self._noted.clear()
            seen = {file: {"records": records, "since": since} for file, (records, since) in merged.items()}
            with suppress(OSError):  # a run of another user, a full disk: then each process looks for itself
                self._path.parent.mkdir(exist_ok=True)
                write_whole(self._path, json.dumps({"machine": this_machine(), "seen": seen}) + "\n")

    @property
    def _path(self) -> Path:
        key = hashlib.sha256(this_machine().encode()).hexdigest()[:16]
        return self.directory.delivery / f"look-{key}.json"


def _read(path: Path) -> dict[str, tuple[int, float]]:
    try:
        seen = json.loads(path.read_text(encoding="utf-8"))["seen"]
        return {str(file): (int(look["records"]), float(look["since"])) for file, look in seen.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}  # none yet, or damaged: the looks begin anew
