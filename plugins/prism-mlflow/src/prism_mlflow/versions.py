"""Semantic versions over MLflow's numbers: which is next, which of two with one version keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import mlflow.entities.model_registry
from semver import Version

from prism.errors import UsageError
from prism.protocols import ModelVersion
from prism_mlflow.access.location import Location
from prism_mlflow.runs import RUN_ID

VERSION = "prism.version"
DIGEST = "prism.digest"

MlflowVersion = mlflow.entities.model_registry.ModelVersion


def parse_version(version: str) -> Version:
    """The semantic version that a text means. Raises `UsageError` when it is none."""
    if not Version.is_valid(version):
        raise UsageError(f"the model version {version!r} is no semantic version", hint='for example "1.0.1"')
    return Version.parse(version)


def next_version(entries: Iterable[MlflowVersion]) -> str:
    """1.0.0, or the patch after the highest version that Prism gave."""
    taken = [Version.parse(entry.tags[VERSION]) for entry in entries if _is_ours(entry)]
    return str(max(taken).next_version("patch")) if taken else "1.0.0"


def holder(entries: Iterable[MlflowVersion], version: str) -> MlflowVersion | None:
    """The entry that has the version: of several, made at the same time, the one with the lowest MLflow number."""
    named = [entry for entry in entries if entry.tags.get(VERSION) == version]
    return min(named, key=number) if named else None


def number(entry: MlflowVersion) -> int:
    """MLflow's own number of an entry."""
    return int(entry.version)


def as_versions(
    entries: Sequence[MlflowVersion], *, aliases: Mapping[str, str], location: Location
) -> list[ModelVersion]:
    """The entries as Prism names them, lowest first; those that Prism did not make under MLflow's number."""
    named = {number(entry): _name(entry, entries) for entry in entries}
    ordered = sorted(entries, key=lambda entry: (_order(named[number(entry)]), number(entry)))
    return [_version(entry, named[number(entry)], aliases=aliases, location=location) for entry in ordered]


def _is_ours(entry: MlflowVersion) -> bool:
    return Version.is_valid(entry.tags.get(VERSION, ""))


def _name(entry: MlflowVersion, entries: Sequence[MlflowVersion]) -> str:
    if not _is_ours(entry):
        return str(entry.version)
    version = entry.tags[VERSION]
    keeps = holder(entries, version)
    # its registration was cut off before it could take another version
    return version if keeps is entry else f"{version}+mlflow.{entry.version}"


def _order(name: str) -> Version:
    return Version.parse(name) if Version.is_valid(name) else Version(0, 0, 0)


def _version(entry: MlflowVersion, name: str, *, aliases: Mapping[str, str], location: Location) -> ModelVersion:
    page = f"{location.uri}/#/models/{entry.name}/versions/{entry.version}" if location.is_server else ""
    return ModelVersion(
        name=entry.name,
        version=name,
        digest=entry.tags.get(DIGEST, ""),
        run_id=entry.tags.get(RUN_ID, ""),
        created=entry.creation_timestamp or 0,
        aliases=tuple(sorted(alias for alias, pointed in aliases.items() if str(pointed) == str(entry.version))),
        tags={key: value for key, value in sorted(entry.tags.items()) if key not in (VERSION, DIGEST, RUN_ID)},
        uri=entry.source or "",
        url=page,
    )
