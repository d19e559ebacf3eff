"""Waiting for the process that delivers a run, as long as it gets on: one rule for whoever waits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from attrs import define, field

from prism.delivery.claim import Claim, wake
from prism.journal.state import TERMINAL, LiveState, RunState

LOOK_SECONDS = 0.1
ABSENT_SECONDS = 20.0


def is_delivered(state: RunState) -> bool:
    """Whether the trackers and the registry have all there is now."""
    return state.pending == 0 and not state.awaits_registration


def is_over(state: RunState) -> bool:
    """Whether the run has ended and all of it is delivered."""
    return state.status in TERMINAL and is_delivered(state)


def await_delivery(
    live: LiveState,
    *,
    silence: float,
    longest: float = math.inf,
    grace: float = 0.0,
    until: Callable[[RunState], bool] = is_delivered,
) -> RunState:
    """Wake whoever delivers the run, and wait until `until`, or until it does not get on; the state then.

    It does not get on when it has said again of all that it cannot reach what holds them up (`grace` seconds
    later), or has moved nothing for `silence` seconds while records are pending, or when nobody delivers. For
    a registration, and for the end of other nodes, only `longest` bounds the wait, which it does as a whole.
    """
    waiting = _Waiting(live.state, Claim(live.directory))
    wake(live.directory)
    while not until(live.state) and waiting.goes_on(live.state, silence=silence, longest=longest, grace=grace):
        time.sleep(LOOK_SECONDS)
        live.poll()
    return live.state


def why_pending(state: RunState) -> str:
    """What holds up the delivery, "" when nothing was said."""
    problems = [tracker.problem for tracker in state.trackers.values() if tracker.problem]
    if state.awaits_registration and state.model and state.model["reason"]:
        problems.append(state.model["reason"])
    return "; ".join(dict.fromkeys(problems))


@define
class _Waiting:
    """What was said when the wait began, and when something moved last."""

    state: RunState
    claim: Claim
    began: float = field(factory=time.monotonic)
    moved: float = field(factory=time.monotonic)
    _before: dict[str, int] = field(factory=dict)
    _delivered: object = None
    _troubled: float | None = None

    def __attrs_post_init__(self) -> None:
        self._before = {name: tracker.problem_time for name, tracker in self.state.trackers.items()}
        self._delivered = _progress(self.state)

    def goes_on(self, state: RunState, *, silence: float, longest: float, grace: float) -> bool:
        moment = time.monotonic()
        if moment - self.began > longest:
            return False
        progress = _progress(state)
        if progress != self._delivered:
            self._delivered, self.moved = progress, moment
        if not self._is_troubled(state):
            self._troubled = None
        elif self._troubled is None:
            self._troubled = moment
        if self._troubled is not None and moment - self._troubled >= grace:
            return False
        silent = moment - self.moved
        if silent > ABSENT_SECONDS and self.claim.is_free():
            return False
        return state.pending == 0 or silent <= silence

    def _is_troubled(self, state: RunState) -> bool:
        """Whether of all that waits for something it was said since we began what holds it up."""
        waiting = {name: tracker for name, tracker in state.trackers.items() if tracker.pending}
        if not waiting and state.awaits_registration:
            waiting = dict(tuple(state.trackers.items())[:1])  # the registry is the first tracker's
        said = [t.problem and t.problem_time != self._before.get(name, 0) for name, t in waiting.items()]
        return bool(said) and all(said)


def _progress(state: RunState) -> object:
    """What changes when the delivery gets on."""
    trackers = [(t.run_id, t.closed, sum(t.position.values()), t.held) for t in state.trackers.values()]
    return repr((trackers, state.model and state.model["state"]))
