"""Bringing one file from a server: what has arrived is kept over a lost connection where the server can go on."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import requests
from attrs import define, field

from prism.errors import Unreachable
from prism.runs.progress import Progress, progress
from prism_data.cache import unwritable
from prism_data.transport import Transport, file_name

if TYPE_CHECKING:
    from hashlib import _Hash

_CHUNK = 1 << 20
_MEGABYTE = 1_000_000
_SMALL = 20 * _MEGABYTE  # no progress is shown for what is shorter
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")

_LOGGER = logging.getLogger(__name__)


@define
class Download:
    """The file at `url` on its way into the file `copy`: so far `size` bytes.

    `etag` names the content for its server ("" where it has no strong name for it).
    """

    transport: Transport
    url: str
    copy: Path
    size: int = 0
    etag: str = ""
    _digest: _Hash = field(factory=hashlib.sha256)

    @property
    def sha256(self) -> str:
        """The sha256 of what has come, in hex."""
        return self._digest.hexdigest()

    def receive(self, *, known: str = "") -> bool:
        """Bring the file, or the rest of it; False when the server says that it still is what `known` names.

        Raises `Unreachable` when the connection is lost: the same call then goes on. Otherwise as
        `Transport.open` does, and `EnvironmentUnfit` when `copy` cannot be written.
        """
        headers = {"Accept-Encoding": "identity"}
        if self.size and self.etag:
            headers |= {"Range": f"bytes={self.size}-", "If-Range": self.etag}
        elif known:
            headers["If-None-Match"] = known
        with self.transport.open(self.url, headers=headers) as response:
            if response.status_code == requests.codes.not_modified:
                return False
            total = self._continue(response) if response.status_code == 206 else self._begin(response)
            with _progress(file_name(self.url), total, self.size) as bar:
                for chunk in response.iter_content(_CHUNK):
                    before = self.size
                    self._append(chunk)
                    bar.advance(self.size // _MEGABYTE - before // _MEGABYTE)
        if total is not None and self.size != total:
            arrived, self.etag = self.size, ""
            raise Unreachable(f"{self.transport.shown(self.url)}: {arrived} bytes of {total} have come")
        return True

    def _begin(self, response: requests.Response) -> int | None:
        """Forget what came before; the file's length, None when the server does not say it."""
        self.size, self._digest = 0, hashlib.sha256()
        etag, encoded = response.headers.get("ETag", ""), "Content-Encoding" in response.headers
        self.etag = etag if etag.startswith('"') and not encoded else ""
        length = response.headers.get("Content-Length", "")
        if not length.isdecimal() and "Transfer-Encoding" not in response.headers:
            shown = self.transport.shown(self.url)
            _LOGGER.warning("%s: its server does not say how long it is, so a cut would not be seen", shown)
        return int(length) if length.isdecimal() and not encoded else None

    def _continue(self, response: requests.Response) -> int | None:
        """Check that the part begins where we are; the whole file's length."""
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != self.size:
            self.size, self.etag = 0, ""
            raise Unreachable(f"{self.transport.shown(self.url)}: its server sends another part than was asked for")
        return int(found[2]) if found[2] != "*" else None

    def _append(self, chunk: bytes) -> None:
        try:
            with self.copy.open("r+b" if self.size else "wb") as stream:
                stream.seek(self.size)
                stream.write(chunk)
        except OSError as error:
            raise unwritable(self.copy.parent, error) from error
        self._digest.update(chunk)
        self.size += len(chunk)


@contextmanager
def _progress(title: str, total: int | None, done: int) -> Iterator[Progress]:
    shown = (total or 0) >= _SMALL and os.environ.get("RANK", "0") == "0"
    megabytes = None if total is None else total // _MEGABYTE
    with progress(title, total=megabytes, unit="megabyte", done=done // _MEGABYTE, rank=0 if shown else 1) as bar:
        yield bar
