"""The errors a user can meet, each with the exit code that the command line gives for it."""

from __future__ import annotations


class PrismError(Exception):
    """What went wrong, where, and what to do about it.

    `message` says what and where; `hint`, when there is one, says what would be right.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class WorkFailed(PrismError):
    """The work itself failed, or a check found something (exit 1)."""


class UsageError(PrismError):
    """The command or the configuration is wrong, and nothing was started (exit 2)."""

    exit_code = 2


class GateRefused(PrismError):
    """A gate refused: a taken version, a requirement that is not met (exit 3)."""

    exit_code = 3


class EnvironmentUnfit(PrismError):
    """Something the work needs is not here: a plugin, an extra, disk space, a server (exit 4)."""

    exit_code = 4


class Unreachable(EnvironmentUnfit):
    """A server did not answer; the same call may succeed later."""


class Unanswered(Unreachable):
    """A server did not answer when it was asked to make something: it may still make it, later than we ask again."""


class DataError(WorkFailed):
    """A dataset is missing, outside its root, empty, damaged, or a record is unfit."""


class Stopped(BaseException):
    """SIGTERM or Ctrl-C reached a run whose code does not look at `run.stopping`.

    Not an `Exception`, so that `except Exception` in user code does not swallow it.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by signal {signal_number}")
        self.signal_number = signal_number


def explain(error: BaseException) -> str:
    """What `error` says: the message of one of ours, type and text of any other."""
    if isinstance(error, PrismError):
        return error.message
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # user code: an error that cannot say what it is must not hide that it was
        return type(error).__name__
