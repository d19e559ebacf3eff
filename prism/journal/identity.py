"""Who is who: run ids that sort by time, and processes that can be told apart after a restart."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

_PROC = Path("/proc")


def new_run_id() -> str:
    """A run id such as `20261123-051122-4f09c2`: UTC to the second, then the millisecond and 14 random bits."""
    seconds, milliseconds = divmod(now(), 1000)
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(seconds))
    return f"{stamp}-{milliseconds << 14 | secrets.randbits(14):06x}"


def now() -> int:
    """Milliseconds since the epoch, the journal's and MLflow's unit of time."""
    return time.time_ns() // 1_000_000


@frozen
class ProcessIdentity:
    """One process, told apart from every other that has had or will have its pid.

    `machine` is the kernel's boot id and the pid namespace: a pid means something only within it.
    `started` is the process's start: in clock ticks since boot (field 22 of `/proc/<pid>/stat`), or,
    where there is no `/proc`, in seconds since the epoch.
    """

    host: str
    machine: str
    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """The process that has `pid` on this machine now, or None."""
        started = _start_of(pid)
        return None if started is None else cls(socket.gethostname(), this_machine(), pid, started)

    @classmethod
    def mine(cls) -> ProcessIdentity:
        return cls(socket.gethostname(), this_machine(), os.getpid(), _start_of(os.getpid()) or 0)

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> ProcessIdentity:
        return cls(str(data["host"]), str(data["machine"]), int(data["pid"]), int(data["started"]))

    def dump(self) -> dict[str, Any]:
        return asdict(self)

    def is_here(self) -> bool:
        """Whether this process can be looked at from here at all."""
        return self.machine == this_machine()

    def is_alive(self) -> bool:
        """Whether it still runs; asked only where `is_here()`. A zombie is dead."""
        return _start_of(self.pid) == self.started

    def is_stopped(self) -> bool:
        """Whether it lives and is stopped by a signal; asked only where `is_here()`."""
        fields = _stat_fields(self.pid)
        return bool(fields) and int(fields[19]) == self.started and fields[0] in (b"T", b"t")

    def key(self) -> str:
        """A short name for file names."""
        return hashlib.sha256(f"{self.machine} {self.pid} {self.started}".encode()).hexdigest()[:16]


@cache
def this_machine() -> str:
    """The boot id and pid namespace of this machine (its host name where there is no /proc)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _start_of(pid: int) -> int | None:
    """When the process began; None when it is gone or a zombie."""
    if not _PROC.is_dir():  # macOS
        return _start_by_ps(pid)
    fields = _stat_fields(pid)
    return None if not fields or fields[0] in (b"Z", b"X") else int(fields[19])


def _stat_fields(pid: int) -> list[bytes]:
    """The fields of `/proc/<pid>/stat` from the third on, the process's state; none when it is gone."""
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return []
    return stat.rpartition(b")")[2].split()  # the command, field 2, may hold blanks and brackets


def _start_by_ps(pid: int) -> int | None:
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    listed = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=False)
    state, _, began = listed.stdout.strip().partition(" ")
    if listed.returncode != 0 or state.startswith("Z"):
        return None
    return int(time.mktime(time.strptime(began.strip(), "%a %b %d %H:%M:%S %Y")))
