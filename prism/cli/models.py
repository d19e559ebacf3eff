"""`prism models`: the registered models and their versions."""

from __future__ import annotations

import difflib
import time
from collections.abc import Sequence
from typing import Any

import click

from prism.cli.output import data, document, table
from prism.cli.session import Session, pass_session
from prism.delivery.registration import open_registry
from prism.errors import WorkFailed
from prism.protocols import ModelRegistry, ModelVersion

_DIGEST = 19  # "sha256:" and twelve hex digits, enough to tell versions apart by eye


@click.group()
def models() -> None:
    """The registered models and their versions."""


@models.command("list")
@click.argument("name", required=False)
@click.option("--json", "form", flag_value="json", default="table", help="Print one JSON document.")
@pass_session
def list_command(session: Session, *, name: str | None, form: str) -> None:
    """List the models and their versions.

    Those of all models, or of the model NAME, lowest first.
    """
    registry = open_registry(session.open_project())
    if name is None:
        found = [version for known in registry.names() for version in registry.versions(known)]
    else:
        found = list(versions_of(name, registry=registry))
    if form == "json":
        document([as_json(version) for version in found])
        return
    rows = [
        (one.name, one.version, ", ".join(one.aliases), _shown_time(one.created), one.run_id, one.digest[:_DIGEST])
        for one in found
    ]
    table(("name", "version", "aliases", "created", "run", "digest"), rows)


@models.command()
@click.argument("reference", metavar="REF")
@click.option("--json", "form", flag_value="json", default="text", help="Print one JSON document.")
@pass_session
def show(session: Session, *, reference: str, form: str) -> None:
    """Show one version of a model.

    REF is NAME (the newest), NAME@VERSION or NAME@ALIAS.
    """
    found = find_version(reference, registry=open_registry(session.open_project()))
    if form == "json":
        document(as_json(found))
        return
    for key, value in as_json(found).items():
        if value and key != "tags":
            data(f"{key:<10}{_shown(key, value)}")
    for name, value in found.tags.items():
        data(f"{'tag':<10}{name} = {value}")


def find_version(reference: str, *, registry: ModelRegistry) -> ModelVersion:
    """The version that `name` (the newest), `name@version` or `name@alias` means.

    Raises `WorkFailed` with what is there when it means none.
    """
    name, _, wanted = reference.partition("@")
    found = versions_of(name, registry=registry)
    if not wanted:
        return found[-1]
    fitting = [one for one in found if wanted in (one.version, *one.aliases)]
    if not fitting:
        choices = [choice for one in reversed(found) for choice in (one.version, *one.aliases)]
        raise WorkFailed(f"the model {name!r} has no version or alias {wanted!r}", hint=_meant(wanted, choices))
    return fitting[0]


def versions_of(name: str, *, registry: ModelRegistry) -> Sequence[ModelVersion]:
    """All versions of a model, lowest first. Raises `WorkFailed` when it has none, with the names that are there."""
    found = registry.versions(name)
    if not found:
        raise WorkFailed(f"there is no registered model {name!r}", hint=_meant(name, registry.names()))
    return found


def as_json(version: ModelVersion) -> dict[str, Any]:
    """The version with the stable keys of `models list --json` and `models show --json`."""
    return {
        "name": version.name,
        "version": version.version,
        "aliases": list(version.aliases),
        "created": version.created,
        "run_id": version.run_id,
        "digest": version.digest,
        "uri": version.uri,
        "url": version.url,
        "tags": dict(version.tags),
    }


def _meant(wanted: str, choices: Sequence[str]) -> str:
    near = difflib.get_close_matches(wanted, choices, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    few = ", ".join(choices[:10]) + (", …" if len(choices) > 10 else "")
    return f"there are: {few}" if choices else "no model is registered yet"


def _shown(key: str, value: Any) -> str:
    if key == "created":
        return _shown_time(value)
    return ", ".join(value) if isinstance(value, list) else str(value)


def _shown_time(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(milliseconds / 1000)) if milliseconds else ""
