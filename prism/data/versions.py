"""A dataset version that is named by its content."""

from __future__ import annotations

from pathlib import Path

from prism.data.digest import digest_files, manifest_digest
from prism.data.references import DatasetReference
from prism.errors import DataError
from prism.protocols import DatasetFile, DatasetVersion

_DIGITS = 12


def version_at(path: Path, wanted: DatasetReference, *, inside: Path | None = None) -> DatasetVersion:
    """What lies at `path`, under the name asked for; with `inside`, no link may lead out of that folder.

    Its `uri` ends with "/" when it is a folder. Raises `DataError` when it cannot be read, is empty, or is another
    version than the one asked for (the version, or the first six or more digits of the digest).
    """
    try:
        files = digest_files(path, inside=inside)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return name_version(wanted, files, uri=path.as_uri() + ("/" if path.is_dir() else ""), place=str(path))


def name_version(wanted: DatasetReference, files: tuple[DatasetFile, ...], *, uri: str, place: str) -> DatasetVersion:
    """These files as a version named by their content; `place` is where they lie, for people.

    Raises `DataError` as `version_at` does.
    """
    if not sum(file.size for file in files):
        raise DataError(f"{place}: the dataset is empty", hint="it needs at least one record")
    digest = manifest_digest(files)
    _check_version(wanted, digest, place=place)
    return DatasetVersion(name=wanted.name, version=version_of(digest), uri=uri, digest=digest, files=files)


def version_of(digest: str) -> str:
    """The version that a digest is called by."""
    return digest.removeprefix("sha256:")[:_DIGITS]


def _check_version(wanted: DatasetReference, digest: str, *, place: str) -> None:
    asked = wanted.version.removeprefix("sha256:")
    if asked and not (len(asked) >= 6 and digest.removeprefix("sha256:").startswith(asked)):
        raise DataError(
            f"{wanted} is not what lies at {place}: that is version {version_of(digest)}",
            hint=f"these clients keep no versions of their own: ask for {wanted.name}@{version_of(digest)}",
        )
