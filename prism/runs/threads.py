"""Exceptions that end a thread and that nobody handles: the work is not whole then, and the run has FAILED."""

from __future__ import annotations

import threading
import weakref

from attrs import define

from prism.errors import WorkFailed, explain


class ThreadFailed(WorkFailed):
    """An exception nobody handled has ended a thread; its cause is that exception."""


@define(eq=False)
class ThreadFailures:
    """The first exception that has ended a thread of this process since `watch_threads`."""

    first: ThreadFailed | None = None


_watching: weakref.WeakSet[ThreadFailures] = weakref.WeakSet()
_hooks: list[object] = []


def watch_threads() -> ThreadFailures:
    """Notice from now on what ends threads. It is reported as before, by whoever did that."""
    failures = ThreadFailures()
    _watching.add(failures)
    if threading.excepthook not in _hooks:  # ours is not there, or somebody has put his own in its place
        previous = threading.excepthook

        def on_exception(arguments: threading.ExceptHookArgs, /) -> None:
            _note(arguments)
            previous(arguments)

        _hooks.append(on_exception)
        threading.excepthook = on_exception
    return failures


def others_are_alive() -> bool:
    """Whether Python will wait for other threads before it exits."""
    mine = threading.current_thread()
    return any(thread is not mine and not thread.daemon for thread in threading.enumerate())


def _note(arguments: threading.ExceptHookArgs) -> None:
    if issubclass(arguments.exc_type, (SystemExit, KeyboardInterrupt)):  # they end a thread as they should
        return
    name = arguments.thread.name if arguments.thread else "a thread"
    if name.startswith("prism-"):  # one of ours: the user's work is whole
        return
    said = explain(arguments.exc_value) if arguments.exc_value else arguments.exc_type.__name__
    failed = ThreadFailed(f"{name}: {said}".partition("\n")[0])
    failed.__cause__ = arguments.exc_value
    for failures in _watching:
        failures.first = failures.first or failed
