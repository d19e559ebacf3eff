"""The data client `http`: datasets that a catalogue on a server knows, mounted here or downloaded into a cache."""

from __future__ import annotations

import hashlib
from pathlib import Path

import platformdirs

from prism.data.references import DatasetReference, parse_reference
from prism.data.versions import name_version, version_at
from prism.errors import DataError
from prism.protocols import DatasetFile, DatasetVersion
from prism_data.cache import Cache
from prism_data.catalogue import Catalogue
from prism_data.download import Download
from prism_data.options import HttpOptions
from prism_data.roots import check_unchanged, find
from prism_data.seen import Seen, read_seen, write_seen
from prism_data.transport import Transport, file_name, persist

_LONGEST_NAME = 200


class HttpClient:
    """Plays the role `DataClient` over the catalogue at `options.url`. Nothing is asked before a dataset is."""

    def __init__(self, options: HttpOptions) -> None:
        self._roots, self._cached = options.roots, options.cached
        self._folder = options.cache or platformdirs.user_cache_path("prism") / "data"
        self._cache = Cache(self._folder)
        self._transport = Transport(options)
        self._catalogue = Catalogue(self._transport, options.url, options.query.lstrip("?&"))

    def resolve(self, reference: str) -> DatasetVersion:
        """As for the role. What is not on a mounted file system is downloaded, since its digest is its version."""
        wanted = parse_reference(reference)
        place = self._catalogue.place(wanted.name)
        if isinstance(place, str):
            return self._downloaded(place, wanted)
        root, path = self._mounted(place, wanted.name)
        return version_at(path, wanted, inside=root)

    def fetch(self, version: DatasetVersion) -> Path:
        """As for the role. A whole cached copy needs neither the catalogue nor the mount."""
        if self._cached or not version.uri.startswith("file:"):  # what is downloaded lies in the cache in any case
            return self._cache.fetch(version, source=self._source)
        path = self._source(version)
        check_unchanged(path, version)
        return path

    def _source(self, version: DatasetVersion) -> Path:
        place = self._catalogue.place(version.name)
        if not isinstance(place, str):
            return self._mounted(place, version.name)[1]
        found = self._downloaded(place, DatasetReference(version.name))
        if found.digest != version.digest:
            raise DataError(
                f"{found.uri} is no longer {version.name}@{version.version}: it is version {found.version}",
                hint="ask for the dataset by its name alone to take it as it is now",
            )
        return self._cache.fetch(found, source=self._source)

    def _mounted(self, path: Path, name: str) -> tuple[Path | None, Path]:
        """(root, path) of a dataset on a mounted file system; without roots it may lie anywhere."""
        try:
            there = path.exists()
        except OSError as error:
            raise DataError(f"{path}, where {name!r} lies, does not answer: {error.strerror or error}") from error
        if not there:
            raise DataError(
                f"{path}, where the catalogue says that {name!r} lies, is not there on this machine",
                hint="is the file system mounted?",
            )
        return find(str(path), roots=self._roots) if self._roots else (None, path)

    def _downloaded(self, url: str, wanted: DatasetReference) -> DatasetVersion:
        """The file at `url` as a version that is whole in the cache; not downloaded again while its server knows it."""
        bare, shown = DatasetReference(wanted.name), self._transport.shown(url)
        name, uri = _name_of(wanted.name, url), shown.rstrip("/")
        note = self._folder / "seen" / f"{hashlib.sha256(f'{wanted.name} {shown}'.encode()).hexdigest()}.json"
        seen = read_seen(note, name)
        whole = seen is not None and self._cache.whole(name_version(bare, (seen.file,), uri=uri, place=shown))
        download = Download(self._transport, url, self._cache.incoming())
        try:
            if persist(lambda: download.receive(known=seen.etag if seen is not None and whole else "")):
                seen = Seen(download.etag, DatasetFile(name, download.size, download.sha256))
                self._cache.adopt(download.copy, name_version(bare, (seen.file,), uri=uri, place=shown))
                write_seen(note, seen)
        finally:
            download.copy.unlink(missing_ok=True)
        assert seen is not None  # only what is known is not received
        return name_version(wanted, (seen.file,), uri=uri, place=shown)


def _name_of(dataset: str, url: str) -> str:
    """What the file is called here: as the dataset when that has an ending (`a/qa.jsonl`), else as in its address."""
    own = Path(dataset).name
    name = own if Path(own).suffix else file_name(url) or own
    if not name.strip(".") or not name.isprintable() or len(name.encode()) > _LONGEST_NAME:
        raise DataError(f"the dataset {dataset!r} has no name that a file can have", hint="rename it in the catalogue")
    return name
