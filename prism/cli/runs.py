"""`prism runs`: the runs of a project, one of them in full, what it printed, and which of them are lost."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from prism.cli.output import data, document, table, talk, warn
from prism.cli.session import Session, pass_session
from prism.delivery.watch import Watch, await_verdict, look_at
from prism.errors import UsageError
from prism.journal.directory import RunDirectory, find_run, list_runs
from prism.journal.looks import lease_seconds
from prism.journal.state import TERMINAL, RunState, read_cached, read_state

FOLLOW_SECONDS = 0.5
REASON_WIDTH = 60


@click.group()
def runs() -> None:
    """List, show and follow the runs of a project, and close lost ones."""


@runs.command("list")
@click.option("--json", "form", flag_value="json", default="table", help="Print one JSON document.")
@pass_session
def list_command(session: Session, *, form: str) -> None:
    """List the runs, newest first.

    With their status, how many records the trackers do not have yet, and the reason of what went wrong.
    """
    overviews = [overview | {"reason": _reason(overview)} for overview in _overviews(session.folder())]
    keys = ("run_id", "experiment", "name", "status", "started", "pending", "reason")
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
    overview = look_at(find_run(session.folder(), run)).as_json()
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
    watch = Watch(directory)
    try:
        over = ending == "stop" or watch.look(seconds=0.0).status in TERMINAL
        _print_new(directory, printed)
        while not over:
            over = watch.look(seconds=FOLLOW_SECONDS).status in TERMINAL
            _print_new(directory, printed)
    finally:
        watch.close()
    if not any(printed.values()):
        talk("nothing was kept of what it printed: that is so of runs that `prism run` has not started")


@runs.command()
@click.option("--wait", "patience", flag_value="lease", default="none", help="Wait until it is known of every run.")
@click.option("--json", "form", flag_value="json", default="table", help="Print one JSON document.")
@pass_session
def reap(session: Session, *, patience: str, form: str) -> None:
    """Close the runs whose processes are dead or lost.

    A process of this machine is looked at. One of another machine is LOST after 30 seconds without a
    sign of life, and has FAILED after 90: since the first command that looked, or with --wait from now on.
    """
    looked = {run: state for run in list_runs(session.folder()) if (state := _looked_at(run))}
    if patience == "lease":  # all silences have begun to be measured by now
        looked |= {run: await_verdict(run) for run, state in looked.items() if state.status not in TERMINAL}
    rows = [(state.run_id, state.status, _standing(state)) for state in looked.values()]
    if form == "json":
        document([dict(zip(("run_id", "status", "reason"), row, strict=True)) for row in rows])
        return
    if not rows:
        talk("every run has ended")
        return
    table(("run", "status", "reason"), rows)


def _looked_at(run: RunDirectory) -> RunState | None:
    """The state of a run after a look, None of one that had ended, or that cannot be read, which is named."""
    try:
        if read_cached(run) or not any(one.is_open for one in read_state(run).deciding().values()):
            return None
        return look_at(run)
    except (UsageError, OSError) as error:
        warn(f"{run.run_id}: {error}")
        return None


def _standing(state: RunState) -> str:
    """Why a run has the status it has, and what is waited for."""
    if state.status in TERMINAL or state.error:
        return state.error
    away = [one for one in state.deciding().values() if one.is_away]
    if not away:
        return "its processes live on this machine"
    quiet = max(away, key=lambda one: one.silent)
    host = quiet.process.host if quiet.process else "another machine"
    return f"{host} has been silent for {quiet.silent:.0f} s; it has FAILED after {lease_seconds():.0f} s"


def _overviews(folder: Path) -> Iterator[dict[str, Any]]:
    """All runs but those that cannot be read (of a newer format, of another user), which are named."""
    for run in list_runs(folder):
        try:
            yield read_cached(run) or look_at(run).as_json()
        except (UsageError, OSError) as error:
            warn(f"{run.run_id}: {error}")


def _reason(overview: dict[str, Any]) -> str:
    """What went wrong with a run, or holds its delivery up."""
    held_up = (one["problem"] for one in overview["trackers"].values() if one["pending"] and one["problem"])
    model = overview["model"] or {}
    refused = model.get("reason", "") if model.get("state") == "refused" else ""
    return overview["error"] or refused or next(held_up, "")


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
    if key == "reason" and len(value) > REASON_WIDTH:
        return f"{value[: REASON_WIDTH - 1]}…"
    return str(value)
