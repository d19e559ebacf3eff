"""`prism sync --follow`: live runs are delivered with one claim each, finished ones cost stat calls only."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import pytest

from prism.delivery import following
from prism.delivery.channels import Delivery
from prism.delivery.claim import Claim
from prism.delivery.following import Following, follow
from prism.delivery.syncing import sync_run
from prism.errors import UsageError
from prism.journal.directory import RunDirectory, list_runs
from prism.journal.opening import open_journal
from prism.journal.records import JournalWriter, read_journal
from prism.journal.state import read_state
from prism.project import Project, open_project
from prism.runs.beginning import begin_run, describe_run

TRACKERS = """
import json

from prism.errors import Unreachable
from prism.hookspecs import hookimpl
from prism.protocols import TrackerRun
from prism.providers import Provider


class Keeper:
    def open(self, run):
        self.file = run.project / f"{run.ref.run_id}.jsonl"
        return TrackerRun(id="kept", url="")

    def position(self):
        return {}

    def deliver(self, records, position):
        with self.file.open("a") as stream:
            stream.writelines(json.dumps(dict(record.data)) + "\\n" for record in records)

    def close(self, status, ended):
        pass


class Cutoff(Keeper):
    def open(self, run):
        raise Unreachable("no network here")


@hookimpl
def prism_trackers():
    return [Provider(name, target=f"strange:{name.title()}") for name in ("keeper", "cutoff")]
"""
FINISHED = 100


def project_with(folder: Path, tracker: str) -> Project:
    (folder / "strange.py").write_text(dedent(TRACKERS), encoding="utf-8")
    settings = {"trackers": [tracker], "plugins": {"local": ["strange.py"]}, "foundation": {"experiment_name": "any"}}
    (folder / f"{tracker}.yaml").write_text(json.dumps(settings), encoding="utf-8")
    return open_project(folder / f"{tracker}.yaml")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "sais_foundation.yaml").write_text("foundation: {experiment_name: any}\n")
    return project_with(tmp_path, "keeper")


def begun(project: Project) -> tuple[RunDirectory, JournalWriter]:
    directory = begin_run(project)
    journal = open_journal(directory, "a1-rank0", role="worker")
    describe_run(journal.write, project)
    return directory, journal


def finish(journal: JournalWriter) -> None:
    journal.write("end", {"status": "FINISHED", "exit_code": 0, "error": ""})
    journal.close()


def runs_of(project: Project) -> Callable[[], list[RunDirectory]]:
    return lambda: list(list_runs(project.config.project))


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


@contextmanager
def followed(project: Project, reports: list[str]) -> Iterator[None]:
    """`follow` at work in a thread; it ends in time."""
    stop = threading.Event()
    thread = threading.Thread(target=lambda: follow(runs_of(project), report=reports.append, stop=stop))
    thread.start()
    yield
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


opened: list[str] = []
recording = threading.Event()


def _on_event(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and recording.is_set():
        opened.append(str(arguments[0]))


def test_runs_that_are_finished_and_delivered_cost_stat_calls_only(project: Project) -> None:
    directory, journal = begun(project)
    finish(journal)
    sync_run(directory)
    folder = directory.path.parent
    for number in range(FINISHED):
        shutil.copytree(directory.path, folder / f"20200101-000000-{number:06x}")
    sys.addaudithook(_on_event)  # it stays for good, and does nothing unless `recording`
    reports: list[str] = []
    all_runs = Following(runs_of(project), reports.append)
    all_runs.look()
    live, writer = begun(project)
    recording.set()
    all_runs._listed = -following.LIST_SECONDS
    all_runs.look()
    recording.clear()
    finished = [path for path in opened if "/20200101-" in path]
    assert finished == []
    assert [run.run_id for run in all_runs.runs] == [live.run_id]  # and a new run is found
    all_runs.end()
    writer.close()
    assert reports == []


def test_a_live_run_is_delivered_with_one_claim_which_is_given_back(project: Project) -> None:
    reports: list[str] = []
    directory, journal = begun(project)
    kept = project.config.project / f"{directory.run_id}.jsonl"
    with followed(project, reports):
        for step in range(3):
            journal.write("metrics", {"step": step, "metrics": {"loss": 0.5}})
            wait_for(lambda step=step: kept.exists() and f'"step": {step}' in kept.read_text())  # type: ignore[misc]
        assert Claim(directory).take() is None
    (file,) = directory.delivery_files()
    assert read_journal(file).records[-1].kind == "end"
    assert len(kept.read_text().splitlines()) == 3
    finish(journal)
    assert sync_run(directory).pending == 0
    assert reports == []


def test_a_deliverer_that_is_held_up_hands_over_to_one_that_can(tmp_path: Path, project: Project) -> None:
    directory, journal = begun(project)
    held_up = Claim(directory).take()
    assert held_up is not None
    delivery = Delivery(directory, project_with(tmp_path, "cutoff"), held_up)
    stop = threading.Event()
    thread = threading.Thread(target=lambda: delivery.run(stop=stop))
    thread.start()
    wait_for(lambda: "no network" in str(read_state(directory).trackers))
    with followed(project, []):
        journal.write("metrics", {"step": 1, "metrics": {"loss": 0.5}})
        wait_for(lambda: (tmp_path / f"{directory.run_id}.jsonl").exists())
        thread.join(30)
        assert not thread.is_alive()
        assert Claim(directory).take() is None  # and keeps it
    journal.close()
    first, second = directory.delivery_files()
    assert read_journal(first).records[-1].kind == read_journal(second).records[-1].kind == "end"


def test_a_run_that_cannot_be_read_is_reported_once_and_holds_up_no_other(project: Project) -> None:
    damaged, writer = begun(project)
    finish(writer)
    damaged.summary.write_text('{"format": 99}')
    directory, journal = begun(project)
    journal.write("metrics", {"step": 1, "metrics": {"loss": 0.5}})
    finish(journal)
    reports: list[str] = []
    with followed(project, reports):
        wait_for(lambda: read_state(directory).pending == 0)
        time.sleep(2 * following.LIST_SECONDS + 0.5)
    (report,) = reports
    assert damaged.run_id in report and "99" in report
    assert damaged.delivery_files() == []


def test_a_run_whose_configuration_cannot_be_read_has_no_deliverer(project: Project) -> None:
    directory, journal = begun(project)
    finish(journal)
    directory.config.write_text("ml: [", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(UsageError):
            sync_run(directory)
    assert directory.delivery_files() == []


def test_more_runs_than_have_room_are_all_delivered(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "MOST_ENDED", 2)
    directories = []
    for _ in range(6):
        directory, journal = begun(project)
        journal.write("metrics", {"step": 1, "metrics": {"loss": 0.5}})
        finish(journal)
        directories.append(directory)
    with followed(project, []):
        wait_for(lambda: all(read_state(directory).pending == 0 for directory in directories))
    assert all(len(directory.delivery_files()) == 1 for directory in directories)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_gives_the_claims_back_and_is_the_exit_code(project: Project, number: signal.Signals) -> None:
    directory, journal = begun(project)
    command = [sys.executable, "-m", "prism", "--project", str(project.config.project), "sync", "--follow"]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        wait_for(lambda: bool(directory.delivery_files()))
        wait_for(lambda: read_state(directory).trackers["keeper"].run_id == "kept")
        process.send_signal(number)
        assert process.wait(60) == 128 + number
    finally:
        process.kill()
        process.wait(10)
    journal.close()
    assert read_journal(directory.delivery_files()[-1]).records[-1].kind == "end"
