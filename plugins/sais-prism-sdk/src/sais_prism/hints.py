"""One line on stderr for what a script does that has a better way today, each said once in a process."""

from __future__ import annotations

import os

from prism import Run
from prism.stderr import tell
from sais_prism.here import here

_said: set[str] = set()
_before: list[str] = []


def hint(message: str) -> None:
    """Say it on stderr, once; of several processes of a launch the first says it. The run keeps it, too."""
    if message in _said:
        return
    _said.add(message)
    if here.open_run is not None:
        here.open_run.warn(message)
    elif int(os.environ.get("RANK", 0)) == 0:
        tell(f"warning: {message}\n")
        _before.append(message)


def repeat_hints(run: Run) -> None:
    """Let a run that begins keep what was said before there was one."""
    while _before:
        run.say("warning", {"message": _before.pop(0)})
