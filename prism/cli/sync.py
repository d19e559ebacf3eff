"""`prism sync`: deliver what the trackers do not have yet."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

import click

from prism.cli.output import data, talk
from prism.cli.session import Session, pass_session
from prism.errors import PrismError, Stopped

if TYPE_CHECKING:
    from prism.journal.directory import RunDirectory


@click.command()
@click.argument("wanted", nargs=-1, metavar="[RUN ...]")
@click.option("--follow", "ending", flag_value="follow", default="stop", help="Go on until interrupted, new runs too.")
@pass_session
def sync(session: Session, *, wanted: tuple[str, ...], ending: str) -> int:
    """Deliver what is pending of the runs named, or of all runs of the project.

    It may be stopped and called again at any time, and by several at once: nothing is delivered twice.
    Exit code 4 when a server is out of reach or does not take a record.
    """
    from prism.journal.directory import find_run, list_runs

    folder = session.folder()

    def chosen() -> list[RunDirectory]:
        return [find_run(folder, run) for run in wanted] or list(list_runs(folder))

    if ending == "follow":
        return _follow(chosen, what=", ".join(wanted) or f"all runs of {folder}, new ones too,")
    return _sync(chosen())


def _sync(directories: list[RunDirectory]) -> int:
    from prism.delivery.syncing import read_finished, sync_run

    def stop(number: int, _: FrameType | None) -> None:
        raise Stopped(number)

    before = signal.signal(signal.SIGTERM, stop)  # the claim is given back on the way out
    code = 0
    try:
        for directory in directories:
            try:
                overview = read_finished(directory) or sync_run(directory).as_json()
            except (PrismError, OSError) as error:  # of this run; the others are delivered all the same
                talk(f"{directory.run_id}: {error}")
                code = max(code, error.exit_code if isinstance(error, PrismError) else 1)
                continue
            data(f"{overview['run_id']}  {overview['status']}  {overview['pending']} records pending")
    finally:
        signal.signal(signal.SIGTERM, before)
    return code


def _follow(directories: Callable[[], list[RunDirectory]], *, what: str) -> int:
    from prism.delivery.following import follow

    directories()  # a run that is not there is an error now, not later
    talk(f"delivering {what} as they go on; Ctrl-C ends it")
    stopped = threading.Event()
    numbers: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        numbers.append(number)
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        follow(directories, report=talk, stop=stopped)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 + numbers[0] if numbers else 0
