"""Writing a journal file: one `write(2)` for each record, whatever threads, signals, forks and disks do meanwhile."""

from __future__ import annotations

import atexit
import errno
import fcntl
import itertools
import json
import os
import sys
import threading
import weakref
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from prism.journal.identity import ProcessIdentity, now
from prism.journal.looks import lease_seconds

FORMAT = 1
ROOM_BYTES = 8192
SYNC_SECONDS = 1.0
HEARTBEAT_SECONDS = 10.0

_HIGH_DESCRIPTOR = 900  # below the usual limit of 1024
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_writers: weakref.WeakSet[JournalWriter] = weakref.WeakSet()


class JournalWriter:
    """Appends records to one file that belongs to this process alone.

    A disk that is full or read-only never raises into the training: the first failure is told to
    `warn`, every record not written and every point in it are counted. After a fork the child
    writes to a file of its own (`…-p<pid>.jsonl`), made when it first says something.
    """

    def __init__(self, path: Path, *, warn: Callable[[str], None] = lambda _: None) -> None:
        self.path = path
        self.unrecorded = 0
        self.unrecorded_points = 0
        self._warn = warn
        self._complained = False
        self._seq = 0
        self._torn = False
        self._dirty = False
        self._waiting: deque[tuple[int, str, str, int]] = deque()
        self._writing = False
        self._closed = threading.Event()
        self._lock = threading.RLock()  # a signal handler or a finalizer may log in the midst of its thread's logging
        self._sync_lock = threading.RLock()
        self._alive = self._reports = False
        self._room: Path | None = None
        ProcessIdentity.mine()  # now, and for the children: they must import nothing that a thread imports at a fork
        self._fd: int | None = aloof(os.open(path, _NEW_FILE, 0o644))
        _writers.add(self)

    def write(self, kind: str, data: Mapping[str, Any]) -> None:
        """Append one record. `data` holds JSON values, finite floats only (see `number`)."""
        body = _encode(data)
        points = len(data["metrics"]) if kind == "metrics" else 0
        with self._lock:
            if self._closed.is_set():
                raise ValueError(f"the journal {self.path} is closed")
            self._waiting.append((now(), kind, body, points))
            if self._writing:  # this interrupts this thread's own writing, which goes on with it afterwards
                return
            try:
                self._write_waiting()
            finally:
                while self._waiting:  # left by an interruption that raised
                    self._write_waiting()
                if self._closed.is_set():
                    self.close()

    def sync(self) -> None:
        """Make all that was written survive a loss of power, as far as the file system can."""
        with self._sync_lock:  # not the other lock: nobody who logs waits for the disk
            if not self._dirty or self._fd is None:
                return
            self._dirty = False
            try:
                if os.fstat(self._fd).st_nlink == 0:  # writing to it goes on without an error, for nobody
                    raise FileNotFoundError(errno.ENOENT, "it was deleted")
                os.fsync(self._fd)
            except OSError as error:
                if error.errno == errno.EBADF:  # closed by user code; the next record opens it again
                    self._dirty = True
                else:
                    self._complain(error)

    def keep_alive(self) -> None:
        """Start what syncs every second and what writes a heartbeat every ten, nine in a shorter lease.

        They are two threads, so that a disk that is slow to sync does not make the process look dead.
        """
        self._alive = True
        self._every(SYNC_SECONDS, self.sync, name="prism-journal-sync")
        beats = itertools.count(1)
        self._every(min(HEARTBEAT_SECONDS, lease_seconds() / 9), lambda: self._beat(next(beats)), name="prism-journal")

    def keep_room(self) -> None:
        """Set some of the disk aside, so that the end of a run can be written also when it is full by then."""
        self._room = room_of(self.path)
        try:
            self._room.write_bytes(bytes(ROOM_BYTES))
        except OSError as error:
            self._complain(error)

    def use_room(self) -> None:
        """Give back what `keep_room` set aside: the last records follow."""
        room, self._room = self._room, None
        if room is not None:
            with suppress(OSError):  # read-only by now; then the last records will complain
                room.unlink(missing_ok=True)

    def shortfall(self) -> str:
        """How much could not be written, for people; "" when all was. Each loss is told once."""
        records, points = self.unrecorded, self.unrecorded_points
        self.unrecorded = self.unrecorded_points = 0
        if not records:
            return ""
        return f"{records} records with {points} points could not be written to {self.path}"

    def close(self) -> None:
        """Sync and close; nothing may be written afterwards."""
        with self._lock:
            self._closed.set()
            if self._writing:  # this interrupts a record of its own thread, which closes after it
                return
        self.sync()
        self.use_room()
        with self._sync_lock, self._lock:
            if self._fd is not None:
                with suppress(OSError):  # user code may have closed what it found open
                    os.close(self._fd)
                self._fd = None
        _writers.discard(self)

    def _write_waiting(self) -> None:
        self._writing = True
        try:
            while self._waiting:
                when, kind, body, points = self._waiting.popleft()
                try:
                    if self._fd is None:
                        self._begin_own_file()
                    self._append(when, kind, body)
                except OSError as error:
                    self._missed(points, error)
        finally:
            self._writing = False

    def _append(self, when: int, kind: str, body: str) -> None:
        self._seq += 1  # before the write: a signal between the two leaves a gap, never a number twice
        head = f'{{"seq":{self._seq},"time":{when},"kind":"{kind}"'
        # half of a character (of a file's name that is no UTF-8) becomes JSON's escape for it, and comes back
        content = (head if body == "{}" else f"{head},{body[1:-1]}").encode(errors="backslashreplace")
        line = content + b',"crc":"%08x"}\n' % zlib.crc32(content)
        if self._torn:  # close the line that a full disk has cut, so that this one can be read
            line = b"\n" + line
        self._dirty = self._torn = True  # an exception from a signal handler may hide how much was written
        try:
            written = self._put(line)
        except OSError:
            self._seq -= 1
            raise
        self._torn = written < len(line)
        if self._torn:
            self._seq -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _put(self, line: bytes) -> int:
        if self._fd is None:  # forked by what interrupted the writing: the parent writes it
            return len(line)
        try:
            return os.write(self._fd, line)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            # user code has closed what it found open, as daemons do; the file is still ours alone
            self._fd = aloof(os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC))
            return os.write(self._fd, line)

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            reason = error.strerror or error
            self._warn(
                f"the journal {self.path} cannot be written ({reason}); the run goes on, unrecorded until it can"
            )

    def _every(self, seconds: float, do: Callable[[], None], *, name: str) -> None:
        closed = self._closed

        def loop() -> None:
            while not closed.wait(seconds):
                do()

        threading.Thread(target=loop, name=name, daemon=True).start()

    def _beat(self, count: int) -> None:
        with self._lock:
            if not self._closed.is_set():
                self.write("heartbeat", {"count": count})

    def _begin_own_file(self) -> None:
        """After a fork: a file of the child's own, with its first record. Raises `OSError`, and makes none then."""
        parents = self.path
        try:
            self._fd = aloof(self._new_file(f"{parents.stem}-p{os.getpid()}"))
            self._seq = 0
            start = {"format": FORMAT, "role": "fork", "process": ProcessIdentity.mine().dump()}
            self._append(now(), "start", _encode(start))
        except OSError:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None
                self.path.unlink(missing_ok=True)
            self.path = parents
            raise
        if self._alive:
            self._every(SYNC_SECONDS, self.sync, name="prism-journal-sync")

    def _new_file(self, own: str) -> int:
        """The descriptor of a new file; a child that has ended may have had the same pid."""
        names = itertools.chain((own,), (f"{own}-p{number}" for number in itertools.count(2)))
        while True:
            self.path = self.path.with_name(f"{next(names)}.jsonl")
            with suppress(FileExistsError):
                return os.open(self.path, _NEW_FILE, 0o644)

    def _missed(self, points: int, error: OSError) -> None:
        self.unrecorded += 1
        self.unrecorded_points += points
        self._complain(error)
        if not self._reports:  # where nobody asks for the shortfall: in a child, in a further process of a run
            self._reports = True
            _at_the_end(self._tell_shortfall)

    def _tell_shortfall(self) -> None:
        if told := self.shortfall():
            self._warn(told)

    def _forget_parent(self) -> None:
        self._lock, self._sync_lock = threading.RLock(), threading.RLock()
        self._closed = threading.Event()
        self._waiting.clear()
        self._writing = self._torn = self._dirty = self._reports = False
        self.unrecorded = self.unrecorded_points = 0
        self._room = None
        if self._fd is not None:
            with suppress(OSError):  # closed by user code
                os.close(self._fd)
            self._fd = None


def _after_fork() -> None:
    for writer in list(_writers):
        writer._forget_parent()


os.register_at_fork(after_in_child=_after_fork)


def room_of(path: Path) -> Path:
    """The file that sets room aside for the last records of the journal file `path`."""
    return path.with_suffix(".room")


def aloof(descriptor: int) -> int:
    """The same open file under a high number.

    Code that closes what it does not know opens its own files under the low ones next: records must not go there.
    """
    try:
        high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _HIGH_DESCRIPTOR)
    except OSError:  # so many are not allowed here
        return descriptor
    os.close(descriptor)
    return high


def _at_the_end(call: Callable[[], None]) -> None:
    """Call when this process ends: children of `multiprocessing` end without `atexit`."""
    util = sys.modules.get("multiprocessing.util")
    if util is None:
        atexit.register(call)
    else:
        util.Finalize(None, call, exitpriority=0)
