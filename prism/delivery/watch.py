"""Watching a run's processes from beside them, so that a death is written down when it happens.

A process of this machine is watched through a pidfd. One of another machine is watched by its
file: when that has not grown for a lease on this machine's own clock, its end is written, with the
record it was last seen at, and void if it ever goes on. What was seen is remembered in the run
directory, so that commands which look and end at once add up to a watch.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping
from typing import Any

from attrs import define, field

from prism.delivery.exits import MemoryKills, blame_memory, end_of, open_pidfd, wait_status
from prism.errors import EnvironmentUnfit
from prism.journal.directory import RunDirectory
from prism.journal.ends import ProcessState, is_leaving
from prism.journal.identity import ProcessIdentity
from prism.journal.looks import lease_seconds
from prism.journal.opening import open_journal
from prism.journal.records import JournalWriter
from prism.journal.state import LiveState, RunState, refresh_summary

_POLL_SECONDS = 0.5
_KEEP_SHARE = 1 / 9
"""Of a lease: a watch that goes on remembers its looks so often."""


@define
class Watch:
    """Sees the workers of one run live and die; writes to its own journal file, made when it is needed."""

    directory: RunDirectory
    journal: JournalWriter | None = None
    lease: float = field(factory=lease_seconds)
    live: LiveState = field(init=False)
    _pidfds: dict[str, int | None] = field(factory=dict)
    _statuses: dict[str, int | None] = field(factory=dict)
    _settled: set[str] = field(factory=set)
    _has_made_journal: bool = False
    _memory_kills: MemoryKills = field(factory=MemoryKills)
    _kept: float = field(factory=time.monotonic)

    def __attrs_post_init__(self) -> None:
        self.live = LiveState(self.directory)

    @property
    def local_work_is_over(self) -> bool:
        """Whether there were processes of this run on this machine, and all of them have ended."""
        state = self.live.state
        workers = [one for one in state.processes.values() if one.is_here]
        launchers = [one for one in state.launchers.values() if one.is_here]
        over = all(one.dead or not one.is_open for one in workers)
        return bool(workers or launchers) and over and not any(_is_running(one) for one in launchers)

    def look(self, *, seconds: float) -> RunState:
        """Read what was said, wait up to `seconds` for a death, and write down what nobody else can say."""
        state = self.live.poll()
        self._await_death(state, seconds=seconds)
        state = self.live.poll()  # the last words of the dead too
        told = self._tell_deaths(state) or self._tell_losses(state)
        if time.monotonic() - self._kept > self.lease * _KEEP_SHARE:
            self._keep_looks()
        return self.live.poll() if told else state

    def close(self) -> None:
        """End the watch: remember the looks, and close the journal if this watch has made it."""
        self._keep_looks()
        for pidfd in self._pidfds.values():
            _close(pidfd)
        self._pidfds.clear()
        if self.journal is not None and self._has_made_journal:
            self.journal.close()

    def _await_death(self, state: RunState, *, seconds: float) -> None:
        """Wait up to `seconds`, and no longer than to the death of a worker that can be waited for."""
        poll = select.poll()
        waited: dict[int, str] = {}
        for file, worker in state.processes.items():
            if worker.is_here and worker.is_open and not worker.dead:
                if file not in self._pidfds and worker.process is not None:
                    self._pidfds[file] = open_pidfd(worker.process)
                pidfd = self._pidfds.get(file)
                if pidfd is not None:
                    poll.register(pidfd, select.POLLIN)
                    waited[pidfd] = file
                    continue
            if worker.is_here and worker.dead and file not in self._settled:
                seconds = 0  # that has been noticed before we could wait for it
            elif not worker.dead and worker.is_open:
                seconds = min(seconds, _POLL_SECONDS)  # nothing wakes us at the death of these
        for pidfd, _ in poll.poll(seconds * 1000):
            process = state.processes[waited[pidfd]].process
            if process is not None:  # at once: an older kernel tells the status only until the parent asks for it
                self._statuses[waited[pidfd]] = wait_status(process, pidfd)

    def _tell_deaths(self, state: RunState) -> bool:
        """Write the ends of the workers of this machine that have died and could not; whether there were any."""
        kills = self._memory_kills.recent()
        ends = {}
        for file, worker in state.processes.items():
            over = worker.dead or not worker.is_open
            if worker.is_here and over and file not in self._settled:
                self._settled.add(file)
                pidfd = self._pidfds.pop(file, None)
                if worker.is_open and worker.process is not None:
                    status = self._statuses.pop(file, None)
                    end = end_of(wait_status(worker.process, pidfd) if status is None else status)
                    if worker.end is None or _contradicts(end, worker.end):
                        ends[file] = blame_memory(end, kills=kills)
                _close(pidfd)
        for file, end in ends.items():
            self._write_end(file, end)
        return bool(ends)

    def _tell_losses(self, state: RunState) -> bool:
        """Write the ends of those elsewhere whose lease is out; whether there were any."""
        lost = [(file, one) for file, one in state.deciding().items() if one.is_away and one.silent >= self.lease]
        for file, one in lost:
            host = one.process.host if one.process else "its machine"
            error = f"lost: {host} gave no sign of life for {one.silent:.0f} s"
            seen = {"heartbeats": one.heartbeats, "records": one.records}
            self._write_end(file, {"status": "FAILED", "exit_code": None, "error": error, **seen})
        return bool(lost)

    def _write_end(self, file: str, end: Mapping[str, Any]) -> None:
        if self.journal is None:
            try:
                self.journal = open_journal(self.directory, f"node-{ProcessIdentity.mine().key()}", role="node")
            except EnvironmentUnfit:  # a run that we may only read: we know it, and who looks next learns it himself
                return
            self._has_made_journal = True
        self.journal.write("end", {"of": file, **end})
        self.journal.sync()

    def _keep_looks(self) -> None:
        self.live.looks.keep()
        self._kept = time.monotonic()


def look_at(directory: RunDirectory) -> RunState:
    """The state of a run, after a look at its processes that counts.

    A worker of this machine that died while nobody watched, and one of another machine that has been
    silent for a lease since this machine first looked, are written down as ended.
    """
    watch = Watch(directory)
    try:
        state = watch.look(seconds=0.0)
    finally:
        watch.close()
    refresh_summary(state)
    return state


def await_verdict(directory: RunDirectory) -> RunState:
    """Look until each process elsewhere has given a sign of life or is written down as lost: at most a lease."""
    watch = Watch(directory)
    try:
        state = watch.look(seconds=0.0)
        seen = {file: one.records for file, one in state.deciding().items()}
        while any(one.is_away and one.records == seen.get(file) for file, one in state.deciding().items()):
            state = watch.look(seconds=_POLL_SECONDS)
    finally:
        watch.close()
    return state


def _is_running(launcher: ProcessState) -> bool:
    return not launcher.dead and launcher.process is not None and launcher.process.is_alive()


def _contradicts(end: Mapping[str, Any], said: Mapping[str, Any]) -> bool:
    """Whether a process that said it leaves without an error gave an exit code that tells otherwise.

    What a signal did to it after that word took nothing from its work.
    """
    return is_leaving(said) and end["exit_code"] not in (None, 0) and not end["error"].startswith("killed by")


def _close(pidfd: int | None) -> None:
    if pidfd is not None:
        os.close(pidfd)
