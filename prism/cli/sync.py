"""`prism sync`: deliver what the trackers do not have yet."""

from __future__ import annotations

import threading

import click

from prism.cli.output import data, talk
from prism.cli.session import Session, pass_session
from prism.errors import PrismError


@click.command()
@click.argument("wanted", nargs=-1, metavar="[RUN ...]")
@click.option("--follow", "ending", flag_value="follow", default="stop", help="Go on delivering until interrupted.")
@pass_session
def sync(session: Session, *, wanted: tuple[str, ...], ending: str) -> int:
    """Deliver what is pending of the runs named, or of all runs of the project."""
    from prism.delivery.syncing import follow, sync_run
    from prism.journal.directory import RunDirectory, find_run, list_runs

    folder = session.folder()

    def chosen() -> list[RunDirectory]:
        return [find_run(folder, run) for run in wanted] or list(list_runs(folder))

    if ending == "follow":
        follow(chosen, report=talk, stop=threading.Event())
    code = 0
    for directory in chosen():
        try:
            state = sync_run(directory)
        except (PrismError, OSError) as error:  # of this run; the others are delivered all the same
            talk(f"{directory.run_id}: {error}")
            code = max(code, error.exit_code if isinstance(error, PrismError) else 1)
            continue
        data(f"{state.run_id}  {state.status}  {state.pending} records pending")
    return code
