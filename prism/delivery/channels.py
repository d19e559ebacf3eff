"""Delivery: from the journal to the trackers, and a finished model to its registry.

Reads, sends, keeps its position, and begins again where it was: a server that is slow, down or
absent costs waiting here and nothing in the training. Each tracker and the registry has a thread of
its own, so that one that hangs holds up no other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from attrs import Factory, define, field

from prism.delivery.channel import SLOWEST, Channel
from prism.delivery.claim import Bell, ClaimLost, still_mine
from prism.delivery.loops import HANG_SECONDS, Loop
from prism.delivery.registration import has_model, register, registration
from prism.errors import PrismError
from prism.journal.directory import RunDirectory
from prism.journal.records import JournalWriter
from prism.journal.state import TERMINAL, LiveState
from prism.project import Project
from prism.protocols import RunRef, TrackedRun

LOOK_SECONDS = 0.2
POLL_SECONDS = 1.0
ASKED_SECONDS = 60.0
PATIENT_TRIES = 3


@define
class Delivery:
    """All trackers and the registry of one run, by the process that holds the claim `journal`.

    `tries` is how often one record is tried, while others get through, before it is set aside. `seen` is the
    run's status, and its end in ms, as last looked at. `on_move` is called when something was delivered.
    """

    directory: RunDirectory
    project: Project
    journal: JournalWriter
    on_move: Callable[[], None] = lambda: None
    tries: int = PATIENT_TRIES
    live: LiveState = field(default=Factory(lambda self: LiveState(self.directory), takes_self=True))
    channels: list[Channel] = field(factory=list)
    registering: Loop = field(init=False)
    seen: tuple[str, int] = ("RUNNING", 0)
    news: threading.Event = field(factory=threading.Event)
    over: threading.Event = field(factory=threading.Event)
    _wake: Bell = field(init=False)
    _wish: Bell = field(init=False)
    _asked: float | None = None
    _polled: float = 0.0
    _registered: str = ""
    _saying: threading.Lock = field(factory=threading.Lock)

    def __attrs_post_init__(self) -> None:
        config = self.project.config
        self._wake, self._wish = (Bell(self.directory.delivery / name) for name in ("wake", "wish"))
        if config.ml.enabled:
            self.channels = [Channel(named, self) for named in config.trackers]
        self.registering = Loop("the registry", self._register, self._report, self.news, self.over)

    @property
    def is_done(self) -> bool:
        """Everything is where it belongs, and nothing more will come."""
        state = self.live.state
        return state.status in TERMINAL and state.pending == 0 and not has_model(self.live)

    @property
    def is_known(self) -> bool:
        """Whether it is known what run this is, or that nobody here will say so."""
        state = self.live.state
        return bool(state.configuration or state.part or state.status in TERMINAL)

    @property
    def part(self) -> str:
        """As in `TrackedRun`."""
        return self.live.state.part

    @property
    def troubles(self) -> Mapping[str, PrismError]:
        """What holds up which of the trackers, and the registry, now."""
        return {loop.name: loop.trouble for loop in self._loops() if loop.trouble is not None}

    def begin(self) -> None:
        """Begin to serve all of them; from now on `look` must be called every now and then, and `end` at last."""
        self._poll()
        for channel in self.channels:
            if channel.named.name not in self.live.state.trackers:  # then what is pending for it is counted
                self.say("tracker", {"tracker": channel.named.name})
        for loop in self._loops():
            loop.start()

    def look(self) -> bool:
        """See what has come, and who asks; whether to go on: not when all is done, nor when another one is to deliver.

        A few calls of `stat` when there is nothing to do.
        """
        woken = self._wake.rang()
        if self._wish.rang():
            self._asked = time.monotonic()
        if woken or time.monotonic() - self._polled >= self._pause():
            status = self.seen[0]
            self._poll()
            if woken or (self.seen[0] != status and self.seen[0] in TERMINAL):
                for channel in self.channels:
                    channel.hurry()
                self.registering.nudge()
        hanging = [loop for loop in self._loops() if loop.hangs()]
        return not (self.over.is_set() or self.is_done or self._hands_over(hanging))

    def run(self, *, stop: threading.Event) -> None:
        """Deliver until all is done or `stop`, until another one has taken over, or asks and this one is held up."""
        self.begin()
        while not stop.is_set() and self.look():
            self.news.wait(LOOK_SECONDS)
            self.news.clear()
        self.end()

    def drain(self) -> Mapping[str, PrismError]:
        """Deliver once all that there is; returns what held up which. Raises `ClaimLost`."""
        self.begin()
        while not self._is_drained():
            self.news.wait(LOOK_SECONDS)
            self.news.clear()
            self._poll()
        if self.over.is_set():
            raise ClaimLost(f"another process has taken over the delivery of {self.directory.run_id}")
        return self.troubles

    def end(self) -> None:
        """Give the claim back. A call that has not returned says nothing any more when it does."""
        self.over.set()
        for loop in self._loops():
            loop.nudge()
        with self._saying:
            for channel in self.channels:
                if channel.is_making:  # and nobody will hear whether it did
                    self.journal.write("tracker", {"tracker": channel.named.name, "unanswered": True})
            self.journal.write("end", {"status": "FINISHED", "exit_code": 0, "error": ""})
            self.journal.close()

    def tracked_run(self) -> TrackedRun:
        """The run as trackers and registries are told it."""
        state, config = self.live.state, self.project.config
        ids = {name: tracker.run_id for name, tracker in tuple(state.trackers.items()) if tracker.run_id}
        return TrackedRun(
            ref=RunRef(self.directory.run_id, self.directory.path, ids),
            project=config.project,
            experiment=config.foundation.experiment_name,
            name=state.name,
            started=state.started,
            description=state.configuration.get("description", ""),
            settings=config.section("ml"),
            part=state.part,
        )

    def say(self, kind: str, data: Mapping[str, Any]) -> None:
        """Write to the deliverer's journal, from any thread; nothing once this delivery is over."""
        with self._saying:
            if not self.over.is_set():
                self.journal.write(kind, data)

    def check_claim(self) -> None:
        """Before each delivery. Raises `ClaimLost` when another process has taken over, or this delivery is over."""
        if self.over.is_set() or not still_mine(self.directory, self.journal):
            raise ClaimLost(f"another process has taken over the delivery of {self.directory.run_id}")

    def _poll(self) -> None:
        self._polled = time.monotonic()
        state = self.live.poll()
        self.seen = (state.status, state.ended)
        if self._may_register():
            self.registering.nudge()

    def _pause(self) -> float:
        """Seconds between two readings of the journal: short while the last of it is being delivered."""
        busy = self.seen[0] in TERMINAL and not self.troubles
        return LOOK_SECONDS if busy else POLL_SECONDS

    def _hands_over(self, hanging: list[Loop]) -> bool:
        asked = self._asked is not None and time.monotonic() - self._asked < ASKED_SECONDS
        return asked and bool(hanging or self.troubles or any(channel.looks_again_at for channel in self.channels))

    def _is_drained(self) -> bool:
        status = self.seen[0]
        waits = [
            channel
            for channel in self.channels
            if not channel.loop.hangs()
            and not (channel.loop.rests and (channel.loop.trouble or not self.is_known or channel.is_through(status)))
        ]
        registers = self._may_register() and not self.registering.trouble
        return self.over.is_set() or not (waits or registers)

    def _may_register(self) -> bool:
        """Whether there is a model to register now: the registry is the first tracker's, which must know the end."""
        model = self.live.state.model
        if self.seen[0] != "FINISHED" or not has_model(self.live) or (model and model["digest"] == self._registered):
            return False
        return not self.channels or (self.channels[0].settled == "FINISHED" and not self.channels[0].loop.trouble)

    def _register(self) -> bool:
        if not self._may_register():
            return False
        self.check_claim()
        size = (self.live.state.model or {})["size"]
        self.registering.sign(allowed=HANG_SECONDS + size / SLOWEST)
        told = register(self.live, self.project, run=self.tracked_run())
        self.say("registration", told)
        self._registered = told["digest"]
        for channel in self.channels[:1]:
            channel.remark = ""
            channel.loop.nudge()
        self.on_move()
        return True

    def _report(self, error: PrismError) -> None:
        """Say what holds up the registration: of the model, and at the first tracker, whose registry it is."""
        reason = self.project.config.redact(error.message)
        model = self.live.state.model
        if model is not None and model["reason"] != reason:
            self.say("registration", registration(model, "pending", reason=reason))
        for channel in self.channels[:1]:
            channel.remark = reason
            self.say("tracker", {"tracker": channel.named.name, "problem": reason})

    def _loops(self) -> Iterator[Loop]:
        yield from (channel.loop for channel in self.channels)
        yield self.registering
