"""One deliverer at a time, without locks: numbered files, made with `O_EXCL`, never continued by another.

`delivery/<n>.jsonl` is the journal of the n-th process that delivers this run. The next number may
be taken when the last owner has ended, is dead (seen on the same machine), or has not moved for
the length of a lease on the watcher's own clock.
"""

from __future__ import annotations

import time
from pathlib import Path

from attrs import define

from prism.journal.directory import RunDirectory
from prism.journal.identity import ProcessIdentity
from prism.journal.records import FORMAT, JournalWriter, read_journal
from prism.protocols import Record

LEASE_SECONDS = 90.0


@define
class Claim:
    """Tries to become the deliverer of a run."""

    directory: RunDirectory
    lease: float = LEASE_SECONDS
    _watched: tuple[Path, int] | None = None
    _since: float = 0.0

    def take(self) -> JournalWriter | None:
        """The journal of the new deliverer, or None while another one is at work."""
        files = self.directory.delivery_files()
        if files and not self._is_free(files[-1]):
            return None
        number = int(files[-1].stem) + 1 if files else 1
        self.directory.delivery.mkdir(exist_ok=True)  # a copy of the run may have been made without it
        try:
            journal = JournalWriter(self.directory.delivery / f"{number:06d}.jsonl")
        except FileExistsError:
            return None
        journal.write("start", {"format": FORMAT, "role": "delivery", "process": ProcessIdentity.mine().dump()})
        journal.keep_alive()
        return journal

    def owner(self) -> ProcessIdentity | None:
        """Who delivers, or delivered last."""
        files = self.directory.delivery_files()
        return _owner(read_journal(files[-1]).records) if files else None

    def _is_free(self, path: Path) -> bool:
        records = read_journal(path).records
        if records and records[-1].kind == "end":
            return True
        owner = _owner(records)
        if owner is not None and owner.is_here():
            return not owner.is_alive()
        return self._unmoved_for_a_lease(path)

    def _unmoved_for_a_lease(self, path: Path) -> bool:
        seen = (path, path.stat().st_size)
        if seen != self._watched:
            self._watched, self._since = seen, time.monotonic()
        return time.monotonic() - self._since >= self.lease


def still_mine(directory: RunDirectory, journal: JournalWriter) -> bool:
    """Whether nobody has taken over since: asked before each delivery, for an owner that was suspended."""
    return directory.delivery_files()[-1] == journal.path


def _owner(records: tuple[Record, ...]) -> ProcessIdentity | None:
    """Whose file it is, None where its first record was lost or is not there yet."""
    return next((ProcessIdentity.load(one.data["process"]) for one in records if one.kind == "start"), None)
