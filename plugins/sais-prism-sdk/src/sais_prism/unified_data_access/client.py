"""`DataAccessClient` and `DataClient`: datasets by their names, as scripts ask for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

import prism.protocols
from prism.data.digest import verify_files
from prism.data.references import parse_reference
from prism.data.versions import version_at
from prism.project import Project
from prism.protocols import DatasetVersion
from prism.runs.datasets import find_dataset
from sais_prism.core.config import ConfigManager
from sais_prism.core.exceptions import DataAccessError, MLFlowIntegrationError, of_this_package
from sais_prism.here import here


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
    mapping in it. A `token`, `cached=False` and `enabled=False` count for this client, otherwise the configuration
    does. Nothing is contacted before a dataset is asked for.
    """

    def __init__(
        self,
        token: str | None = "",
        cached: bool = True,
        enabled: bool = True,
        data_access: Any = None,
        *,
        client: Any = None,
    ) -> None:
        self.token = token
        self.cached = cached
        self.enabled = enabled
        self.data_access = data_access or {}
        self.client = client

    @classmethod
    def configured(cls) -> DataAccessClient:
        """The client of `unified_data_access`."""
        return cls(**vars(ConfigManager().config.unified_data_access))

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
            with _errors():
                one = find_dataset(self._project(), name)
            if here.open_run is not None:
                here.open_run.record_dataset(one.as_version(), use="train")
            found.append({"index": one.name, "path": str(one.path), "version": one.version, "digest": one.digest})
        return found

    def resolve(self, reference: str) -> DatasetVersion:
        """As every data client of Prism's does. Raises `DataAccessError`."""
        with _errors():
            return self._configured_client().resolve(reference)

    def fetch(self, version: DatasetVersion) -> Path:
        """As every data client of Prism's does. Raises `DataAccessError`."""
        with _errors():
            return self._configured_client().fetch(version)

    def _configured_client(self) -> prism.protocols.DataClient:
        project = self._project()
        client: prism.protocols.DataClient = project.build("data_client", project.config.unified_data_access.client)
        return client

    def _project(self) -> Project:
        """The project, where need be with what this client was given."""
        given = {"token": self.token or None, "cached": self.cached and None, "enabled": self.enabled and None}
        given["client"] = self.client
        configured = vars(ConfigManager().config.unified_data_access)
        own = {key: value for key, value in given.items() if value not in (None, configured[key])}
        return ConfigManager().project_with({f"unified_data_access.{key}": value for key, value in own.items()})


@contextmanager
def _errors() -> Iterator[None]:
    """Raise whatever goes wrong with a data client, a server out of reach too, as `DataAccessError`."""
    try:
        with of_this_package():
            yield
    except MLFlowIntegrationError as error:
        raise DataAccessError(error.message, hint=error.hint) from error


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
    with of_this_package():
        wanted = parse_reference(reference)
        return version_at(_path(client, wanted.name), wanted)


def _fetch(client: Any, version: DatasetVersion) -> Path:
    path = _path(client, version.name)
    problems = verify_files(path, version.files)
    if problems:
        raise DataAccessError(f"{path} is no longer {version.name}@{version.version}: {'; '.join(problems[:3])}")
    return path


def _path(client: Any, name: str) -> Path:
    """Where the client says that the dataset is.

    Its answer is a list of entries, one entry, or a mapping of names to entries; an entry is a path, or a mapping or
    an object with `path` and perhaps `index`.
    """
    try:
        answer = client.get_dataset([name])
    except DataAccessError:
        raise
    except Exception as error:  # of the user's own client, whatever it uses
        what = f"{type(client).__name__}.get_dataset([{name!r}]) failed"
        raise DataAccessError(f"{what}: {type(error).__name__}: {error}") from error
    path = next(_paths(answer, name), None)
    if path is None:
        raise DataAccessError(
            f"{type(client).__name__}.get_dataset([{name!r}]) has no path for it",
            hint='it answers with a list of {"index": NAME, "path": PATH}',
        )
    if not path.exists():
        raise DataAccessError(f"{type(client).__name__} says that {name!r} is at {path}, where nothing is")
    return path.absolute()


def _paths(answer: Any, name: str) -> Iterator[Path]:
    if isinstance(answer, Mapping) and name in answer:
        answer = answer[name]
    for entry in answer if isinstance(answer, list | tuple) else [answer]:
        if isinstance(entry, str | PurePath):
            yield Path(entry)
            continue
        said = entry if isinstance(entry, Mapping) else getattr(entry, "__dict__", {})
        if said.get("index", name) == name and said.get("path"):
            yield Path(said["path"])


def _names(data_access: Any) -> Sequence[str]:
    """The names in `{"dataset_names": […]}`, in a list with such a mapping, or in a plain list."""
    entries = data_access if isinstance(data_access, list | tuple) else [data_access]
    names: list[str] = []
    for entry in entries:
        given: Any = entry.get("dataset_names") if isinstance(entry, Mapping) else entry
        given = getattr(given, "dataset_names", given) or ()
        names += [given] if isinstance(given, str) else list(given)
    return names
