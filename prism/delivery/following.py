"""Delivering continuously, of all runs of a project, for compute nodes that have no network."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable

from attrs import define, field

from prism.delivery.awaiting import is_delivered, why_pending
from prism.delivery.channels import Delivery
from prism.delivery.claim import Claim, wish
from prism.delivery.reopening import reopen_with_secrets
from prism.delivery.syncing import read_finished
from prism.delivery.watch import Watch
from prism.errors import PrismError, explain
from prism.journal.directory import RunDirectory
from prism.journal.state import TERMINAL, RunState, refresh_summary
from prism.project import Project

LOOK_SECONDS = 0.5
LIST_SECONDS = 2.0
MOST_ENDED = 16
"""Runs that have ended and are delivered at the same time; those that go on are not counted."""
EVICT_SECONDS = 60.0
FIRST_WISH, LAST_WISH = 10.0, 600.0
UNREADABLE_SECONDS = 600.0
"""How long a run that cannot be read is left alone."""

Signature = tuple[tuple[str, int], ...]


def follow(
    directories: Callable[[], Iterable[RunDirectory]], *, report: Callable[[str], None], stop: threading.Event
) -> None:
    """Deliver continuously, and close runs whose node is lost, until `stop`; gives all claims back at the end.

    A run that has ended and is delivered costs a few calls of `stat` a look, until its files change. One that
    cannot be read is reported once, and looked at again every ten minutes.
    """
    following = Following(directories, report)
    try:
        while not stop.is_set():
            began = time.monotonic()
            following.look()
            # a file system on which looking takes long is not asked all the time
            stop.wait(max(LOOK_SECONDS, 2 * (time.monotonic() - began)))
    finally:
        following.end()


@define
class Following:
    """The runs that are followed now, and of the others what their files looked like when they were put away."""

    directories: Callable[[], Iterable[RunDirectory]]
    report: Callable[[str], None]
    runs: dict[RunDirectory, Followed] = field(factory=dict)
    _put_away: dict[RunDirectory, Signature] = field(factory=dict)
    _said: dict[RunDirectory, str] = field(factory=dict)
    _not_before: dict[RunDirectory, float] = field(factory=dict)
    _said_of_all: str = ""
    _listed: float = -LIST_SECONDS

    def look(self) -> None:
        """One round over all runs."""
        if time.monotonic() - self._listed >= LIST_SECONDS:
            self._find()
            self._listed = time.monotonic()
        for directory, run in tuple(self.runs.items()):
            before = _signature(directory) if run.delivery is None else ()
            try:
                goes_on = run.look(room=self._room())
                self._say(directory, run.problem)
            except (PrismError, OSError, ValueError, LookupError) as error:  # of this run; the others go on
                self._fail(directory, error)
                self.runs.pop(directory).end()
                continue
            if not goes_on:
                self.runs.pop(directory).end()
                self._put_away[directory] = before
        self._make_room()

    def end(self) -> None:
        """Give all claims back."""
        for run in self.runs.values():
            run.end()
        self.runs.clear()

    def _find(self) -> None:
        for directory in self._list():
            if directory in self.runs or time.monotonic() < self._not_before.get(directory, 0.0):
                continue
            signature = _signature(directory)
            if self._put_away.get(directory) == signature:
                continue
            try:
                finished = read_finished(directory) is not None
            except (PrismError, OSError, ValueError, LookupError) as error:  # of this run; the others go on
                self._fail(directory, error)
                continue
            if finished:
                self._put_away[directory] = signature
            else:
                self.runs[directory] = Followed(directory)

    def _list(self) -> list[RunDirectory]:
        try:
            return list(self.directories())
        except (PrismError, OSError) as error:  # a run that was named and is gone, a folder away for a moment
            self._said_of_all, before = str(error), self._said_of_all
            if self._said_of_all != before:
                self.report(self._said_of_all)
            return []

    def _fail(self, directory: RunDirectory, error: Exception) -> None:
        """Say once that a run cannot be read, and leave it alone for a while."""
        self._say(directory, _said(error))
        self._not_before[directory] = time.monotonic() + UNREADABLE_SECONDS

    def _say(self, directory: RunDirectory, problem: str) -> None:
        if problem and problem != self._said.get(directory):
            self.report(f"{directory.run_id}: {problem}")
        self._said[directory] = problem

    def _room(self) -> int:
        """How many more runs that have ended may be delivered at the same time."""
        return MOST_ENDED - sum(run.has_ended for run in self.runs.values() if run.delivery is not None)

    def _make_room(self) -> None:
        """When runs wait for their turn, let the one that is held up longest wait behind them."""
        waits = [run for run in self.runs.values() if run.waits_for_room]
        held_up = [run for run in self.runs.values() if run.has_ended and run.held_up_for() > EVICT_SECONDS]
        if waits and held_up and self._room() <= 0:
            longest = max(held_up, key=Followed.held_up_for)
            longest.end()
            self.runs[longest.directory] = self.runs.pop(longest.directory)


@define
class Followed:
    """One run: its watch while it goes on, and its delivery while nobody else's is at work.

    `problem` is what holds it up, "" when nothing does.
    """

    directory: RunDirectory
    delivery: Delivery | None = None
    problem: str = ""
    waits_for_room: bool = False
    watch: Watch | None = None
    _project: Project | None = None
    _claim: Claim = field(init=False)
    _held_up_since: float | None = None
    _wished: float = 0.0
    _wish_after: float = FIRST_WISH

    def __attrs_post_init__(self) -> None:
        self._claim = Claim(self.directory)

    @property
    def has_ended(self) -> bool:
        return self.watch is not None and self.watch.live.state.status in TERMINAL

    def held_up_for(self) -> float:
        """Seconds since when its delivery by this process is held up, 0 when it is not."""
        if self.delivery is None or self._held_up_since is None:
            return 0.0
        return time.monotonic() - self._held_up_since

    def look(self, *, room: int) -> bool:
        """Watch, and deliver; whether there is more to do. `room`: how many may be begun that have ended."""
        self.waits_for_room = False
        if self.watch is None:
            self.watch = Watch(self.directory)
        if self.delivery is not None:
            self._go_on(self.delivery)
        if self.delivery is not None and self.has_ended:
            return True
        state = self.watch.look(seconds=0.0)
        if state.status in TERMINAL and is_delivered(state):
            refresh_summary(state)
            return False
        if self.delivery is None:
            self._begin(self.watch, room=room)
        return True

    def end(self) -> None:
        """Give the claim back."""
        if self.delivery is not None:
            self.delivery.end()
            self.delivery = None
        if self.watch is not None:
            self.watch.close()
            self.watch = None

    def _go_on(self, delivery: Delivery) -> None:
        if not delivery.look():
            self.delivery = None
            delivery.end()
            self._claim.stand_back()
        self.problem = "; ".join(trouble.message for trouble in delivery.troubles.values())
        if not self.problem:
            self._held_up_since = None
        elif self._held_up_since is None:
            self._held_up_since = time.monotonic()

    def _begin(self, watch: Watch, *, room: int) -> None:
        if self.has_ended and room <= 0:
            self.waits_for_room = True
            return
        if self._claim.stands_back():
            return
        if self._project is None:  # before the claim: what cannot be read makes no delivery file
            self._project = reopen_with_secrets(watch.live.state)
        journal = self._claim.take()
        if journal is None:
            self._ask(watch.live.state)
            return
        self.delivery = Delivery(self.directory, self._project, journal, live=watch.live)
        self._held_up_since = None
        self.delivery.begin()

    def _ask(self, state: RunState) -> None:
        """Ask whoever delivers to hand over, if it says that it is held up: now and then."""
        self.problem = why_pending(state)
        if not self.problem:
            self._wish_after = FIRST_WISH
        elif not self._wished or time.monotonic() - self._wished >= self._wish_after:
            wish(self.directory)
            self._wished, self._wish_after = time.monotonic(), min(self._wish_after * 2, LAST_WISH)


def _said(error: Exception) -> str:
    return explain(error) if isinstance(error, PrismError) else f"cannot be read: {explain(error)}"


def _signature(directory: RunDirectory) -> Signature:
    """Names and sizes of all that a run's state is derived from; empty where they cannot be looked at."""
    found: list[tuple[str, int]] = []
    for folder in (directory.journal, directory.delivery):
        try:
            with os.scandir(folder) as entries:
                found += [(entry.path, entry.stat().st_size) for entry in entries if entry.name.endswith(".jsonl")]
        except OSError:
            continue
    return tuple(sorted(found))
