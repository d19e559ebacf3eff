"""Nodes that share no file system: a folder without rank 0 is a part of the run, and says nothing about its end."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from prism.delivery.channels import Delivery
from prism.delivery.claim import Claim
from prism.delivery.outbox import Outbox
from prism.delivery.syncing import sync_run
from prism.journal.directory import RunDirectory
from prism.journal.opening import open_journal
from prism.journal.records import JournalWriter
from prism.journal.state import read_state
from prism.project import Project, open_project
from prism.runs.beginning import begin_run, describe_run

TRACKERS = """
import json

from prism.hookspecs import hookimpl
from prism.protocols import TrackerRun
from prism.providers import Provider


class Keeper:
    def note(self, *what):
        with self.file.open("a") as stream:
            stream.write(json.dumps(what) + "\\n")

    def open(self, run):
        self.file = run.project / "kept.jsonl"
        self.note("open", run.part, run.name)
        return TrackerRun(id="kept", url="")

    def position(self):
        return {}

    def deliver(self, records, position):
        self.note("deliver", [record.file for record in records])

    def close(self, status, ended):
        self.note("close", status)


@hookimpl
def prism_trackers():
    return [Provider("keeper", target="strange:Keeper")]
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "strange.py").write_text(dedent(TRACKERS), encoding="utf-8")
    settings = {"trackers": ["keeper"], "plugins": {"local": ["strange.py"]}, "foundation": {"experiment_name": "any"}}
    (tmp_path / "sais_foundation.yaml").write_text(json.dumps(settings), encoding="utf-8")
    return open_project(tmp_path / "sais_foundation.yaml")


def kept(project: Project) -> list[list[Any]]:
    file = project.config.project / "kept.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def rank(directory: RunDirectory, number: int) -> JournalWriter:
    return open_journal(directory, f"a1-rank{number}", role="worker", facts={"trackers": ["keeper"]})


def finish(journal: JournalWriter) -> None:
    journal.write("end", {"status": "FINISHED", "exit_code": 0, "error": ""})
    journal.close()


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def test_a_part_is_delivered_and_never_closed(project: Project) -> None:
    directory = begin_run(project)
    eighth = rank(directory, 8)
    beside = open_journal(directory, "node-abc", role="node")
    beside.write("metrics", {"step": 1, "metrics": {"system/node1/cpu": 0.5}})
    beside.close()
    finish(eighth)
    state = read_state(directory)
    assert state.part and state.pending == 1
    assert sync_run(directory).pending == 0
    assert kept(project) == [["open", state.part, ""], ["deliver", ["node-abc"]]]


def test_a_folder_with_rank_0_is_no_part_and_is_opened_under_its_name(project: Project) -> None:
    """Also where a launcher of the same folder was quicker; nothing is opened before the run is known."""
    directory = begin_run(project)
    launcher = open_journal(directory, "a1-launch", role="launcher")
    claim = Claim(directory).take()
    assert claim is not None
    delivery, stop = Delivery(directory, project, claim), threading.Event()
    thread = threading.Thread(target=lambda: delivery.run(stop=stop))
    thread.start()
    time.sleep(1.5)
    assert kept(project) == []
    zeroth, first = rank(directory, 0), rank(directory, 1)
    describe_run(zeroth.write, project, name="mine")
    zeroth.write("metrics", {"step": 1, "metrics": {"loss": 0.5}})
    finish(first)
    finish(zeroth)
    finish(launcher)
    wait_for(lambda: ["close", "FINISHED"] in kept(project))
    thread.join(60)
    assert not thread.is_alive()
    assert kept(project)[0] == ["open", "", "mine"]


def test_however_much_has_gathered_little_of_it_is_read_ahead(project: Project) -> None:
    directory = begin_run(project)
    journal = rank(directory, 0)
    for step in range(20_000):
        journal.write("metrics", {"step": step, "metrics": {"loss": 0.5}})
    outbox = Outbox(directory)
    outbox.begin({}, held={})
    assert [len(outbox.next(100)) for _ in range(5)] == [100] * 5
    assert len(outbox._waiting) == 100
    seen = 0
    while batch := outbox.next(3000):
        seen += len(batch)
        outbox.done(batch)
    assert seen == 20_000
    journal.close()
