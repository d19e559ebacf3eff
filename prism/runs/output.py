"""A worker's output: shown as it comes, and kept in the run's log.

Where Prism itself talks to a terminal the worker gets a pseudo-terminal, so that colours and bars
work as without Prism; of a line that a bar has rewritten, the log keeps the last state.
"""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
import threading
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path

from attrs import define, field

from prism.errors import EnvironmentUnfit
from prism.stderr import tell

_DRAIN_SECONDS = 2.0


@define
class OutputLog:
    """The log of a worker's output, without secrets. A disk that is full costs lines of it, and never the run."""

    path: Path
    redact: Callable[[str], str]
    _stream: FileIO = field(init=False)
    _complained: bool = False

    def __attrs_post_init__(self) -> None:
        try:
            self._stream = FileIO(self.path, "ab")
        except OSError as error:
            raise EnvironmentUnfit(f"cannot write to {self.path}: {error.strerror}", hint="make room first") from error

    def keep(self, lines: Sequence[bytes]) -> None:
        """Write lines; of one that a bar has rewritten, its last state."""
        last = [line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="surrogateescape") for line in lines]
        text = "".join(self.redact(line) + "\n" for line in last)
        try:
            self._stream.write(text.encode(errors="surrogateescape"))
        except OSError as error:
            if not self._complained:
                self._complained = True
                tell(f"warning: the log {self.path} cannot be written ({error.strerror})\n")


@define
class CapturedStream:
    """One of the worker's streams, copied from `source` to `shown` and, line by line, to the log."""

    shown: int
    log: OutputLog
    child: int = field(init=False)
    _source: int = field(init=False)
    _thread: threading.Thread = field(init=False)
    _rest: bytes = b""

    def __attrs_post_init__(self) -> None:
        if os.isatty(self.shown):
            self._source, self.child = pty.openpty()
            fcntl.ioctl(self.child, termios.TIOCSWINSZ, _window_size(self.shown))
        else:
            self._source, self.child = os.pipe()
        self._thread = threading.Thread(target=self._pump, daemon=True)

    def start(self) -> None:
        """Begin to copy; the worker has the other end by now."""
        os.close(self.child)
        self._thread.start()

    def finish(self) -> None:
        """Wait for the rest; not for ever, since a process the worker left behind may hold the stream."""
        self._thread.join(_DRAIN_SECONDS)

    def _pump(self) -> None:
        while chunk := _read(self._source):
            self._keep(chunk)
            if self.shown >= 0:
                try:
                    os.write(self.shown, chunk)
                except OSError:  # whoever read our output has gone; the log goes on
                    self.shown = -1
        self._keep(b"\n" if self._rest else b"")
        os.close(self._source)

    def _keep(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if lines:
            self.log.keep(lines)


@define
class CapturedOutput:
    """Both streams of a worker, with one log."""

    log: OutputLog
    stdout: CapturedStream = field(init=False)
    stderr: CapturedStream = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.stdout = CapturedStream(1, self.log)
        self.stderr = CapturedStream(2, self.log)

    def start(self) -> None:
        self.stdout.start()
        self.stderr.start()

    def finish(self) -> None:
        self.stdout.finish()
        self.stderr.finish()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # a pseudo-terminal whose other side is closed says EIO
        return b""


def _window_size(terminal: int) -> bytes:
    try:
        return fcntl.ioctl(terminal, termios.TIOCGWINSZ, b"\0" * 8)
    except OSError:
        return struct.pack("HHHH", 24, 80, 0, 0)
