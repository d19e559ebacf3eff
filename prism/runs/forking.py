"""A fork while a process handles signals in ways of its own: what is sent to the child must reach the child."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable


def hold_at_forks(signals: Iterable[int], *, handled: Callable[[], bool], in_child: Callable[[], None]) -> None:
    """At every fork while `handled()`, keep `signals` waiting until `in_child` has given the child its own ways.

    One that comes before would be taken by the parent's handler in the child, and be forgotten there.
    """
    numbers, masks = tuple(signals), threading.local()

    def hold() -> None:
        masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers) if handled() else None

    def release() -> None:
        before = getattr(masks, "before", None)
        if before is not None:
            masks.before = None
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def leave() -> None:
        in_child()
        release()

    os.register_at_fork(before=hold, after_in_parent=release, after_in_child=leave)
