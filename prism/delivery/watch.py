"""Watching a run's processes from beside them, so that a death is written down when it happens.

A process of this machine is watched through a pidfd. One of another machine is watched by its
heartbeat: when its file has not grown for a lease on this process's own monotonic clock, its end
is written, with the heartbeat it was last seen at, and void if it ever goes on.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping

from attrs import define, field

from prism.journal.directory import RunDirectory, parse_journal_name
from prism.journal.identity import ProcessIdentity
from prism.journal.projection import Follower
from prism.journal.records import JournalWriter
from prism.protocols import Record

LEASE_SECONDS = 90.0
_POLL_SECONDS = 0.5


@define
class Watched:
    """A worker, the descriptor that tells of its death (None on another machine), and its last sign of life."""

    process: ProcessIdentity
    pidfd: int | None = None
    ended: bool = False
    records: int = 0
    heartbeats: int = 0
    since: float = field(factory=time.monotonic)


@define
class Watch:
    """Sees the workers of one run live and die; writes to its own journal file."""

    directory: RunDirectory
    journal: JournalWriter
    lease: float = LEASE_SECONDS
    workers: dict[str, Watched] = field(factory=dict)
    launcher: ProcessIdentity | None = None
    _follower: Follower = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._follower = Follower(self.directory)

    @property
    def local_work_is_over(self) -> bool:
        """Whether there were processes of this run on this machine, and all of them have ended."""
        here = [worker for worker in self.workers.values() if worker.process.is_here()]
        launcher = self.launcher is not None and self.launcher.is_here()
        launching = launcher and self.launcher is not None and self.launcher.is_alive()
        return bool(here or launcher) and all(worker.ended for worker in here) and not launching

    def look(self, *, seconds: float) -> None:
        """Read what was said, wait up to `seconds` for a death, and write down what nobody else can say."""
        self._read()
        poll = select.poll()
        for worker in self.workers.values():
            if worker.pidfd is not None and not worker.ended:
                poll.register(worker.pidfd, select.POLLIN)
        if any(worker.pidfd is None and not worker.ended for worker in self.workers.values()):
            seconds = min(seconds, _POLL_SECONDS)  # nothing wakes us at the death of these
        poll.poll(seconds * 1000)
        dead = [file for file, worker in self.workers.items() if not worker.ended and _is_dead(worker)]
        self._read()  # its last words, said between the first reading and its death
        for file in dead:
            if not self.workers[file].ended:
                self._write_end(file, "the process died without a word")
        self._check_leases()

    def _read(self) -> None:
        for record in self._follower.poll():
            if record.kind == "start":
                self._on_start(record)
            worker = self.workers.get(record.file)
            if worker is not None:
                self._on_sign_of_life(worker, record)

    def _on_start(self, record: Record) -> None:
        process = ProcessIdentity.load(record.data["process"])
        if record.data["role"] == "launcher" and process.is_here():
            self.launcher = process
        elif parse_journal_name(record.file).is_worker:
            self.workers[record.file] = Watched(process, _open_pidfd(process))

    def _on_sign_of_life(self, worker: Watched, record: Record) -> None:
        worker.records += 1
        worker.since = time.monotonic()
        if record.kind == "heartbeat":
            worker.heartbeats = record.data["count"]
        worker.ended = record.kind == "end"
        if worker.ended and worker.pidfd is not None:
            os.close(worker.pidfd)
            worker.pidfd = None

    def _check_leases(self) -> None:
        for file, worker in self.workers.items():
            silent = time.monotonic() - worker.since
            if not worker.ended and not worker.process.is_here() and silent >= self.lease:
                self._write_end(file, f"lost: {worker.process.host} gave no sign of life for {silent:.0f} s")

    def _write_end(self, file: str, reason: str) -> None:
        worker = self.workers[file]
        worker.ended = True
        end: Mapping[str, object] = {"of": file, "status": "FAILED", "exit_code": None, "error": reason}
        seen = {} if worker.process.is_here() else {"heartbeats": worker.heartbeats}
        self.journal.write("end", {**end, **seen})
        self.journal.sync()


def _open_pidfd(process: ProcessIdentity) -> int | None:
    """A descriptor that becomes readable when the process ends; None if it is elsewhere or gone, or on macOS."""
    if not process.is_here() or not hasattr(os, "pidfd_open"):
        return None
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return None
    if process.is_alive():  # asked after opening: the descriptor is then of that process, not of a later one
        return descriptor
    os.close(descriptor)
    return None


def _is_dead(worker: Watched) -> bool:
    return worker.process.is_here() and not worker.process.is_alive()
