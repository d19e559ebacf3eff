"""The model registry `mlflow`: model folders as versions in MLflow's registry, with semantic versions and digests."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from prism.data.digest import digest_files, manifest_digest
from prism.errors import GateRefused, UsageError, WorkFailed
from prism.protocols import ModelVersion, TrackedRun
from prism_mlflow.access.artifacts import download
from prism_mlflow.access.connection import Connection
from prism_mlflow.naming import own_tag, stored_name, text
from prism_mlflow.positions import position_in
from prism_mlflow.runs import RUN_ID, open_run
from prism_mlflow.versions import (
    DIGEST,
    VERSION,
    MlflowVersion,
    as_versions,
    holder,
    next_version,
    number,
    parse_version,
)

_PAGE = 1000
_ALONE = "prism.alone"  # the tag of a run that a registration has made, and no tracker
_TIMEOUT = 6.0  # shorter than the tracker's: people wait for this one


class MlflowRegistry:
    """Model versions whose files are artifacts of the run that made them.

    A version carries the tags `prism.version`, `prism.digest` (of the folder, see
    `prism.data.digest`) and `prism.run_id`. MLflow lets two entries have one version: of two made
    at the same time the one with the lower MLflow number keeps it, the other takes the next.
    `timeout` is in seconds, for one request.
    """

    def __init__(self, *, timeout: float = _TIMEOUT) -> None:
        self._timeout = timeout
        self._connection: Connection | None = None

    def open(self, project: Path, settings: Mapping[str, Any]) -> None:
        """Take note of where MLflow is; nothing is contacted yet."""
        self._connection = Connection.of(project, settings=settings, timeout=self._timeout)

    def register(
        self, files: Path, *, name: str, version: str, digest: str, tags: Mapping[str, str], run: TrackedRun
    ) -> ModelVersion:
        """Upload the folder as the run's artifact `model` and make it a version of `name`.

        `version` "" takes 1.0.0, then the next patch. The same run and digest again returns the
        version it has. Raises `GateRefused` when `version` is taken by other files, and `UsageError`
        for what is no semantic version.
        """
        wanted = str(parse_version(version)) if version else ""
        with self._opened.reach(f"look up the model {name}") as client:
            entries = _entries(client, name)
        made = _same(entries, run_id=run.ref.run_id, digest=digest, wanted=wanted)
        if made is None:
            _refuse_taken(entries, name=name, wanted=wanted, digest=digest)
            own = {VERSION: wanted or next_version(entries), DIGEST: digest, RUN_ID: run.ref.run_id}
            given = {stored_name(key): text(value) for key, value in tags.items()}
            made = self._make(files, name=name, tags=given | own, run=run)
        return self._settle(made, wanted=wanted)

    def names(self) -> Sequence[str]:
        """The names of all registered models, sorted."""
        found: list[str] = []
        if self._opened.is_empty:
            return found
        with self._opened.reach("list the models") as client:
            page = client.search_registered_models(max_results=_PAGE)
            found += [model.name for model in page]
            while page.token:
                page = client.search_registered_models(max_results=_PAGE, page_token=page.token)
                found += [model.name for model in page]
        return sorted(found)

    def versions(self, name: str) -> Sequence[ModelVersion]:
        """All versions of `name`, lowest first; empty if there is no such model."""
        if self._opened.is_empty:
            return []
        with self._opened.reach(f"list the versions of {name}") as client:
            entries = _entries(client, name)
            aliases = client.get_registered_model(name).aliases if entries else {}
        return as_versions(entries, aliases=aliases, location=self._opened.location)

    def alias(self, name: str, alias: str, version: str) -> None:
        """Let `name@alias` mean that version. Raises `UsageError` when there is no such version."""
        with self._opened.reach(f"set the alias {name}@{alias}") as client:
            entry = _entry(_entries(client, name), name=name, version=version)
            client.set_registered_model_alias(name, alias, str(entry.version))

    def fetch(self, version: ModelVersion, into: Path) -> Path:
        """Bring the version's files into the empty or new folder `into`, verified by digest.

        Raises `WorkFailed` when they are not what was registered; nothing is left in `into` then.
        """
        if into.exists() and any(into.iterdir()):
            raise WorkFailed(f"{into}: is not empty", hint="name a new folder")
        into.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".part-", dir=into) as partial:
            found = self._download(version, Path(partial))
            _verify(found, version)
            for item in sorted(found.iterdir()):
                item.rename(into / item.name)
        return into

    @property
    def _opened(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("open() comes first")
        return self._connection

    def _make(self, files: Path, *, name: str, tags: dict[str, str], run: TrackedRun) -> MlflowVersion:
        tracked, created = open_run(self._opened, run, tags={_ALONE: "true"})
        with self._opened.reach(f"take the model {name}") as client:
            if created or _is_left(tracked):  # nothing tracks this run in MLflow, so nothing will end it there
                client.set_terminated(tracked.info.run_id, "FINISHED", int(time.time() * 1000))
            folder = _artifact_folder(client, tracked, digest=tags[DIGEST])
            client.log_artifacts(tracked.info.run_id, str(files), folder)
        with self._opened.reach(f"register the model {name}") as client:
            _ensure_model(client, name)
            source = f"{tracked.info.artifact_uri.rstrip('/')}/{folder}"
            return client.create_model_version(
                name, source=source, run_id=tracked.info.run_id, tags=tags, await_creation_for=0
            )

    def _settle(self, made: MlflowVersion, *, wanted: str) -> ModelVersion:
        """Let two entries with one version, made at the same time, come apart; the same way on every side."""
        name, mine = made.name, number(made)
        with self._opened.reach(f"settle the version of {name}") as client:
            while True:
                entries = _entries(client, name)
                entry = _numbered(entries, mine)
                keeps = holder(entries, entry.tags[VERSION])
                if keeps is entry:
                    break
                if wanted:
                    client.delete_model_version(name, str(mine))
                    _refuse_taken(entries, name=name, wanted=wanted, digest=entry.tags[DIGEST])
                    mine = number(keeps) if keeps else mine
                else:
                    client.set_model_version_tag(name, str(mine), VERSION, next_version(entries))
            aliases = client.get_registered_model(name).aliases
        shown = as_versions(entries, aliases=aliases, location=self._opened.location)
        return next(version for version in shown if version.version == entry.tags[VERSION])

    def _download(self, version: ModelVersion, folder: Path) -> Path:
        with self._opened.reach(f"give the model {version.name} {version.version}") as client:
            entry = _entry(_entries(client, version.name), name=version.name, version=version.version)
            uri = client.get_model_version_download_uri(version.name, str(entry.version))
            return download(client.repository(uri), "", folder)


def _entries(client: MlflowClient, name: str) -> list[MlflowVersion]:
    """All of MLflow's versions of a model, lowest number first."""
    quoted = name.replace("'", "''")
    found: list[MlflowVersion] = []
    page = client.search_model_versions(f"name = '{quoted}'", max_results=_PAGE)
    found += page
    while page.token:
        page = client.search_model_versions(f"name = '{quoted}'", max_results=_PAGE, page_token=page.token)
        found += page
    return sorted(found, key=number)


def _entry(entries: Sequence[MlflowVersion], *, name: str, version: str) -> MlflowVersion:
    """MLflow's entry for a version of ours, or one under MLflow's own number."""
    _, _, doubled = version.partition("+mlflow.")
    named = holder(entries, version) if not doubled else None
    numbered = [entry for entry in entries if str(entry.version) == (doubled or version)]
    if named is None and not numbered:
        raise UsageError(f"the model {name!r} has no version {version!r}", hint=f"see: prism models list {name}")
    return named or numbered[0]


def _numbered(entries: Sequence[MlflowVersion], mine: int) -> MlflowVersion:
    found = [entry for entry in entries if number(entry) == mine]
    if not found:
        raise WorkFailed(f"the model version that MLflow numbered {mine} was deleted while it was being registered")
    return found[0]


def _same(entries: Sequence[MlflowVersion], *, run_id: str, digest: str, wanted: str) -> MlflowVersion | None:
    """What this registration made before, or an entry with the wanted version and the same files."""
    same = [entry for entry in entries if entry.tags.get(DIGEST) == digest and digest]
    ours = [entry for entry in same if entry.tags.get(RUN_ID) == run_id and entry.tags.get(VERSION)]
    if wanted:
        keeps = holder(entries, wanted)
        named = [entry for entry in ours if entry.tags[VERSION] == wanted]
        return keeps if any(entry is keeps for entry in same) else next(iter(named), None)
    return ours[0] if ours else None


def _refuse_taken(entries: Sequence[MlflowVersion], *, name: str, wanted: str, digest: str) -> None:
    keeps = holder(entries, wanted) if wanted else None
    if keeps is not None and keeps.tags.get(DIGEST) != digest:
        raise GateRefused(
            f"the model {name!r} already has a version {wanted}, of the run {keeps.tags.get(RUN_ID, 'unknown')}, "
            "with other files",
            hint=f'take {next_version(entries)}, or leave ml.model_repo.version empty ("") for the next patch',
        )


def _ensure_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _is_left(found: Run) -> bool:
    """Whether an earlier registration has made the run, and did not come to end it."""
    return found.info.status == "RUNNING" and _ALONE in found.data.tags and not position_in(found.data.tags, part="")


def _artifact_folder(client: MlflowClient, run: Run, *, digest: str) -> str:
    """The artifact folder for these files: `model`, unless the run has other files there already."""
    note = own_tag("model", "digest")
    before = run.data.tags.get(note)
    if before is None:
        client.set_tag(run.info.run_id, note, digest)
    return "model" if before in (None, digest) else f"model-{digest.removeprefix('sha256:')[:12]}"


def _verify(folder: Path, version: ModelVersion) -> None:
    if not version.digest:
        return
    found = manifest_digest(digest_files(folder))
    if found != version.digest:
        raise WorkFailed(
            f"the files of the model {version.name} {version.version} at {version.uri} are not what was registered: "
            f"{found}, not {version.digest}"
        )
