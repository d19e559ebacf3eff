"""Delivering what is pending, by hand: from any machine that sees the run directory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from prism.config import Configuration
from prism.delivery.channels import Delivery
from prism.delivery.claim import Claim
from prism.delivery.node import reopen_project
from prism.delivery.watch import Watch
from prism.errors import PrismError, Unreachable
from prism.journal.directory import RunDirectory
from prism.journal.identity import ProcessIdentity, now
from prism.journal.live import LiveState
from prism.journal.opening import open_journal
from prism.journal.state import TERMINAL, RunState, read_state, write_run_summary
from prism.project import open_project

PATIENCE_SECONDS = 60.0


def sync_run(directory: RunDirectory) -> RunState:
    """Deliver everything that the trackers of one run do not have yet; returns the run's state after it.

    While another process delivers this run, wakes it and waits for it. Raises `Unreachable` when a
    server does not answer; what was delivered until then counts.
    """
    record_deaths(directory)
    state = read_state(directory)
    if state.pending == 0 and not state.awaits_registration:
        return state
    claim = Claim(directory)
    journal = claim.take()
    if journal is None:
        return _await_other(directory, claim)
    try:
        delivery = Delivery(directory, reopen_project(directory, secrets=_secrets(directory)), journal)
        while delivery.step():
            pass
    finally:
        journal.write("end", {"status": "FINISHED", "exit_code": 0, "error": ""})
        journal.close()
    state = read_state(directory)
    write_run_summary(state)
    return state


def record_deaths(directory: RunDirectory) -> None:
    """Write down the end of workers of this machine that died while nobody watched."""
    if read_state(directory).status != "FAILED":
        return
    unsaid = [process for process in read_state(directory).processes.values() if process.end is None]
    if unsaid:
        journal = open_journal(directory, f"node-{ProcessIdentity.mine().key()}", role="node")
        Watch(directory, journal).look(seconds=0.0)
        journal.close()


def follow(
    directories: Callable[[], list[RunDirectory]], *, report: Callable[[str], None], stop: threading.Event
) -> None:
    """Deliver continuously for compute nodes without a network, and close runs whose node is lost, until `stop`."""
    watches: dict[str, Watch] = {}
    problems: dict[str, str] = {}
    while not stop.wait(1.0):
        for directory in directories():
            state = read_state(directory)
            if state.status not in TERMINAL:
                if directory.run_id not in watches:
                    journal = open_journal(directory, f"node-{ProcessIdentity.mine().key()}", role="node")
                    watches[directory.run_id] = Watch(directory, journal)
                watches[directory.run_id].look(seconds=0.0)
            problem = _try_sync(directory)
            if problem and problem != problems.get(directory.run_id):
                report(f"{directory.run_id}: {problem}")
            problems[directory.run_id] = problem


def _try_sync(directory: RunDirectory) -> str:
    try:
        sync_run(directory)
    except PrismError as error:
        return error.message
    return ""


def _await_other(directory: RunDirectory, claim: Claim) -> RunState:
    """Wake the process that delivers this run, and wait until it is done or says what holds it up."""
    (directory.delivery / "wake").touch()
    woken = now()
    live = LiveState(directory)
    deadline = time.monotonic() + PATIENCE_SECONDS
    pending = live.state.pending
    while time.monotonic() < deadline:
        state = live.poll()
        if state.pending == 0 and not state.awaits_registration:
            return state
        if any(tracker.problem_time > woken for tracker in state.trackers.values()):
            break
        if state.pending != pending:
            pending, deadline = state.pending, time.monotonic() + PATIENCE_SECONDS
        time.sleep(0.1)
    owner = claim.owner()
    who = f"process {owner.pid} on {owner.host}" if owner else "another process"
    problem = "; ".join(tracker.problem for tracker in live.state.trackers.values() if tracker.problem)
    raise Unreachable(
        f"{directory.run_id} is being delivered by {who}, which does not get on: {problem or 'no reason given'}"
    )


def _secrets(directory: RunDirectory) -> dict[str, Any]:
    """The secrets of the project's configuration as it stands now: the run's own copy has none."""
    current = _current_config(directory)
    return current.secrets() if current is not None else {}


def _current_config(directory: RunDirectory) -> Configuration | None:
    file = read_state(directory).configuration.get("config_file", "")
    try:
        return open_project(directory.project / file).config
    except PrismError:
        return None  # then the server says that it wants a password
