"""A destination that did not answer when it was asked to make something may make it later: it is looked at again."""

from __future__ import annotations

import json
import time
from pathlib import Path
from textwrap import dedent

import pytest

from prism.delivery.channel import Channel
from prism.delivery.channels import Delivery
from prism.delivery.claim import Claim
from prism.delivery.syncing import sync_run
from prism.errors import Unanswered
from prism.journal.directory import RunDirectory
from prism.journal.opening import open_journal
from prism.journal.state import read_state
from prism.project import Project, open_project
from prism.runs.beginning import begin_run, describe_run

TRACKER = """
import time

from prism.errors import Unanswered
from prism.hookspecs import hookimpl
from prism.protocols import TrackerRun
from prism.providers import Provider


class Slow:
    def open(self, run):
        self.folder = run.project
        asked = self.folder / "asked"
        if not asked.exists():
            asked.touch()
            while (self.folder / "stalled").exists():
                time.sleep(0.05)
            raise Unanswered("no answer in time")
        return TrackerRun(id="slow")

    def position(self):
        return {}

    def deliver(self, records, position):
        pass

    def close(self, status, ended):
        with (self.folder / "closed").open("a") as stream:
            stream.write(f"{status} ")


@hookimpl
def prism_trackers():
    return [Provider("slow", target="strange:Slow")]
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "strange.py").write_text(dedent(TRACKER), encoding="utf-8")
    settings = {"trackers": ["slow"], "plugins": {"local": ["strange.py"]}, "foundation": {"experiment_name": "any"}}
    (tmp_path / "sais_foundation.yaml").write_text(json.dumps(settings), encoding="utf-8")
    return open_project(tmp_path / "sais_foundation.yaml")


def ended_run(project: Project) -> RunDirectory:
    directory = begin_run(project)
    journal = open_journal(directory, "a1-rank0", role="worker")
    describe_run(journal.write, project)
    journal.write("metrics", {"step": 1, "metrics": {"loss": 0.5}})
    journal.write("end", {"status": "FINISHED", "exit_code": 0, "error": ""})
    journal.close()
    return directory


def test_the_end_is_told_again_when_nothing_can_come_late_any_more(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = ended_run(project)
    with pytest.raises(Unanswered):
        sync_run(directory)
    assert read_state(directory).trackers["slow"].pending == 3  # the metrics, the end, and what it may make late
    monkeypatch.setenv("PRISM_LATE_SECONDS", "2")
    state = sync_run(directory)  # by another deliverer, which knows of it from the first one's journal
    assert (project.config.project / "closed").read_text() == "FINISHED FINISHED "
    assert (state.pending, state.trackers["slow"].problem) == (0, "")
    assert sync_run(directory).pending == 0
    assert (project.config.project / "closed").read_text() == "FINISHED FINISHED "


def test_until_then_it_is_pending_and_said(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = ended_run(project)
    with pytest.raises(Unanswered):
        sync_run(directory)
    monkeypatch.setenv("PRISM_LATE_SECONDS", "1.5")
    seen = []
    say = Channel._say_position

    def note(channel: Channel, **facts: str) -> None:
        say(channel, **facts)
        state = read_state(directory).trackers["slow"]
        seen.append((state.pending > 0, "did not answer when it was asked to make something" in state.problem))

    monkeypatch.setattr(Channel, "_say_position", note)
    sync_run(directory)
    assert seen and all(pending and said for pending, said in seen)


def test_a_deliverer_that_ends_while_it_is_asked_says_so(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that hands over to another process does."""
    directory = ended_run(project)
    (project.config.project / "stalled").touch()
    journal = Claim(directory).take()
    assert journal is not None
    delivery = Delivery(directory, project, journal)
    delivery.begin()
    while not (project.config.project / "asked").exists():
        time.sleep(0.05)
    delivery.end()
    (project.config.project / "stalled").unlink()
    assert read_state(directory).trackers["slow"].unanswered
    monkeypatch.setenv("PRISM_LATE_SECONDS", "1")
    assert sync_run(directory).pending == 0
    assert (project.config.project / "closed").read_text() == "FINISHED FINISHED "
