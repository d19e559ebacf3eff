"""One tracker's share of a run's delivery: what it has, what waits, what is set aside, and what is wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from attrs import define, field

from prism.delivery.loops import HANG_SECONDS, Loop
from prism.delivery.outbox import Outbox
from prism.errors import PrismError, Unanswered, Unreachable, WorkFailed, explain
from prism.journal.looks import seconds_given
from prism.journal.state import TERMINAL
from prism.protocols import Record, Tracker

if TYPE_CHECKING:
    from prism.config import Named
    from prism.delivery.channels import Delivery

BATCH_RECORDS = 2000
MOST_HELD = 100
MOST_FAILURES = 3
"""Of records that are set aside: when so many fail again, the others wait for the next time."""
LATE_SECONDS = 90.0
"""How long after it was asked a server may still make something: what stands before it gives up after 60."""
LATE_VARIABLE = "PRISM_LATE_SECONDS"
FIRST_RETRY, LAST_RETRY = 60.0, 3600.0
SLOWEST = 1e6
"""Bytes a second that a file takes at worst, before a call counts as one that hangs."""


def late_seconds() -> float:
    """`LATE_SECONDS`, or what `PRISM_LATE_SECONDS` says. Raises `UsageError` when that is no number above 0."""
    return seconds_given(LATE_VARIABLE, otherwise=LATE_SECONDS)


@define
class Channel:
    """Delivers to one tracker. Its state is its own: only its loop's thread calls what changes it.

    `settled` is the run's status up to which everything was told, "" before the first time. `looks_again_at`
    is when it will look whether what the tracker did not answer was done late, on the monotonic clock; 0 if never.
    `is_making` is true during a call that may make something at the destination.
    """

    named: Named
    delivery: Delivery
    tracker: Tracker | None = None
    outbox: Outbox = field(init=False)
    loop: Loop = field(init=False)
    settled: str = ""
    looks_again_at: float = 0.0
    is_making: bool = False
    remark: str = ""
    _late: float = field(factory=late_seconds)
    _is_open: bool = False
    _closed: str = ""
    _size: int = BATCH_RECORDS
    _failures: int = 0
    _alone: int = 0
    _reasons: dict[tuple[str, int], str] = field(factory=dict)
    _problem: str = ""
    _retry_at: float = 0.0
    _retry_after: float = FIRST_RETRY

    def __attrs_post_init__(self) -> None:
        delivery = self.delivery
        self.outbox = Outbox(delivery.directory)
        self.loop = Loop(f"the tracker {self.named.name!r}", self.work, self.report, delivery.news, delivery.over)

    def work(self) -> bool:
        """Bring over what there is; returns whether anything was. Raises what holds the tracker up."""
        status, ended = self.delivery.seen  # first: everything that was said before it is then in what is brought over
        if not (self._is_open or self.delivery.is_known):
            return False
        tracker = self._opened()
        moved = False
        while batch := self.outbox.next(self._size):
            self._send(tracker, batch)
            moved = True
        self._try_held(tracker)
        if self.outbox.pass_over() or self._problem != self._standing():
            self._say_position()
        self._settle(tracker, status, ended)
        return moved

    def is_through(self, status: str) -> bool:
        """Whether everything was told up to that status, and after an end nothing may come that was asked for twice."""
        return self.settled == status and not (self.looks_again_at and status in TERMINAL)

    def hurry(self) -> None:
        """Try what is set aside again now, and end a pause."""
        self._retry_at = 0.0
        self.loop.nudge()

    def report(self, error: PrismError) -> None:
        """Say what holds the tracker up; said again each time, so that who waits sees that it was tried."""
        self._problem = self.delivery.project.config.redact(error.message)
        self._note(error)
        self.delivery.say("tracker", {"tracker": self.named.name, "problem": self._problem})

    def _opened(self) -> Tracker:
        if self._is_open and self.tracker is not None:
            return self.tracker
        tracker: Tracker = self.tracker or self.delivery.project.build("tracker", self.named)
        self.tracker = tracker
        self.delivery.check_claim()
        with self._making():
            found = tracker.open(self.delivery.tracked_run())
        known = self.delivery.live.state.trackers.get(self.named.name)
        self.outbox.begin(tracker.position(), held=known.held if known else {})
        if known and known.unanswered:  # whenever that was: clocks of two machines are not compared
            self.looks_again_at = self.looks_again_at or time.monotonic() + self._late
        if known and self.delivery.seen[0] not in TERMINAL:
            self._closed = known.closed  # an end that another deliverer has told, and that is void now
        facts = {"run_id": found.id, "url": found.url}
        self._is_open = True
        self._say_position(**facts)
        return tracker

    def _settle(self, tracker: Tracker, status: str, ended: int) -> None:
        """Tell the tracker that the run has ended, or goes on after an end; once more where it did not answer."""
        told = status if status in TERMINAL else "RUNNING"
        again = 0 < self.looks_again_at <= time.monotonic()
        if not self.delivery.part and (again or told != (self._closed or "RUNNING")):
            self.loop.sign()
            tracker.close(told, ended if told in TERMINAL else 0)
            self._closed = told
            said: dict[str, Any] = {"tracker": self.named.name, "closed": told}
            if again:
                self.looks_again_at, said["unanswered"] = 0.0, False
                self._problem = said["problem"] = self._standing()
            self.delivery.say("tracker", said)
        self.settled = status

    def _send(self, tracker: Tracker, batch: Sequence[Record]) -> None:
        """Deliver these, or learn which of them cannot be: fewer are tried next. Raises what holds all of them up."""
        self.delivery.check_claim()
        try:
            self.loop.sign(allowed=_allowed(batch))
            with self._making(batch):
                tracker.deliver(batch, self.outbox.position_after(batch))
        except WorkFailed as error:  # final: the tracker objects to the content
            if len(batch) > 1:
                self._size = max(1, len(batch) // 8)
                return
            self._refuse(batch[0], error)
        except (Exception, SystemExit) as error:  # the plugin boundary: one bad record must not hold up all others
            self._look_closer(tracker, batch, error)
            return
        self.outbox.done(batch)
        self._alone = 0
        if self._size == BATCH_RECORDS:
            self._failures = 0
        self._size = min(self._size * 2, BATCH_RECORDS)
        self._say_position()

    def _look_closer(self, tracker: Tracker, batch: Sequence[Record], error: BaseException) -> None:
        """After some tries see whether the tracker is away, or one record is what it does not take now."""
        self._note(error)
        self._failures += 1
        if self._failures < self.delivery.tries:
            raise error
        self.loop.sign()
        tracker.deliver((), self.outbox.position)  # raises when nothing at all gets through
        if len(batch) > 1:
            self._size = max(1, len(batch) // 8)
            return
        self._alone += 1
        if self._alone < self.delivery.tries or len(self.outbox.held) >= MOST_HELD:
            raise error
        self._reasons[batch[0].file, batch[0].seq] = explain(error)
        self.outbox.hold(batch[0])
        self._alone, self._retry_at = 0, time.monotonic() + self._retry_after
        self._say_position()

    def _try_held(self, tracker: Tracker) -> None:
        """Try again what was set aside: now and then, and whenever somebody asks."""
        if not self.outbox.held or time.monotonic() < self._retry_at:
            return
        failed: list[str] = []
        for key, record in tuple(self.outbox.held.items()):
            if len(failed) == MOST_FAILURES:
                break
            if record.kind == "call" and "call" in failed:  # calls stay in order
                continue
            self.delivery.check_claim()
            try:
                self.loop.sign(allowed=_allowed((record,)))
                with self._making((record,)):
                    tracker.deliver((record,), self.outbox.position)
            except WorkFailed as error:
                self._refuse(record, error)
            except (Exception, SystemExit) as error:  # the plugin boundary, as above
                self._note(error)
                self._reasons[key] = explain(error)
                self.outbox.put_last(record)
                failed.append(record.kind)
                continue
            del self.outbox.held[key]
            self._say_position()
        self._retry_at = time.monotonic() + self._retry_after
        self._retry_after = min(self._retry_after * 2, LAST_RETRY)
        if failed:
            self.report(Unreachable(self._standing()))

    @contextmanager
    def _making(self, batch: Sequence[Record] | None = None) -> Iterator[None]:
        """For a call to the tracker that may make something: its opening, and each with records `call`."""
        self.is_making = batch is None or any(record.kind == "call" for record in batch)
        try:
            yield
        finally:
            self.is_making = False

    def _note(self, error: BaseException) -> None:
        """Remember, and say, that something may be made late."""
        if isinstance(error, Unanswered):
            self.looks_again_at = time.monotonic() + self._late
            self.delivery.say("tracker", {"tracker": self.named.name, "unanswered": True})

    def _refuse(self, record: Record, error: Exception) -> None:
        what = f"{self.named.name} refused {record.kind} record {record.file}:{record.seq}: {error}"
        self.delivery.say("warning", {"message": self.delivery.project.config.redact(what)})

    def _say_position(self, **facts: str) -> None:
        said: dict[str, Any] = {"tracker": self.named.name, **facts, "position": self.outbox.position}
        held = self.outbox.held_numbers()
        known = self.delivery.live.state.trackers.get(self.named.name)
        if held or (known and known.held):
            said["held"] = held
        standing = self._standing()
        if standing != self._problem or facts:
            self._problem = said["problem"] = standing
        self.delivery.say("tracker", said)
        self.delivery.on_move()

    def _standing(self) -> str:
        """What is wrong although deliveries get through: the records that are set aside, and `remark`."""
        held = self.outbox.held
        whys = []
        if self.looks_again_at:
            whys.append(f"it did not answer when it was asked to make something; in {self._late:.0f} s we look again")
        if held:
            (file, seq), record = next(iter(held.items()))
            name = f" {record.data['name']!r}" if record.kind == "file" else ""
            why = self._reasons.get((file, seq), "not taken by an earlier deliverer")
            whys.append(f"{len(held)} set aside, the first {record.kind}{name} ({file}:{seq}): {why}")
        text = "; ".join([*whys, *([self.remark] if self.remark else [])])
        return str(self.delivery.project.config.redact(text))


def _allowed(batch: Sequence[Record]) -> float:
    """Seconds that a call with these records may take before it counts as one that hangs."""
    sizes = (record.data.get("size", 0) for record in batch if record.kind == "file")
    return HANG_SECONDS + sum(size for size in sizes if isinstance(size, int)) / SLOWEST
