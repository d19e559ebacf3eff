"""How far long work is, on stderr: a moving bar on a terminal, elsewhere a line every few seconds."""

from __future__ import annotations

import os
import sys
import time
from typing import TextIO

_BAR = 24
_REDRAW_SECONDS = 0.1
_LINE_SECONDS = 5.0


class ProgressBar:
    """Call it with (done, total) as the work goes on; the call with done == total is the last that shows."""

    def __init__(self, label: str, *, stream: TextIO | None = None) -> None:
        self._label = label
        self._stream = stream or sys.stderr
        plain = any(os.environ.get(name) for name in ("NO_COLOR", "CI")) or os.environ.get("TERM") == "dumb"
        self._moving = self._stream.isatty() and not plain
        self._begun: tuple[float, int] | None = None
        self._shown = 0.0
        self._over = False

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._begun is None:
            self._begun, self._shown = (now, done), now  # what an earlier evaluation has done counts for no rate
        wait = _REDRAW_SECONDS if self._moving else _LINE_SECONDS
        if self._over or (done < total and now - self._shown < wait):
            return
        self._shown = now
        self._over = done >= total
        self._stream.write(self._text(done, total, seconds=now - self._begun[0], here=done - self._begun[1]))
        self._stream.flush()

    def _text(self, done: int, total: int, *, seconds: float, here: int) -> str:
        rate = here / seconds if seconds > 0 else 0.0
        left = _clock((total - done) / rate) if rate else "?"
        counts = f"{done}/{total}  {rate:.1f}/s  " + (_clock(seconds) if self._over else f"{left} left")
        if not self._moving:
            return f"{self._label}: {counts}\n"
        filled = _BAR * done // max(total, 1)
        return f"\r{self._label} {'█' * filled}{'░' * (_BAR - filled)} {counts}\x1b[K" + ("\n" if self._over else "")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
