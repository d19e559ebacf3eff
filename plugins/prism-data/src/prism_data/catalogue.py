"""A catalogue of datasets that is asked over HTTP: a list of `{"index": name, "path": path}` in JSON."""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit

from attrs import frozen

from prism.errors import DataError
from prism_data.transport import Transport, persist

_CHUNK = 1 << 16
_LARGEST = 64 << 20  # bytes; what is larger is no catalogue's answer

_LOGGER = logging.getLogger(__name__)


@frozen
class Catalogue:
    """Knows where datasets lie. `url` is asked with `query`, in which `{name}` stands for the dataset's name."""

    transport: Transport
    url: str
    query: str

    def place(self, name: str) -> Path | str:
        """Where the dataset lies: a path of a mounted file system, or the http(s) address of its one file.

        Raises `DataError` when the catalogue does not have exactly that name or answers something else than
        a list of entries, and as `Transport.open` does.
        """
        entries = list(_entries(persist(lambda: self._ask(name)), self._shown))
        paths = list(dict.fromkeys(path for index, path in entries if index == name))
        if not paths:
            near = difflib.get_close_matches(name, {index for index, _ in entries}, n=3)
            hint = f"did you mean {', '.join(near)}?" if near else "names are those of the catalogue, letter for letter"
            raise DataError(f"there is no dataset {name!r} in the catalogue {self._shown}", hint=hint)
        if len(paths) > 1:
            _LOGGER.warning("the catalogue %s has %d datasets %r; the first is used", self._shown, len(paths), name)
        return self._located(name, paths[0])

    @property
    def _shown(self) -> str:
        return self.transport.shown(self.url)

    def _ask(self, name: str) -> bytes:
        query = self.query.replace("{name}", quote(name, safe=""))
        joint = "" if not query else "&" if urlsplit(self.url).query else "?"
        content = bytearray()
        with self.transport.open(f"{self.url}{joint}{query}", headers={"Accept": "application/json"}) as response:
            for chunk in response.iter_content(_CHUNK):
                content += chunk
                if len(content) > _LARGEST:
                    raise DataError(f"the catalogue {self._shown} answers more than {_LARGEST >> 20} MiB")
        return bytes(content)

    def _located(self, name: str, path: str) -> Path | str:
        said = f"the catalogue {self._shown} says of {name!r}"
        if not path.isprintable() or not path.strip():
            raise DataError(f"{said} a path that is none: empty, or with control characters")
        try:
            parts = urlsplit(path)
        except ValueError:
            raise DataError(f"{said} an address that is none") from None
        if parts.scheme == "file" and parts.hostname in (None, "localhost"):
            return Path(unquote(parts.path))
        if path.startswith("/"):
            return Path(path)
        if parts.scheme not in ("", "http", "https"):
            raise DataError(
                f"{said} an address that begins with {parts.scheme}:, which this client does not read",
                hint="it reads paths of mounted file systems, file:///…, https://… and http://…",
            )
        return urljoin(self.url, path)


def _entries(content: bytes, shown: str) -> Iterator[tuple[str, str]]:
    """(index, path) of every entry of a catalogue's answer."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        raise DataError(
            f"the catalogue {shown} does not answer JSON", hint="is the address right, or a page for people?"
        ) from None
    due = 'a list of {"index": name, "path": path} is due'
    if not isinstance(answer, list):
        raise DataError(f"the catalogue {shown} answers something else than a list: {due}")
    for number, entry in enumerate(answer, start=1):
        index, path = (entry.get("index"), entry.get("path")) if isinstance(entry, dict) else (None, None)
        if not isinstance(index, str) or not isinstance(path, str):
            raise DataError(f"the catalogue {shown}: entry {number} of its answer lacks an index or a path: {due}")
        yield index, path
