"""SIGTERM and SIGHUP in a script of the user's own: a last word to the journal, then the end that they always make.

Before Linux 6.15 the kernel tells nobody but the parent which signal has ended a process. So the process says it
itself, without being any harder to end: whoever sends the signal sees what he would see without Prism.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import FrameType

from attrs import define

from prism.delivery.exits import end_of
from prism.journal.directory import RunDirectory
from prism.journal.opening import open_journal
from prism.journal.writer import aloof, room_of
from prism.runs.forking import hold_at_forks
from prism.runs.handle import Run

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
_GRACE_SECONDS = 0.5


@define(eq=False)
class LastWord:
    """In place of a signal's default action: `say` which signal it was, then that action itself.

    Equal to `SIG_DFL`: whoever looks for a handler that he should call, too, finds none, as without Prism. The
    hash is its own, because `signal.getsignal` finds `SIG_DFL` by its hash and must find this object.
    """

    say: Callable[[int], None]

    def __call__(self, number: int, _: FrameType | None = None) -> None:
        try:
            self.say(number)
        finally:  # whatever the disk does
            _take_default(number)
            os.kill(os.getpid(), number)

    def __eq__(self, other: object) -> bool:
        return other is self or other == signal.SIG_DFL

    __hash__ = object.__hash__


@define
class Standing:
    """The last word that stands in this process, and the pipe by which a thread learns of signals."""

    word: LastWord
    reading: int = -1
    writing: int = -1
    has_pipe: bool = False

    def listen(self) -> None:
        """Start what ends the process when the main thread does not: it may be in a call that never returns."""
        reading, writing = (aloof(descriptor) for descriptor in os.pipe())
        os.set_blocking(writing, False)
        before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        if before != -1:  # an event loop of the user's has it
            signal.set_wakeup_fd(before)
            _close(reading, writing)
            return
        self.reading, self.writing, self.has_pipe = reading, writing, True
        threading.Thread(target=_relay, args=(reading, self.word), name="prism-signals", daemon=True).start()

    def deafen(self) -> None:
        """Give the pipe's place back; the thread ends when it is closed."""
        found = signal.set_wakeup_fd(-1)
        if found not in (-1, self.writing):
            signal.set_wakeup_fd(found)


_standing: list[Standing] = []


def say_end_of(runs: Iterable[Run], number: int) -> None:
    """Say of each run that this signal has ended its process here.

    Each in a journal file of its own: the signal may have come in the midst of a record.
    """
    for run in runs:
        if run.status == "RUNNING":
            directory = RunDirectory(run.directory)
            room_of(directory.journal / f"{run.journal_file}.jsonl").unlink(missing_ok=True)
            journal = open_journal(directory, f"signal-{run.journal_file}", role="signal")
            journal.write("end", {"of": run.journal_file, **end_of(number)})
            journal.close()


def stand_in(say: Callable[[int], None]) -> None:
    """Have `say` called before SIGTERM and SIGHUP end this process, where they would.

    Does nothing outside the main thread, and for a signal that somebody else handles or ignores.
    """
    if _standing or threading.current_thread() is not threading.main_thread() or os.getpid() == 1:
        return  # the first process of a container has no default action: these signals do not end it
    taken = [number for number in _SIGNALS if _is_default(number)]
    if taken:
        standing = Standing(LastWord(say))
        _standing.append(standing)
        for number in taken:
            signal.signal(number, standing.word)
        standing.listen()


def put_back() -> None:
    """The signals as they were, but for those that somebody else has taken since; only in the main thread."""
    if not _standing or threading.current_thread() is not threading.main_thread():
        return
    standing = _standing.pop()
    for number in _ours():
        signal.signal(number, signal.SIG_DFL)
    if standing.has_pipe:
        standing.deafen()
        _close(standing.writing)


def _relay(reading: int, word: LastWord) -> None:
    """Say the last word where the main thread has not said it by itself for a while."""
    with suppress(OSError):
        while numbers := os.read(reading, 64):
            for number in numbers:
                if number in _ours():
                    time.sleep(_GRACE_SECONDS)
                    if number in _ours():
                        word(number)
    _close(reading)


def _ours() -> list[signal.Signals]:
    """The signals for which a last word stands now."""
    return [number for number in _SIGNALS if isinstance(signal.getsignal(number), LastWord)]


def _is_default(number: signal.Signals) -> bool:
    """Whether nobody handles or ignores the signal; code that is not Python's neither."""
    if signal.getsignal(number) is not signal.SIG_DFL:
        return False
    with suppress(OSError):  # not on macOS
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("SigCgt:"):
                return not int(line.split()[1], 16) >> (number - 1) & 1
    return True


def _take_default(number: int) -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(number, signal.SIG_DFL)
        return
    import ctypes  # Python's own way is for the main thread alone

    set_handler = ctypes.pythonapi.PyOS_setsig
    set_handler.argtypes, set_handler.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    set_handler(number, None)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        with suppress(OSError):  # user code may have closed what it found open
            os.close(descriptor)


def _leave_to_parent() -> None:
    """After a fork: it is the parent's run, and a signal ends the child as whoever sent it expects."""
    for number in _ours():
        signal.signal(number, signal.SIG_DFL)
    while _standing:
        standing = _standing.pop()
        if standing.has_pipe:
            standing.deafen()
            _close(standing.reading, standing.writing)


hold_at_forks(_SIGNALS, handled=lambda: bool(_standing), in_child=_leave_to_parent)
