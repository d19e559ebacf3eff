"""The data client `local`: datasets in folders of this machine, used where they lie."""

from __future__ import annotations

from pathlib import Path

from prism.protocols import DatasetVersion
from prism_data.options import LocalOptions
from prism_data.roots import check_unchanged, find, resolve_in


class LocalClient:
    """Plays the role `DataClient` over the folders `options.roots`."""

    def __init__(self, options: LocalOptions) -> None:
        self._roots = options.roots

    def resolve(self, reference: str) -> DatasetVersion:
        return resolve_in(self._roots, reference)

    def fetch(self, version: DatasetVersion) -> Path:
        _, path = find(version.name, roots=self._roots)
        check_unchanged(path, version)
        return path
