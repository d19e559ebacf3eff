"""How a process of this machine came to its end, as far as the kernel tells somebody who is not its parent."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import define, field

from prism.journal.ends import DIED, STOPPING
from prism.journal.identity import ProcessIdentity

_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, struct pidfd_info): Linux 6.15 and later know the exit code
_INFO_EXIT = 1 << 3
_STRIDE_SECONDS, _MEMORY_SECONDS = 1.0, 10.0


def open_pidfd(process: ProcessIdentity) -> int | None:
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


def wait_status(process: ProcessIdentity, pidfd: int | None) -> int | None:
    """The status, as of waitpid(2), of a process that has ended; None where the kernel does not tell it.

    It tells it through a pidfd once the parent has asked too, and in `/proc` until then.
    """
    found = _status_by_pidfd(pidfd)
    if found is None:
        found = _status_of_zombie(process)
    return found if found is not None else _status_by_pidfd(pidfd)  # the parent has asked between the two


def end_of(status: int | None) -> dict[str, Any]:
    """The fields of `end` that follow from a wait status: FAILED when nobody knows it."""
    if status is None:
        return {"status": "FAILED", "exit_code": None, "error": DIED}
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return {"status": "FINISHED", "exit_code": 0, "error": ""}
    if code > 0:
        return {"status": "FAILED", "exit_code": code, "error": f"exit code {code}"}
    word = "KILLED" if -code in STOPPING else "FAILED"
    return {"status": word, "exit_code": 128 - code, "error": f"killed by {_name(-code)}"}


def blame_memory(end: Mapping[str, Any], *, kills: int) -> dict[str, Any]:
    """Say in an end by SIGKILL, or by nobody knows what, that the kernel ran out of memory at that time.

    `kills` is how often it has ended a process for that.
    """
    unexplained = end["exit_code"] in (None, 128 + signal.SIGKILL)
    if not kills or not unexplained:
        return dict(end)
    return {**end, "error": f"{end['error']}; memory had run out, and the kernel ended a process for that"}


@define
class MemoryKills:
    """How often the kernel of this machine has ended a process because memory had run out."""

    _counts: list[tuple[float, int]] = field(factory=list)

    def recent(self) -> int:
        """How often within the last ten seconds or so; of use when asked again and again."""
        now, count = time.monotonic(), _count_memory_kills()
        if not self._counts or now - self._counts[-1][0] >= _STRIDE_SECONDS:
            self._counts.append((now, count))
        while len(self._counts) > 1 and now - self._counts[1][0] > _MEMORY_SECONDS:
            del self._counts[0]
        return count - self._counts[0][1]


def _count_memory_kills() -> int:
    with suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_bytes().splitlines():
            name, _, count = line.partition(b" ")
            if name == b"oom_kill":
                return int(count)
    return 0


def _status_by_pidfd(pidfd: int | None) -> int | None:
    if pidfd is None:
        return None
    info = bytearray(64)
    struct.pack_into("=Q", info, 0, _INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _GET_INFO, info)
    except OSError:  # an older kernel
        return None
    mask, status = *struct.unpack_from("=Q", info), *struct.unpack_from("=i", info, 60)
    return status if mask & _INFO_EXIT else None


def _status_of_zombie(process: ProcessIdentity) -> int | None:
    path = Path(f"/proc/{process.pid}/stat")
    try:
        if path.stat().st_uid != os.geteuid():  # of another user's it says 0
            return None
        fields = path.read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    is_it = fields[0] == b"Z" and int(fields[19]) == process.started
    return int(fields[49]) if is_it else None


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
