"""Delivering what is pending, by hand: from any machine that sees the run directory."""

from __future__ import annotations

from functools import partial
from typing import Any

from attrs import define

from prism.config import Configuration
from prism.delivery.awaiting import await_delivery, is_delivered, why_pending
from prism.delivery.channels import Delivery
from prism.delivery.claim import Claim, ClaimLost, wish
from prism.delivery.node import reopen_project
from prism.delivery.watch import look_at
from prism.errors import PrismError, Unreachable
from prism.journal.directory import RunDirectory
from prism.journal.identity import ProcessIdentity
from prism.journal.records import JournalWriter
from prism.journal.state import RunState, read_state, write_run_summary
from prism.project import Project, open_project

PATIENCE_SECONDS = 60.0
HAND_OVER_SECONDS = 5.0


def sync_run(directory: RunDirectory) -> RunState:
    """Deliver everything that the trackers of one run do not have yet; returns the run's state after it.

    While another process delivers this run, asks it to hand over if it is held up, and else waits for it.
    Raises `Unreachable` when a server does not answer; what was delivered until then counts.
    """
    state = look_at(directory)
    if is_delivered(state):
        return state
    taking = _Taking(directory, Claim(directory))
    if not taking.has_claim():
        wish(directory)
        until = partial(_is_delivered_or_mine, taking=taking)
        state = await_delivery(directory, silence=PATIENCE_SECONDS, grace=HAND_OVER_SECONDS, until=until)
        if taking.journal is None:
            return _checked(state, by=taking.claim.owner())
    assert taking.journal is not None
    return _deliver(directory, taking.journal)


def reopen_with_secrets(directory: RunDirectory) -> Project:
    """The run's project as the run had it, with the secrets of the project's configuration as it stands now."""
    return reopen_project(directory, secrets=_secrets(directory))


@define
class _Taking:
    """The attempt to become the deliverer: `journal` is set once it succeeds."""

    directory: RunDirectory
    claim: Claim
    journal: JournalWriter | None = None

    def has_claim(self) -> bool:
        self.journal = self.journal or self.claim.take()
        return self.journal is not None


def _is_delivered_or_mine(state: RunState, *, taking: _Taking) -> bool:
    return is_delivered(state) or taking.has_claim()


def _deliver(directory: RunDirectory, journal: JournalWriter) -> RunState:
    """Deliver with the claim `journal`. Raises what held a tracker up, when all others have been served."""
    try:
        delivery = Delivery(directory, reopen_with_secrets(directory), journal, tries=1)
    except BaseException:
        journal.write("end", {"status": "FAILED", "exit_code": 1, "error": ""})
        journal.close()
        raise
    try:
        troubles = delivery.drain()
    except ClaimLost:
        return _checked(await_delivery(directory, silence=PATIENCE_SECONDS), by=Claim(directory).owner())
    finally:
        delivery.end()
    state = read_state(directory)
    write_run_summary(state)
    for trouble in troubles.values():
        raise trouble
    held = [tracker.problem for tracker in state.trackers.values() if tracker.held]
    if held:
        raise Unreachable(f"{state.pending} records pending: {'; '.join(held)}")
    return state


def _checked(state: RunState, *, by: ProcessIdentity | None) -> RunState:
    """The state when another process has delivered. Raises `Unreachable` when it does not get on."""
    if is_delivered(state):
        return state
    who = f"process {by.pid} on {by.host}" if by else "another process"
    problem = why_pending(state) or "no reason given"
    raise Unreachable(f"{state.run_id} is being delivered by {who}, which does not get on: {problem}")


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
