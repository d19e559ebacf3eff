"""Bounding what cannot bound itself: a call in a thread of its own, given up when its time is over."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from attrs import define, field

Result = TypeVar("Result")

MOST_GIVEN_UP = 8


@define
class Bounded:
    """Calls to one place, each of at most `seconds`.

    A thread that waits for a driver of a database cannot be ended. One that was given up is left to
    itself; when `MOST_GIVEN_UP` of them are waiting still, no new call is begun.
    """

    seconds: float
    _given_up: list[threading.Thread] = field(factory=list)

    def call(self, work: Callable[[], Result], *, size: float = 0.0) -> Result:
        """What `work()` returns or raises. `TimeoutError` after `seconds`, and `size` seconds more."""
        self._given_up = [thread for thread in self._given_up if thread.is_alive()]
        if len(self._given_up) >= MOST_GIVEN_UP:
            raise TimeoutError("timed out: earlier calls are still waiting for an answer")
        results: list[Result] = []
        errors: list[BaseException] = []
        thread = threading.Thread(target=_keep, args=(work, results, errors), daemon=True, name="prism-mlflow-call")
        thread.start()
        thread.join(self.seconds + size)
        if errors:
            raise errors[0]
        if not results:
            self._given_up.append(thread)
            raise TimeoutError("timed out")
        return results[0]


def _keep(work: Callable[[], Result], results: list[Result], errors: list[BaseException]) -> None:
    try:
        results.append(work())
    except BaseException as error:  # raised again where the result is waited for
        errors.append(error)
