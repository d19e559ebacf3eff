"""Being asked to stop, in a worker: a flag for code that looks at it, an exception for code that does not."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

from attrs import define

from prism.errors import Stopped
from prism.journal.ends import STOPPING
from prism.runs.forking import hold_at_forks

_REPEAT_SECONDS = 2.0
"""A second signal within this time is the same request: a terminal and a launcher both pass it on."""


def heeded() -> list[signal.Signals]:
    """The signals that ask to stop, without SIGHUP where it was switched off from outside, as by nohup."""
    return [one for one in STOPPING if one != signal.SIGHUP or signal.getsignal(one) != signal.SIG_IGN]


@define
class StopRequest:
    """Whether this process was asked to stop, and by which signal.

    Code that asks (`looked`) is given the time to save and stop by itself: `told` says that it has
    got the answer "stop", `saved` that it has published a checkpoint since. Other code is stopped
    by an exception in the main thread: `KeyboardInterrupt`, which scripts know, or `Stopped`. A
    second request is always raised.
    """

    signal_number: int = 0
    looked: bool = False
    told: bool = False
    saved: bool = False
    _since: float = 0.0

    def install(self) -> None:
        """Take over SIGTERM, SIGINT and SIGHUP; only for the main thread of a process that Prism owns."""
        if threading.current_thread() is threading.main_thread():
            for number in heeded():
                signal.signal(number, self._on_signal)

    def look(self) -> bool:
        self.looked = True
        return self.signal_number != 0

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        again = self.signal_number != 0
        if again and time.monotonic() - self._since < _REPEAT_SECONDS:
            return
        self.signal_number, self._since = number, time.monotonic()
        if again or not self.looked:
            raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)


def _as_python_has_them() -> None:
    """After a fork: it is the run that is asked to stop; a child is ended by a signal, as whoever sent it expects.

    Pools end their workers with SIGTERM and wait for them: an exception in the midst of a worker may never end it.
    """
    for number in _ours():
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _ours() -> list[signal.Signals]:
    return [one for one in STOPPING if isinstance(getattr(signal.getsignal(one), "__self__", None), StopRequest)]


hold_at_forks(STOPPING, handled=lambda: bool(_ours()), in_child=_as_python_has_them)
