"""`prism plugins`: which plugins are here, and in what state."""

from __future__ import annotations

import re
from pathlib import Path

import click

from prism.cli.output import document, table, talk, warn
from prism.cli.session import Session, pass_session
from prism.errors import PrismError
from prism.plugins import PluginRecord, Plugins

_SPEAKS_OF_PLUGINS = re.compile(r"^[\"']?(plugins|extends)[\"']?\s*:", re.MULTILINE)


@click.group()
def plugins() -> None:
    """The plugins and their state."""


@plugins.command("list")
@click.option("--json", "form", flag_value="json", default="table", help="Print one JSON document.")
@pass_session
def list_plugins(session: Session, *, form: str) -> None:
    """List every plugin and its state.

    With its distribution and what it provides.
    """
    found = session.plugins
    _apply_project(found, session.config_file())
    if form == "json":
        document([as_json(record) for record in found.records])
        return
    rows = [(one.name, one.distribution, one.version, one.state, _provides(one)) for one in found.records]
    table(("name", "distribution", "version", "state", "provides"), rows)
    for record in found.records:
        if record.state == "failed":
            talk(f"{record.name} ({record.origin}): {record.error}")


def as_json(record: PluginRecord) -> dict[str, object]:
    """The record with the stable keys of `plugins list --json`."""
    return {
        "name": record.name,
        "distribution": record.distribution,
        "version": record.version,
        "state": record.state,
        "error": record.error or None,
        "provides": [{"kind": one.kind, "name": one.name} for one in record.provides],
    }


def _apply_project(found: Plugins, file: Path | None) -> None:
    """Switch off and add what the project's file says, if it says anything: reading YAML is most of the time here."""
    if file is None or not _SPEAKS_OF_PLUGINS.search(file.read_text(encoding="utf-8", errors="replace")):
        return
    from prism.config import peek_plugins

    try:
        off, local = peek_plugins(file, read=found.load_config)
        found.switch_off(off)
        found.add_local(local)
    except PrismError as error:
        warn(f"{file} cannot be read, so its plugins are not shown: {error}")


def _provides(record: PluginRecord) -> str:
    return ", ".join(f"{one.kind} {one.name}" for one in record.provides)
