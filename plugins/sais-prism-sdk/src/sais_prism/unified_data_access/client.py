"""`DataAccessClient` and `DataClient`: datasets by their names, as scripts ask for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import prism.protocols
from prism.data.digest import digest_files, manifest_digest, verify_files
from prism.protocols import DatasetVersion
from prism.runs.datasets import find_dataset
from sais_prism.core.config import ConfigManager
from sais_prism.core.exceptions import DataAccessError, of_this_package
from sais_prism.here import here

_DIGITS = 12


class DataClient:
    """What a data client of one's own can be made of: it says in `get_dataset` where datasets are.

    Set with `ServiceLocator.set_data_client(…)`, or provided by an installed plugin as the class that it is, it
    resolves the datasets of runs.
    """

    def get_dataset(self, dataset_names: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """For each name a mapping with its `index` (the name) and its `path` (a file or folder that is here)."""
        raise NotImplementedError(f"{type(self).__name__} has no get_dataset(dataset_names)")

    def resolve(self, reference: str) -> DatasetVersion:
        """The version of the dataset that `get_dataset` finds, by its content. Raises `DataAccessError`."""
        return _resolve(self, reference)

    def fetch(self, version: DatasetVersion) -> Path:
        """Where the version is. Raises `DataAccessError` when it is not that version any more."""
        return _fetch(self, version)


class DataAccessClient:
    """Finds datasets through the data client that the configuration names.

    The arguments are those of sais-prism-sdk 0.1: `data_access` is `{"dataset_names": […]}`, or a list with such a
    mapping in it. `token` and `cached` are the configuration's; nothing is contacted before a dataset is asked for.
    """

    def __init__(self, token: str = "", cached: bool = True, enabled: bool = True, data_access: Any = None) -> None:
        self.token = token
        self.cached = cached
        self.enabled = enabled
        self.data_access = data_access or {}

    @classmethod
    def configured(cls) -> DataAccessClient:
        """The client of `unified_data_access`."""
        given = ConfigManager().config.unified_data_access
        return cls(given.token, given.cached, given.enabled, given.data_access)

    def __repr__(self) -> str:
        return f"DataAccessClient(enabled={self.enabled})"

    def get_dataset(self, dataset_names: Sequence[str] | str | None = None) -> list[dict[str, Any]]:
        """`index`, `path`, `version` and `digest` of each dataset, brought here and verified.

        Without names those of `data_access`. What is found while a run is open is recorded as used by it. Raises
        `DataAccessError`.
        """
        names = _names(self.data_access) if dataset_names is None else dataset_names
        found = []
        for name in [names] if isinstance(names, str) else names:
            with of_this_package():
                run = here.open_run
                one = run.dataset(name) if run is not None else find_dataset(ConfigManager().project, name)
            found.append({"index": one.name, "path": str(one.path), "version": one.version, "digest": one.digest})
        return found


def initialize(**arguments: Any) -> DataAccessClient:
    """`DataAccessClient(**arguments)`, by the name that sais-prism-sdk 0.1 had."""
    return DataAccessClient(**arguments)


def as_data_client(instance: Any) -> prism.protocols.DataClient:
    """`instance` as Prism's runs use it. Raises `DataAccessError` for what is no data client."""
    if all(callable(getattr(instance, name, None)) for name in ("resolve", "fetch")):
        return instance  # type: ignore[no-any-return]
    if callable(getattr(instance, "get_dataset", None)):
        return _Resolving(instance)
    raise DataAccessError(
        f"{type(instance).__name__} is no data client",
        hint="it has get_dataset(names), or resolve(reference) and fetch(version)",
    )


class _Resolving:
    """A client that only has `get_dataset`, as Prism's runs use it."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def resolve(self, reference: str) -> DatasetVersion:
        return _resolve(self._client, reference)

    def fetch(self, version: DatasetVersion) -> Path:
        return _fetch(self._client, version)


def _resolve(client: Any, reference: str) -> DatasetVersion:
    name, _, wanted = reference.partition("@")
    path = _path(client, name)
    files = digest_files(path)
    digest = manifest_digest(files)
    digits = digest.removeprefix("sha256:")
    if not digits.startswith(wanted.removeprefix("sha256:")):
        raise DataAccessError(f"{name}@{wanted} is not what lies at {path}: that is version {digits[:_DIGITS]}")
    uri = path.as_uri() + ("/" if path.is_dir() else "")
    return DatasetVersion(name, digits[:_DIGITS], uri, digest, files)


def _fetch(client: Any, version: DatasetVersion) -> Path:
    path = _path(client, version.name)
    problems = verify_files(path, version.files)
    if problems:
        raise DataAccessError(f"{path} is no longer {version.name}@{version.version}: {'; '.join(problems[:3])}")
    return path


def _path(client: Any, name: str) -> Path:
    """Where the client says that the dataset is: its answer is a list of mappings or of paths, or a mapping."""
    answer = client.get_dataset([name])
    path = next(_paths(answer, name), None)
    if path is None:
        raise DataAccessError(f"{type(client).__name__}.get_dataset([{name!r}]) has no path for it: {answer!r}")
    if not path.exists():
        raise DataAccessError(f"{type(client).__name__} says that {name!r} is at {path}, where nothing is")
    return path.absolute()


def _paths(answer: Any, name: str) -> Iterator[Path]:
    if isinstance(answer, Mapping) and name in answer:
        answer = answer[name]
    for entry in answer if isinstance(answer, list | tuple) else [answer]:
        if isinstance(entry, Mapping) and entry.get("index", name) == name and "path" in entry:
            yield Path(entry["path"])
        elif isinstance(entry, str | Path):
            yield Path(entry)


def _names(data_access: Any) -> Sequence[str]:
    """The names in `{"dataset_names": […]}`, in a list with such a mapping, or in a plain list."""
    entries = data_access if isinstance(data_access, list | tuple) else [data_access]
    names: list[str] = []
    for entry in entries:
        given: Any = entry.get("dataset_names") if isinstance(entry, Mapping) else entry
        given = getattr(given, "dataset_names", given) or ()
        names += [given] if isinstance(given, str) else list(given)
    return names
