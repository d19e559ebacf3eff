"""Turns at writing to a SQLite file, between all processes of this machine that do so through Prism.

SQLite waits by asking again and again, up to a time-out: among many writers one may be unlucky each time, and is told
that the database is locked. The kernel's queue for a lock lets nobody wait for ever, and costs nothing to wait in.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import define, field
from mlflow.exceptions import MlflowException

LONGEST_WAIT = 30.0
_READING = ("get_", "search_", "list_")
_LOCKED = re.compile(r"database (table )?is locked")
_TRIES = 5


def in_turn(database: Path, name: str, call: Callable[[], Any]) -> Any:
    """`call()`, the store's method `name`, alone among the writers if it writes.

    Whoever writes without asking for a turn, such as MLflow's own server, can still be in the way: then
    it is tried again.
    """
    if name.startswith(_READING):
        return call()
    for _ in range(_TRIES):
        with _turn(database.parent):
            try:
                return call()
            except MlflowException as error:  # rolled back, so nothing of it was written
                if not _LOCKED.search(str(error)):
                    raise
        time.sleep(0.2)
    with _turn(database.parent):
        return call()


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """The only writer in this folder; or, after `LONGEST_WAIT`, one more: SQLite keeps the data whole all the same."""
    # the folder itself is locked: closing any descriptor of a database would drop SQLite's own locks on it
    turn = _Turn(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    try:
        turn.wait(LONGEST_WAIT)
        yield
    finally:
        turn.leave()


@define
class _Turn:
    """A place in the kernel's queue for a lock. The kernel frees the lock of a process that dies."""

    descriptor: int
    _came: threading.Event = field(factory=threading.Event)
    _left: bool = False
    _lock: threading.Lock = field(factory=threading.Lock)

    def wait(self, seconds: float) -> None:
        """Wait until the turn comes, `seconds` at most."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._came.set()
        except BlockingIOError:
            # in the queue, not asking again and again: whoever asks most often would get it
            threading.Thread(target=self._queue, daemon=True, name="prism-mlflow-turn").start()
            self._came.wait(seconds)

    def leave(self) -> None:
        """End the turn, or the waiting for it."""
        with self._lock:
            self._left = True
            if self._came.is_set():
                os.close(self.descriptor)

    def _queue(self) -> None:
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)
        with self._lock:
            if self._left:
                os.close(self.descriptor)
            self._came.set()
