"""What each expected failure becomes: a sentence on stderr and an exit code."""

from __future__ import annotations

import signal
from collections.abc import Callable

from prism.cli.output import talk
from prism.errors import PrismError, Stopped


def exit_code_of(work: Callable[[], object], *, before: Callable[[Exception], None] = lambda error: None) -> int:
    """Do the work and return the process's exit code: what `work` returns if that is a number, else 0.

    Of a `PrismError`, Ctrl-C and a signal it is theirs; the error is said, after `before` was called with it. Any
    other exception is raised.
    """
    try:
        code = work()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Stopped as error:
        return 128 + error.signal_number
    except PrismError as error:
        before(error)
        say_error(str(error))
        return error.exit_code
    return code if isinstance(code, int) else 0


def say_error(text: str) -> None:
    """One error for the person, without the credentials that an address in it may hold."""
    talk(without_credentials(f"error: {text}"))


def without_credentials(text: str) -> str:
    from prism.config.secrets import mask_urls  # only where something is wrong already

    return mask_urls(text)
