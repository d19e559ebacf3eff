"""One deliverer at a time, without locks: numbered files, made with `O_EXCL`, never continued by another.

`delivery/<n>.jsonl` is the journal of the n-th process that delivers this run. The next number may
be taken when the last owner has ended, is dead (seen on the same machine), or has not moved for
the length of a lease on the watcher's own clock. A process that can deliver asks by touching
`delivery/wish`: an owner that is held up then ends its claim and stands back for a minute.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from attrs import define, field

from prism.errors import PrismError
from prism.journal.directory import RunDirectory
from prism.journal.identity import ProcessIdentity
from prism.journal.looks import Looks, lease_seconds
from prism.journal.records import FORMAT, JournalWriter, read_journal

STAND_BACK_SECONDS = 60.0


class ClaimLost(PrismError):
    """Another process has taken over the delivery, because this one was suspended or cut off."""


@define
class Claim:
    """Tries to become the deliverer of a run."""

    directory: RunDirectory
    lease: float = field(factory=lease_seconds)
    _looks: Looks = field(init=False)
    _watched: tuple[Path, int] | None = None
    _offset: int = 0
    _records: int = 0
    _owner: ProcessIdentity | None = None
    _ended: bool = False
    _back_at: float = 0.0

    def __attrs_post_init__(self) -> None:
        self._looks = Looks(self.directory)

    def take(self) -> JournalWriter | None:
        """The journal of the new deliverer, or None while another one is at work."""
        files = self.directory.delivery_files()
        if files and not self._is_free(files[-1]):
            return None
        self.directory.delivery.mkdir(exist_ok=True)  # a copy of the run may have been made without it
        try:
            journal = JournalWriter(self._place_after(files))
        except FileExistsError:
            return None
        journal.write("start", {"format": FORMAT, "role": "delivery", "process": ProcessIdentity.mine().dump()})
        journal.keep_alive()
        return journal

    def is_free(self) -> bool:
        """Whether nobody is at work on the delivery."""
        files = self.directory.delivery_files()
        return not files or self._is_free(files[-1])

    def stand_back(self) -> None:
        """Leave the claim, which this process has ended, to whoever asked for it: it gets a minute to come."""
        self._back_at = time.monotonic() + STAND_BACK_SECONDS

    def stands_back(self) -> bool:
        """Whether that minute is not over, and nobody has delivered since."""
        return time.monotonic() < self._back_at and self.owner() == ProcessIdentity.mine()

    def owner(self) -> ProcessIdentity | None:
        """Who delivers, or delivered last."""
        files = self.directory.delivery_files()
        if not files:
            return None
        self._read(files[-1])
        return self._owner

    def _place_after(self, files: Sequence[Path]) -> Path:
        """Where the deliverer after these begins: under the next number, but for those that a folder has taken."""
        numbers = itertools.count(int(files[-1].stem) + 1 if files else 1)
        paths = (self.directory.delivery / f"{number:06d}.jsonl" for number in numbers)
        return next(path for path in paths if path.is_file() or not os.path.lexists(path))

    def _is_free(self, path: Path) -> bool:
        self._read(path)
        if self._ended:
            return True
        if self._owner is not None and self._owner.is_here():
            return not self._owner.is_alive()
        silent = self._looks.note(path.stem, self._records)  # of this process and those before it
        self._looks.keep()
        return silent >= self.lease

    def _read(self, path: Path) -> None:
        """Read on in the last deliverer's file."""
        seen = (path, path.stat().st_size)
        if seen == self._watched:
            return
        if self._watched is None or self._watched[0] != path:
            self._offset, self._records, self._owner, self._ended = 0, 0, None, False
        self._watched = seen
        reading = read_journal(path, offset=self._offset)
        self._offset = reading.offset
        for record in reading.records:
            if record.kind == "start":
                self._owner = ProcessIdentity.load(record.data["process"])
            self._records, self._ended = record.seq, record.kind == "end"


def still_mine(directory: RunDirectory, journal: JournalWriter) -> bool:
    """Whether nobody has taken over since: asked before each delivery, for an owner that was suspended."""
    return directory.delivery_files()[-1:] == [journal.path]


def wake(directory: RunDirectory) -> None:
    """Let whoever delivers the run look now, whatever pause it is in."""
    _touch(directory.delivery / "wake")


def wish(directory: RunDirectory) -> None:
    """Ask whoever delivers the run to let this process do it, if it is held up."""
    _touch(directory.delivery / "wish")


@define
class Bell:
    """Tells whether a file was touched since the last look, by its own time stamp alone."""

    path: Path
    _seen: int = -1

    def __attrs_post_init__(self) -> None:
        self.rang()

    def rang(self) -> bool:
        """Whether it was touched since this was asked last, or since the bell was made."""
        try:
            stamp = self.path.stat().st_mtime_ns
        except OSError:
            stamp = 0
        before, self._seen = self._seen, stamp
        return stamp != before


def _touch(path: Path) -> None:
    with suppress(OSError):  # a disk that is full or read-only, a run just deleted: then it looks when it looks
        path.touch()
