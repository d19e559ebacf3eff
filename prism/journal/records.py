"""The journal: one append-only file per process, one line per record, each written by one `write(2)`.

A line is a JSON object `{"seq":…,"time":…,"kind":…,…,"crc":"…"}`; `crc` is the CRC-32 of the bytes
before `,"crc"`. There is no lock, no rename and no shared file, so it is safe on a parallel file
system; what a dead process acknowledged is in the kernel already, and `fsync` follows on a timer.
The kinds of records are in `docs/reference/journal.md`.
"""

from __future__ import annotations

import errno
import json
import os
import re
import threading
import weakref
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import frozen

from prism.journal.identity import ProcessIdentity, now
from prism.journal.kinds import NON_FINITE, misfit
from prism.protocols import Record

FORMAT = 1
ROOM_BYTES = 8192
SYNC_SECONDS = 1.0
HEARTBEAT_SECONDS = 10.0

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_CRC_TAIL = re.compile(rb',"crc":"([0-9a-f]{8})"}')
_writers: weakref.WeakSet[JournalWriter] = weakref.WeakSet()


class JournalWriter:
    """Appends records to one file that belongs to this process alone.

    A disk that is full or read-only never raises into the training: the first failure is told to
    `warn`, every record not written is counted in `unrecorded`. After a fork the child writes to a
    file of its own (`…-p<pid>.jsonl`), made when it first says something.
    """

    def __init__(self, path: Path, *, warn: Callable[[str], None] = lambda _: None) -> None:
        self.path = path
        self.unrecorded = 0
        self._warn = warn
        self._seq = 0
        self._torn = False
        self._dirty = False
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._timer: threading.Thread | None = None
        self._room: Path | None = None
        self._fd: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        _writers.add(self)

    def write(self, kind: str, data: Mapping[str, Any]) -> None:
        """Append one record. `data` holds JSON values, finite floats only (see `number`)."""
        with self._lock:
            if self._fd is None:
                self._open_after_fork()
            head = f'{{"seq":{self._seq + 1},"time":{now()},"kind":"{kind}"'
            body = _encode(data)
            # half of a character (of a file's name that is no UTF-8) becomes JSON's escape for it, and comes back
            self._append((head if body == "{}" else f"{head},{body[1:-1]}").encode(errors="backslashreplace"))

    def sync(self) -> None:
        """Make all that was written survive a loss of power, as far as the file system can."""
        if self._dirty and self._fd is not None:
            self._dirty = False
            try:
                os.fsync(self._fd)
            except OSError as error:
                self._complain(error)

    def keep_alive(self) -> None:
        """Start the timer that syncs every second and writes a heartbeat every ten."""
        self._timer = threading.Thread(target=self._tick, name="prism-journal", daemon=True)
        self._timer.start()

    def keep_room(self) -> None:
        """Set some of the disk aside, so that the end of a run can be written also when it is full by then."""
        self._room = self.path.with_suffix(".room")
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

    def close(self) -> None:
        """Sync and close; nothing may be written afterwards."""
        self._closed.set()
        self.sync()
        self.use_room()
        with self._lock:
            if self._fd is not None:
                with suppress(OSError):  # user code may have closed what it found open
                    os.close(self._fd)
                self._fd = None
        _writers.discard(self)

    def _append(self, body: bytes) -> None:
        line = body + b',"crc":"%08x"}\n' % zlib.crc32(body)
        if self._torn:  # close the line that a full disk has cut, so that this one can be read
            line = b"\n" + line
        self._seq += 1  # before the write: a signal between the two leaves a gap, never a number twice
        try:
            written = self._put(line)
        except OSError as error:
            self._miss(error)
            return
        self._torn = written < len(line)
        if self._torn:
            self._miss(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        self._dirty = True

    def _put(self, line: bytes) -> int:
        assert self._fd is not None
        try:
            return os.write(self._fd, line)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            # user code has closed what it found open, as daemons do; the file is still ours alone
            self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            return os.write(self._fd, line)

    def _miss(self, error: OSError) -> None:
        self._seq -= 1
        self.unrecorded += 1
        self._complain(error)

    def _complain(self, error: OSError) -> None:
        warn, self._warn = self._warn, lambda _: None
        warn(f"the journal {self.path} cannot be written ({error.strerror}); the run goes on, unrecorded until it can")

    def _tick(self) -> None:
        beats = 0
        elapsed = 0.0
        while not self._closed.wait(SYNC_SECONDS):
            self.sync()
            elapsed += SYNC_SECONDS
            if elapsed >= HEARTBEAT_SECONDS * (beats + 1):
                beats += 1
                self.write("heartbeat", {"count": beats})

    def _open_after_fork(self) -> None:
        if self._closed.is_set():
            raise ValueError(f"the journal {self.path} is closed")
        self.path = self.path.with_name(f"{self.path.stem}-p{os.getpid()}.jsonl")
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._seq = 0
        start = {"format": FORMAT, "role": "fork", "process": ProcessIdentity.mine().dump()}
        self._append(f'{{"seq":1,"time":{now()},"kind":"start",{_encode(start)[1:-1]}'.encode())

    def _forget_parent(self) -> None:
        self._lock = threading.Lock()
        self._closed = threading.Event()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self._room = None
        self._torn = self._dirty = False


def _after_fork() -> None:
    for writer in list(_writers):
        writer._forget_parent()


os.register_at_fork(after_in_child=_after_fork)


def number(value: Any) -> float | str:
    """A metric's value as the journal stores it: a finite float, or "NaN", "Infinity", "-Infinity".

    Takes Python, numpy and torch scalars. Raises `TypeError` for anything that is not one number.
    """
    if type(value) is not float:
        try:
            value = float(value.item() if hasattr(value, "item") else value)
        except (ValueError, OverflowError, RuntimeError) as error:  # torch raises the last for several elements
            raise TypeError(f"{value!r:.60} is not one number: {error}") from None
    if value - value == 0.0:
        return float(value)
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def parse_number(value: float | str) -> float:
    """The float that `number` stored."""
    return NON_FINITE[value] if isinstance(value, str) else float(value)


@frozen
class Damage:
    """A stretch of a journal file that is not a whole record: where it begins, how long, and why."""

    file: str
    offset: int
    size: int
    reason: str


@frozen
class Reading:
    """What was read from one file: whole records, damage, and the offset to go on from."""

    records: tuple[Record, ...]
    damage: tuple[Damage, ...]
    offset: int


def read_journal(path: Path, *, offset: int = 0, limit: int = -1) -> Reading:
    """Read the whole records from `offset` (bytes) on, about `limit` bytes of them, all when it is negative.

    An unfinished last line is left for the next reading: its writer may be in the middle of it.
    """
    with path.open("rb") as stream:
        stream.seek(offset)
        content = stream.read(limit)
        if limit >= 0 and len(content) == limit:
            content += stream.readline()
    records: list[Record] = []
    damage: list[Damage] = []
    end = content.rfind(b"\n") + 1
    position = offset
    for line in content[:end].split(b"\n")[:-1]:
        if line:
            try:
                records.append(_parse(path.stem, line))
            except ValueError as error:
                damage.append(Damage(path.name, position, len(line), str(error)))
        position += len(line) + 1
    return Reading(tuple(records), tuple(damage), offset + end)


def torn_tail(path: Path) -> Damage | None:
    """The unfinished last line of a file whose writer is gone, if there is one."""
    reading = read_journal(path)
    rest = path.stat().st_size - reading.offset
    return Damage(path.name, reading.offset, rest, "the last line is not finished") if rest else None


def _parse(file: str, line: bytes) -> Record:
    tail = _CRC_TAIL.fullmatch(line[-18:])
    if tail is None:
        raise ValueError("not a record")
    if int(tail[1], 16) != zlib.crc32(line[:-18]):
        raise ValueError("its checksum does not match")
    data = json.loads(line)
    del data["crc"]
    record = Record(file, data.pop("seq"), data.pop("time"), data.pop("kind"), data)
    if problem := misfit(record.kind, record.data):
        raise ValueError(problem)
    return record
