"""The data client `cpfs`: datasets on a mounted parallel file system, copied once into a local cache."""

from __future__ import annotations

from pathlib import Path

import platformdirs

from prism.protocols import DatasetVersion
from prism_data.cache import Cache
from prism_data.options import CpfsOptions
from prism_data.roots import check_unchanged, find, resolve_in


class CpfsClient:
    """Plays the role `DataClient` over the mounted folders `options.roots`."""

    def __init__(self, options: CpfsOptions) -> None:
        self._roots = options.roots
        folder = options.cache or platformdirs.user_cache_path("prism") / "data"
        self._cache = Cache(folder) if options.cached else None

    def resolve(self, reference: str) -> DatasetVersion:
        return resolve_in(self._roots, reference)

    def fetch(self, version: DatasetVersion) -> Path:
        """The cached copy, made or repaired when needed; a whole one does not need the mount."""
        if self._cache is not None:
            return self._cache.fetch(version, source=self._source)
        path = self._source(version)
        check_unchanged(path, version)
        return path

    def _source(self, version: DatasetVersion) -> Path:
        return find(version.name, roots=self._roots)[1]
