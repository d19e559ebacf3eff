"""MLflow's dataset source `prism://name@version`: a dataset of a Prism project, found by its data client.

MLflow imports this module whenever it is imported itself, for everybody in the environment: a
project is opened only when such a source is resolved or loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from mlflow.data.dataset_source import DatasetSource

if TYPE_CHECKING:
    from prism.data.references import DatasetReference

SCHEME = "prism://"
_PLAIN = "/:+,=~!$&'()*;"  # what an address shows as it is; a name may hold anything else


class PrismDatasetSource(DatasetSource):
    """One version of a dataset. `digest` is "sha256:<hex>" of its files, "" while nobody has read them."""

    def __init__(self, name: str, version: str = "", digest: str = "") -> None:
        self.name = name
        self.version = version
        self.digest = digest

    @property
    def uri(self) -> str:
        """`prism://name@version`, everything in the name that is special in addresses percent-encoded."""
        name = SCHEME + quote(self.name, safe=_PLAIN)
        return f"{name}@{self.version}" if self.version else name

    def load(self, dst_path: str | None = None) -> str:
        """The path of the file or folder with exactly that version, whole and verified, on this machine.

        It lies where the data client of the project around the current folder puts it: nothing is copied
        to `dst_path`. Raises `prism.errors.DataError` when there is no such version any more, and
        `UsageError` outside a project.
        """
        from prism_mlflow.plain.datasets import fetch_dataset  # opens a project: not for everybody who imports MLflow

        return str(fetch_dataset(self.name, version=self.version, digest=self.digest))

    def to_dict(self) -> dict[str, Any]:
        return {"uri": self.uri, "name": self.name, "version": self.version, "digest": self.digest}

    @classmethod
    def from_dict(cls, source_dict: dict[Any, Any]) -> PrismDatasetSource:
        reference = _parse(str(source_dict["uri"]))
        return cls(reference.name, reference.version, str(source_dict.get("digest", "")))

    @staticmethod
    def _get_source_type() -> str:
        return "prism"

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        return isinstance(raw_source, str) and raw_source.startswith(SCHEME)

    @classmethod
    def _resolve(cls, raw_source: Any) -> PrismDatasetSource:
        """A name without a version means what lies there now: inside a project that version is worked out."""
        reference = _parse(str(raw_source))
        if reference.version:
            return cls(reference.name, reference.version)
        from prism_mlflow.plain.datasets import current_version  # opens a project, as above

        found = current_version(reference.name)
        return cls(reference.name) if found is None else cls(reference.name, found.version, found.digest)


def _parse(uri: str) -> DatasetReference:
    from prism.data.references import DatasetReference, parse_reference  # only where there is such an address

    written = uri.removeprefix(SCHEME)
    reference = parse_reference(written)  # an "@" that belongs to the name is encoded, where there is no version
    return DatasetReference(unquote(reference.name), reference.version)
