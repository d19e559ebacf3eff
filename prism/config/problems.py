"""What can be wrong with a configuration: problems with their place, raised all at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from prism.errors import EnvironmentUnfit, UsageError

if TYPE_CHECKING:
    from prism.config.nodes import Node


@frozen
class Problem:
    """One thing that is wrong: where, at which key, what, and what would be right.

    `file` is a path, "environment" or "command line"; `line` and `column` count from 1 and are 0
    where a place has none; `key` is the path of the key ("" for the whole file). `unfit` is true
    when the configuration may be right and this environment lacks what it names.
    """

    file: str
    line: int
    column: int
    key: str
    message: str
    hint: str = ""
    unfit: bool = False

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        where = f"{place}  {self.key}: " if self.key else f"{place}: "
        return f"{where}{self.message}" + (f"\n    hint: {self.hint}" if self.hint else "")


class ConfigurationError(UsageError):
    """The configuration is wrong; `problems` holds everything that was found (exit 2).

    When every problem is a plugin that cannot load here, `exit_code` is that of `EnvironmentUnfit`.
    `partial` is what a reader could still make of its file, so that the rest is checked as well.
    """

    def __init__(self, problems: Iterable[Problem], *, partial: Node | None = None) -> None:
        self.problems = tuple(problems)
        self.partial = partial
        super().__init__("\n".join(map(str, self.problems)))
        if self.problems and all(problem.unfit for problem in self.problems):
            self.exit_code = EnvironmentUnfit.exit_code


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A hint that names the closest of `choices`, or all of them when they are few and none is close."""
    known: Sequence[str] = sorted(choices)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known here: {', '.join(known)}" if 0 < len(known) <= 12 else ""
