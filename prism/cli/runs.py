"""`prism runs`: the runs of a project, one of them in full, and what it printed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from prism.cli.output import data, document, table, warn
from prism.cli.session import Session, pass_session
from prism.errors import UsageError
from prism.journal.directory import RunDirectory, find_run, list_runs
from prism.journal.state import TERMINAL, read_overview, read_state

FOLLOW_SECONDS = 0.5


@click.group()
def runs() -> None:
    """The runs of a project."""


@runs.command("list")
@click.option("--json", "form", flag_value="json", default="table", help="Print one JSON document.")
@pass_session
def list_command(session: Session, *, form: str) -> None:
    """List the runs, newest first.

    With their status, and how many records the trackers do not have yet.
    """
    overviews = list(_overviews(session.folder()))
    keys = ("run_id", "experiment", "name", "status", "started", "pending")
    if form == "json":
        document([{key: overview[key] for key in keys} for overview in overviews])
        return
    rows = [[_shown(key, overview[key]) for key in keys] for overview in overviews]
    table(("run", *keys[1:]), rows)


@runs.command()
@click.argument("run")
@click.option("--json", "form", flag_value="json", default="text", help="Print one JSON document.")
@pass_session
def show(session: Session, *, run: str, form: str) -> None:
    """Show one run, by its id or the beginning of it."""
    overview = read_state(find_run(session.folder(), run)).as_json()
    if form == "json":
        document(overview)
        return
    for line in _lines(overview):
        data(line)


@runs.command()
@click.argument("run")
@click.option("-f", "--follow", "ending", flag_value="follow", default="stop", help="Go on until the run has ended.")
@pass_session
def logs(session: Session, *, run: str, ending: str) -> None:
    """Print what a run has printed, and the tracebacks of what failed."""
    directory = find_run(session.folder(), run)
    printed: dict[Path, int] = {}
    while True:
        over = ending == "stop" or read_state(directory).status in TERMINAL
        _print_new(directory, printed)
        if over:
            return
        time.sleep(FOLLOW_SECONDS)


def _overviews(folder: Path) -> Iterator[dict[str, Any]]:
    """All runs but those that cannot be read (of a newer format, of another user), which are named."""
    for run in list_runs(folder):
        try:
            yield read_overview(run)
        except (UsageError, OSError) as error:
            warn(f"{run.run_id}: {error}")


def _print_new(directory: RunDirectory, printed: dict[Path, int]) -> None:
    for path in sorted(directory.logs.glob("a*.log")):
        with path.open("rb") as stream:
            stream.seek(printed.get(path, 0))
            sys.stdout.buffer.write(stream.read())
            printed[path] = stream.tell()
    sys.stdout.flush()


def _lines(overview: dict[str, Any]) -> Iterator[str]:
    facts = ("run_id", "status", "error", "experiment", "name", "description", "attempts", "started", "ended")
    for key in (*facts, "directory"):
        if overview[key]:
            yield f"{key:<12}{_shown(key, overview[key])}"
    for name, tracker in overview["trackers"].items():
        yield f"{name:<12}{tracker['url'] or tracker['run_id'] or 'not reached yet'}"
        if tracker["pending"]:
            yield f"{'':<12}{tracker['pending']} records pending  {tracker['problem']}".rstrip()
    model = overview["model"]
    if model:
        yield f"{'model':<12}{model['name']} {model['version']}  {model['state']}  {model['reason']}".rstrip()
    for dataset in overview["datasets"]:
        yield f"{'dataset':<12}{dataset['name']}@{dataset['version']}  {dataset['use']}  {dataset['digest']}"
    for checkpoint in overview["checkpoints"]:
        yield f"{'checkpoint':<12}{checkpoint['folder']}  {checkpoint['size']} bytes"
    for title in ("params", "metrics", "tags"):
        for name, value in sorted(overview[title].items()):
            yield f"{title:<12}{name} = {json.dumps(value, ensure_ascii=False)}"
    for title in ("warnings", "damage"):
        for line in overview[title]:
            yield f"{title:<12}{line}"


def _shown(key: str, value: Any) -> str:
    if key in ("started", "ended"):
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value / 1000)) if value else ""
    return str(value)
