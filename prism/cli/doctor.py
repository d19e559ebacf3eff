"""`prism doctor`: is this machine, this environment and this project fit for a run?"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prism.cli import checkup
from prism.cli.checkup import Finding
from prism.cli.output import data, document
from prism.cli.session import Session, pass_session
from prism.config import AnyOptions, ConfigurationError, Problem
from prism.errors import EnvironmentUnfit, PrismError

if TYPE_CHECKING:
    from prism.plugins import Plugins
    from prism.project import Project


@click.command()
@click.option("--json", "form", flag_value="json", default="text", help="Print one JSON document.")
@pass_session
def doctor(session: Session, *, form: str) -> int:
    """Look at Python, torch and its devices, MLflow, plugins, disk and file system.

    Exit code 1 when something is to be mended, 4 when the tracking server is out of reach.
    """
    findings: list[Finding] = []
    for finding in examine(session):
        findings.append(finding)
        if form == "text":
            _show(finding)
    states = {finding.state for finding in findings}
    if form == "json":
        checks = [{"check": f.check, "state": f.state, "text": f.text, "hint": f.hint} for f in findings]
        document({"ok": states == {"ok"}, "checks": checks})
    return 4 if "unreachable" in states else 1 if "failed" in states else 0


def examine(session: Session) -> Iterator[Finding]:
    """Every finding, as it is made."""
    yield checkup.look_at_python()
    yield checkup.look_at_torch()
    file = session.config_file()
    folder = file.parent if file else session.start.absolute()
    uri = os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    if file is None:
        yield Finding("project", "ok", f"none in {folder} or above it; prism init begins one")
        yield from checkup.look_at_plugins(session.plugins.records)
    else:
        uri = yield from _examine_project(session, file, uri=uri)
    yield checkup.look_at_disk(folder)
    yield checkup.look_at_file_system(folder, tracking_uri=uri)
    if uri:
        yield checkup.look_at_mlflow(uri, folder=folder)


def _examine_project(session: Session, file: Path, *, uri: str) -> Generator[Finding, None, str]:
    """The project's own findings; returns where its tracker is, "" when it has none."""
    try:
        project, named = _load_whatever_is_missing(session, file)
    except PrismError as error:
        yield Finding("project", "failed", error.message, hint=error.hint or "prism config check says all")
        yield from checkup.look_at_plugins(session.plugins.records)
        return uri
    yield Finding("project", "ok", f"{project.config.foundation.experiment_name} in {file.parent}")
    yield from checkup.look_at_plugins(project.plugins.records)
    yield from checkup.look_at_layers(project, named)
    ml = project.config.ml
    tracked = ml.enabled and any(tracker.name == "mlflow" for tracker in project.config.trackers)
    return (ml.tracking_uri or uri) if tracked else ""


def _load_whatever_is_missing(session: Session, file: Path) -> tuple[Project, Sequence[Problem]]:
    """The project also where plugins that its configuration names are not here, and what was said of those.

    Raises as `Session.load_project` for all else that is wrong.
    """
    try:
        return session.load_project(file), ()
    except ConfigurationError as error:
        if not all(problem.unfit for problem in error.problems):
            raise
        return session.load_project(file, option_type=_whatever_is_missing), error.problems


def _whatever_is_missing(plugins: Plugins, kind: str, name: str) -> type[Any] | None:
    try:
        return plugins.option_type(kind, name)
    except EnvironmentUnfit:
        return AnyOptions


def _show(finding: Finding) -> None:
    first, *rest = finding.text.splitlines() or [""]
    data(f"{finding.state:<12}{finding.check:<13}{first}")
    for line in rest:
        data(f"{'':<25}{line}")
    if finding.hint:
        data(f"{'':<25}→ {finding.hint}")
