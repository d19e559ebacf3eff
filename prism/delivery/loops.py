"""A thread for each thing that talks to a server, so that none waits for another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from attrs import define, field

from prism.delivery.claim import ClaimLost
from prism.errors import PrismError, WorkFailed, explain

IDLE_SECONDS = 1.0
LONGEST_PAUSE = 30.0
HANG_SECONDS = 600.0


@define
class Loop:
    """Does `work` again and again: at once when nudged, after a second, after more and more while it fails.

    `work` returns whether there was anything to do. `trouble` is what it raised last, None when it went well;
    `report` is told each time. `rests` is true between two turns. `news` is set after each turn.
    """

    name: str
    work: Callable[[], bool]
    report: Callable[[PrismError], None]
    news: threading.Event
    over: threading.Event
    trouble: PrismError | None = None
    rests: bool = False
    allowed: float = HANG_SECONDS
    _busy_since: float = 0.0
    _nudged: threading.Event = field(factory=threading.Event)

    def start(self) -> None:
        """Begin, in a thread that the end of the process does not wait for: a call may never return."""
        self._busy_since = time.monotonic()
        threading.Thread(target=self._run, name=f"prism-{self.name}", daemon=True).start()

    def nudge(self) -> None:
        """End the pause, if it is in one, else leave out the next."""
        self._nudged.set()

    def sign(self, *, allowed: float = HANG_SECONDS) -> None:
        """Said by `work` before each call to a server, which may take `allowed` seconds."""
        self._busy_since, self.allowed = time.monotonic(), allowed

    def hangs(self) -> bool:
        """Whether a call has not returned in the time it was allowed; the first time it is reported."""
        silent = time.monotonic() - self._busy_since
        if self.rests or silent <= self.allowed:
            return False
        if self.trouble is None:
            self.trouble = WorkFailed(f"{self.name} has not returned from a call for {silent:.0f} s")
            self.report(self.trouble)
        return True

    def _run(self) -> None:
        pause = IDLE_SECONDS
        while not self.over.is_set():
            self._nudged.clear()
            try:
                self.sign()
                moved = self.work()
                self.trouble, pause = None, IDLE_SECONDS
            except ClaimLost:
                self.over.set()
                break
            except (Exception, SystemExit) as error:  # the plugin boundary: later again, and nobody else is held up
                moved, pause = False, min(pause * 2, LONGEST_PAUSE)
                self.trouble = _explained(error, self.name)
                self.report(self.trouble)
            if not moved:
                self.rests = True
                self.news.set()
                self._nudged.wait(pause)
                self.rests = False
        self.news.set()


def _explained(error: BaseException, name: str) -> PrismError:
    """What a plugin raised, as an error that says whose it is."""
    if isinstance(error, PrismError):
        return error
    return WorkFailed(f"{name} failed: {explain(error)}")
