"""A worker does not outlive the command that has started it, also when that is killed and can say nothing."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable

from prism.delivery.exits import open_pidfd
from prism.journal.directory import RunDirectory
from prism.journal.identity import ProcessIdentity
from prism.journal.records import read_journal

_LOOK_SECONDS = 1.0


def die_with_launcher(directory: RunDirectory, *, attempt: int, rank: int, last_words: Callable[[], None]) -> None:
    """Kill this process when `prism run`, or the launcher that it has started, is no more, after `last_words`.

    At once and for good, as whoever killed the command meant it: a worker that went on to save would still
    be at work when the next attempt begins.
    """
    parent = ProcessIdentity.of(os.getppid())
    watched = [process for process in (parent, _command(directory, attempt=attempt, rank=rank)) if process]

    poll = select.poll()
    for process in watched:
        pidfd = open_pidfd(process)
        if pidfd is not None:
            poll.register(pidfd, select.POLLIN)

    def watch() -> None:
        while not any(_is_dead(process) for process in watched):
            for descriptor, _ in poll.poll(_LOOK_SECONDS * 1000):
                if not any(_is_dead(process) for process in watched):
                    poll.unregister(descriptor)  # user code has closed what it found open: it is not ours any more
        try:
            last_words()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="prism-launcher", daemon=True).start()


def _command(directory: RunDirectory, *, attempt: int, rank: int) -> ProcessIdentity | None:
    """The `prism run` that this rank belongs to, if it is of this machine."""
    for stem in (f"a{attempt}-launch-r{rank}", f"a{attempt}-launch"):
        path = directory.journal / f"{stem}.jsonl"
        if path.is_file():
            start = next((one for one in read_journal(path).records if one.kind == "start"), None)
            process = ProcessIdentity.load(start.data["process"]) if start else None
            return process if process and process.is_here() else None
    return None


def _is_dead(process: ProcessIdentity) -> bool:
    """Whether it is gone, seen twice: a look fails too when user code closes the file that it reads."""
    return not process.is_alive() and not process.is_alive()
