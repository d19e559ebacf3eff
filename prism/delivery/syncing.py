"""Delivering what is pending, by hand: from any machine that sees the run directory."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from attrs import define

from prism.delivery.awaiting import await_delivery, is_delivered, why_pending
from prism.delivery.channels import Delivery
from prism.delivery.claim import Claim, ClaimLost, wish
from prism.delivery.reopening import reopen_with_secrets
from prism.delivery.watch import Watch
from prism.errors import Unreachable
from prism.journal.directory import RunDirectory
from prism.journal.identity import ProcessIdentity
from prism.journal.state import LiveState, RunState, read_cached, refresh_summary, write_run_summary
from prism.project import Project

PATIENCE_SECONDS = 60.0
HAND_OVER_SECONDS = 5.0


def read_finished(directory: RunDirectory) -> Mapping[str, Any] | None:
    """`RunState.as_json` of a run that has ended and is delivered, from its cache; None when that is not sure."""
    cached = read_cached(directory)
    if cached is None or cached["pending"]:
        return None
    awaits = cached["status"] == "FINISHED" and (cached["model"] or {}).get("state") == "pending"
    return None if awaits else cached


def sync_run(directory: RunDirectory) -> RunState:
    """Deliver everything that the trackers of one run do not have yet; returns the run's state after it.

    While another process delivers this run, asks it to hand over if it is held up, and else waits for it.
    Raises `Unreachable` when a server does not answer; what was delivered until then counts.
    """
    watch = Watch(directory)
    try:
        state = watch.look(seconds=0.0)
        if not is_delivered(state):
            state = _sync(watch.live)
    finally:
        watch.close()
    refresh_summary(state)
    return state


def _sync(live: LiveState) -> RunState:
    taking = _Taking(live, Claim(live.directory))
    delivery = taking.delivery()
    if delivery is None:
        wish(live.directory)
        until = partial(_is_delivered_or_mine, taking=taking)
        state = await_delivery(live, silence=PATIENCE_SECONDS, grace=HAND_OVER_SECONDS, until=until)
        delivery = taking.made
        if delivery is None:
            return _checked(state, by=taking.claim.owner())
    return _deliver(delivery)


@define
class _Taking:
    """The attempt to become the deliverer: `made` is the delivery once it succeeds."""

    live: LiveState
    claim: Claim
    made: Delivery | None = None
    _project: Project | None = None

    def delivery(self) -> Delivery | None:
        """The delivery by this process, None while another one is at work."""
        if self.made is None and self.claim.is_free():
            if self._project is None:  # before the claim: what cannot be read makes no delivery file
                self._project = reopen_with_secrets(self.live.state)
            journal = self.claim.take()
            if journal is not None:
                self.made = Delivery(self.live.directory, self._project, journal, tries=1, live=self.live)
        return self.made


def _is_delivered_or_mine(state: RunState, *, taking: _Taking) -> bool:
    return is_delivered(state) or taking.delivery() is not None


def _deliver(delivery: Delivery) -> RunState:
    """Deliver all there is. Raises what held a tracker up, when all others have been served."""
    live = delivery.live
    try:
        troubles = delivery.drain()
    except ClaimLost:
        return _checked(await_delivery(live, silence=PATIENCE_SECONDS), by=Claim(live.directory).owner())
    finally:
        delivery.end()
    state = live.poll()
    if troubles:
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
