"""How far long work has got: a moving bar on a terminal, a line every few seconds elsewhere, on rank 0 only."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TextIO

from attrs import define, field

_LINE_SECONDS = 5.0
_BAR_SECONDS = 0.1


class Progress(Protocol):
    """What `progress` gives to the work."""

    def advance(self, count: int = 1, text: str = "") -> None:
        """`count` further units are done; `text` (kept until the next one) is shown beside them."""
        ...


@contextmanager
def progress(
    title: str,
    *,
    total: int | None,
    unit: str = "step",
    done: int = 0,
    rank: int = 0,
    stream: TextIO | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Iterator[Progress]:
    """Show on `stream` (stderr) how much of `total` units is done, the rate and the time left.

    `done` units were done before (a resumed run); they do not count in the rate. `total` None
    shows the count alone. Ranks other than 0 show nothing.
    """
    stream = stream or sys.stderr
    if rank != 0:
        yield Silence()
    elif _moves(stream, environ):
        with _bar(title, total=total, unit=unit, done=done, stream=stream) as bar:
            yield bar
    else:
        lines = Lines(title, total, unit, stream, done)
        yield lines
        lines.close()


class Silence:
    """Shows nothing."""

    def advance(self, count: int = 1, text: str = "") -> None:
        return None


@define
class Lines:
    """A line every 5 seconds, and a last one."""

    title: str
    total: int | None
    unit: str
    stream: TextIO
    done: int = 0
    text: str = ""
    clock: Callable[[], float] = time.monotonic
    _before: int = field(init=False)
    _began: float = field(init=False)
    _shown: float = field(init=False)
    _written: tuple[int, str] | None = None

    def __attrs_post_init__(self) -> None:
        self._before = self.done
        self._began = self._shown = self.clock()

    def advance(self, count: int = 1, text: str = "") -> None:
        self.done += count
        self.text = text or self.text
        now = self.clock()
        if now - self._shown >= _LINE_SECONDS:
            self._shown = now
            self._write()

    def close(self) -> None:
        """Say how far it got in all, unless that has been said."""
        if self._written != (self.done, self.text):
            self._write()

    def _write(self) -> None:
        self._written = (self.done, self.text)
        elapsed = self.clock() - self._began
        rate = (self.done - self._before) / elapsed if elapsed > 0 else 0.0
        of = "" if self.total is None else f"/{self.total}"
        parts = [f"{self.title}: {self.done}{of} {self.unit}s", f"{rate:.3g} {self.unit}s/s"]
        if self.total is not None and rate > 0:
            left = self.total - self.done
            parts.append(f"{duration(left / rate)} left" if left > 0 else f"took {duration(elapsed)}")
        parts += [self.text] if self.text else []
        self.stream.write(", ".join(parts) + "\n")
        self.stream.flush()


@define
class Bar:
    """A moving bar, told at most ten times a second so that it costs a fast loop nothing."""

    display: Any
    task: Any
    clock: Callable[[], float] = time.monotonic
    _pending: int = 0
    _text: str = ""
    _told: float = 0.0

    def advance(self, count: int = 1, text: str = "") -> None:
        self._pending += count
        self._text = text or self._text
        now = self.clock()
        if now - self._told >= _BAR_SECONDS:
            self._told = now
            self.flush()

    def flush(self) -> None:
        """Tell the display what it has not been told yet."""
        self.display.update(self.task, advance=self._pending, text=self._text)
        self._pending = 0


@contextmanager
def _bar(title: str, *, total: int | None, unit: str, done: int, stream: TextIO) -> Iterator[Bar]:
    from rich.console import Console  # a terminal alone needs rich, and start-up does not
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Display
    from rich.progress import Task as DisplayTask
    from rich.text import Text

    class Rate(ProgressColumn):
        """Units per second."""

        def render(self, task: DisplayTask) -> Text:
            return Text(f"{task.speed or 0.0:.3g} {unit}s/s", style="progress.data.speed")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Display(*columns, TextColumn("{task.fields[text]}"), console=Console(file=stream)) as display:
        bar = Bar(display, display.add_task(title, total=total, completed=done, text=""))
        try:
            yield bar
        finally:
            bar.flush()


def duration(seconds: float) -> str:
    """Seconds as people read them: "42 s", "3 min 05 s", "2 h 07 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _moves(stream: TextIO, environ: Mapping[str, str]) -> bool:
    if environ.get("NO_COLOR") or environ.get("CI") or environ.get("TERM") == "dumb":
        return False
    return stream.isatty()
