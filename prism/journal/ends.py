"""How a run's processes stand: ended by whose word, dead, stopped, or silent; and the status that follows."""

from __future__ import annotations

import signal
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from attrs import define

from prism.journal.identity import ProcessIdentity
from prism.protocols import Record

LOST_SHARE = 1 / 3
"""Of a lease: silent for so long, a process of another machine counts as LOST."""
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that ask a run to stop: it was KILLED then."""
DIED = "the process died without a word"


@define
class ProcessState:
    """One process of a run: who it is, what was heard of it last, and how it ended by whoever knows best."""

    process: ProcessIdentity | None = None
    end: Mapping[str, Any] | None = None
    heartbeats: int = 0
    records: int = 0
    last_time: int = 0
    dead: bool = False
    silent: float = 0.0

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, a process of this machine."""
        return self.process is not None and self.process.is_here()

    @property
    def is_away(self) -> bool:
        """Whether it is of another machine and nothing has been said of its end."""
        return self.end is None and not self.is_here

    @property
    def is_open(self) -> bool:
        """Whether nobody has said yet how it ended."""
        return self.end is None or is_leaving(self.end)

    def hear(self, record: Record) -> None:
        """Fold in a record of its own. An end by lease is void when it goes on."""
        self.last_time, self.records = record.time, record.seq
        if record.kind == "heartbeat":
            self.heartbeats = record.data["count"]
        if self.end is not None and self._has_gone_on_after(self.end):
            self.end = None

    def hear_end(self, end: Mapping[str, Any]) -> None:
        """Take an end, by its own word or another's, unless it is void or somebody who knows better has said one."""
        if not self._has_gone_on_after(end) and (self.end is None or _weight(end) > _weight(self.end)):
            self.end = end

    def _has_gone_on_after(self, end: Mapping[str, Any]) -> bool:
        if "records" in end:
            return self.records > int(end["records"])
        return "heartbeats" in end and self.heartbeats > int(end["heartbeats"])


def is_leaving(end: Mapping[str, Any]) -> bool:
    """Whether this is the word of a process that leaves without an error and does not know its exit code yet."""
    return "of" not in end and end["status"] == "FINISHED" and end.get("exit_code", 0) is None


def notice_deaths(processes: Iterable[ProcessState]) -> bool:
    """Mark the open processes of this machine that are dead; whether any is newly so.

    What one said just before it died may have come after the last reading: read on before `judge`.
    """
    open_here = [one for one in processes if one.is_open and not one.dead and one.is_here]
    for one in open_here:
        one.dead = one.process is not None and not one.process.is_alive()
    return any(one.dead for one in open_here)


def worst(processes: Collection[ProcessState], *, lease: float) -> dict[str, Any]:
    """The worst of the processes' ends: FAILED, KILLED, LOST, RUNNING, FINISHED. RUNNING when there is none."""
    judged = [judge(process, lease=lease) for process in processes]
    order = ("FAILED", "KILLED", "LOST", "RUNNING", "FINISHED")
    return min(judged, key=lambda end: order.index(end["status"]), default={"status": "RUNNING"})


def judge(process: ProcessState, *, lease: float) -> dict[str, Any]:
    """The end of one process, or {"status": RUNNING or LOST}, with the reason as `error`."""
    waiting = process.is_here and not process.dead
    if process.end is not None and not (waiting and is_leaving(process.end)):
        return dict(process.end)
    if process.dead:
        return {"status": "FAILED", "error": DIED, "time": process.last_time}
    if waiting:
        if process.process is not None and process.process.is_stopped():
            return {"status": "LOST", "error": f"process {process.process.pid} is stopped (SIGSTOP, Ctrl-Z)"}
        return {"status": "RUNNING"}
    if process.silent < lease * LOST_SHARE:
        return {"status": "RUNNING"}
    host = process.process.host if process.process else "its machine"
    silent = f"no sign of life from {host} for {process.silent:.0f} s"
    return {"status": "LOST", "error": f"{silent}; it has FAILED after {lease:.0f} s"}


def _weight(end: Mapping[str, Any]) -> int:
    """Who knows better: an exit code outweighs none, a process's own word another's, anything a lease."""
    if "records" in end or "heartbeats" in end:
        return 0
    own, known = "of" not in end, end.get("exit_code") is not None
    return 1 + own + 2 * known
