"""How work that ended with or without an error is called: a run's status and an exit code."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from prism.errors import PrismError, Stopped, Unreachable, WorkFailed, explain
from prism.runs.threads import ThreadFailed


def ending_of(error: BaseException | None) -> tuple[str, int]:
    """(status, exit code) of a run whose work ended with `error`."""
    if error is None:
        return "FINISHED", 0
    if isinstance(error, Stopped):
        return "KILLED", 128 + error.signal_number
    if isinstance(error, KeyboardInterrupt):
        return "KILLED", 130
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        return ("FINISHED" if code == 0 else "FAILED"), code
    if isinstance(error, Unreachable):  # 4 says that the environment must be mended first, here it can be run again
        return "FAILED", WorkFailed.exit_code
    return "FAILED", getattr(error, "exit_code", 1)


def speaks_for_itself(error: BaseException) -> bool:
    """Whether `prism run` shows the traceback of `error`, so that the log of the output has it."""
    told = isinstance(error, ThreadFailed)  # by Python, when the thread ended
    return told or (isinstance(error, Exception) and not isinstance(error, PrismError))


def summary_of(error: BaseException) -> str:
    """The first line of what `error` says."""
    return explain(error).partition("\n")[0]


def write_traceback(error: BaseException, path: Path, *, redact: Callable[[str], str]) -> None:
    """Keep the traceback of what ended a run, without its secrets."""
    with suppress(OSError):  # no disk for it: it has been shown, and its last line goes to the journal
        text = redact("".join(traceback.format_exception(error)))
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
