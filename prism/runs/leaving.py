"""How a process that has begun a run itself comes to its end, as far as Python tells before it is over."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable
from opcode import opname
from typing import Any, NoReturn

from attrs import define


@define
class Leaving:
    """What may be the cause of this process's end, and who is to be told it."""

    tell: Callable[[BaseException | None], None]
    before: BaseException | None
    called: SystemExit | None = None

    def leave(self, status: Any = None, /) -> NoReturn:
        """`sys.exit`, remembered: of what it raises Python tells no hook."""
        self.called = SystemExit(status)
        raise self.called

    def end(self) -> None:
        """At the exit of the interpreter, when the threads it waits for have ended: tell the cause."""
        unhandled = _last_unhandled()
        if unhandled is not None and unhandled is not self.before:
            self.tell(unhandled)
        else:
            self.tell(None if self.called is None or _was_caught(self.called) else self.called)


def watch_the_end(tell: Callable[[BaseException | None], None]) -> None:
    """Have `tell` called when the interpreter exits: with the exception that it exits with, None if it knows of none.

    `raise SystemExit(3)` is not known to it, nor `exit(3)`; what calls `sys.exit` is.
    """
    leaving = Leaving(tell, _last_unhandled())
    sys.exit = leaving.leave
    atexit.register(leaving.end)


def _last_unhandled() -> BaseException | None:
    """The exception that Python has reported last; it does so before any hook, whoever has replaced that."""
    if hasattr(sys, "ps1"):  # at a prompt the next line goes on
        return None
    found: BaseException | None = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    return found


def _was_caught(error: BaseException) -> bool:
    """Whether the outermost frame that the exception reached has returned all the same."""
    if error.__traceback__ is None:
        return False
    frame = error.__traceback__.tb_frame
    return opname[frame.f_code.co_code[frame.f_lasti]].startswith("RETURN_")
