"""Delivery to trackers of strangers: repeated points end it too, and one that fails holds up no other."""

from __future__ import annotations

import json
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from prism.delivery.claim import Claim
from prism.delivery.syncing import sync_run
from prism.errors import PrismError
from prism.journal.directory import RunDirectory
from prism.journal.identity import ProcessIdentity
from prism.journal.opening import open_journal
from prism.journal.records import JournalWriter
from prism.journal.state import read_state
from prism.project import Project, open_project
from prism.runs.beginning import begin_run, describe_run

TRACKERS = """
import json
import sys

from prism.hookspecs import hookimpl
from prism.protocols import TrackerRun
from prism.providers import Provider


class Keeper:
    def open(self, run):
        self.file = run.project / "kept.jsonl"
        return TrackerRun(id="kept", url="")

    def position(self):
        return {}

    def deliver(self, records, position):
        with self.file.open("a") as stream:
            stream.writelines(json.dumps(dict(record.data)) + "\\n" for record in records)

    def close(self, status, ended):
        with (self.file.parent / "closed.txt").open("a") as stream:
            stream.write(f"{status} ")


class Broken(Keeper):
    def open(self, run):
        raise RuntimeError("out of order")


class Leaver(Keeper):
    def open(self, run):
        sys.exit(5)


@hookimpl
def prism_trackers():
    return [Provider(name, target=f"strange:{name.title()}") for name in ("keeper", "broken", "leaver")]
"""
WORKER = {"role": "worker"}


@pytest.fixture
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Project:
    trackers = getattr(request, "param", ["keeper"])
    (tmp_path / "strange.py").write_text(dedent(TRACKERS), encoding="utf-8")
    settings = {"trackers": trackers, "plugins": {"local": ["strange.py"]}, "foundation": {"experiment_name": "any"}}
    (tmp_path / "sais_foundation.yaml").write_text(json.dumps(settings), encoding="utf-8")
    return open_project(tmp_path / "sais_foundation.yaml")


def attempt(directory: RunDirectory, project: Project, number: int, *, steps: range) -> None:
    """An attempt that logged these steps and failed."""
    journal = open_journal(directory, f"a{number}-rank0", **WORKER)
    describe_run(journal.write, project)
    for step in steps:
        journal.write("metrics", {"step": step, "metrics": {"loss": 0.5}})
    journal.write("end", {"status": "FAILED", "exit_code": 1, "error": ""})
    journal.close()


def kept(project: Project) -> list[dict[str, Any]]:
    lines = (project.config.project / "kept.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_an_attempt_that_only_repeats_points_leaves_nothing_pending(project: Project) -> None:
    directory = begin_run(project)
    attempt(directory, project, 1, steps=range(10))
    attempt(directory, project, 2, steps=range(5, 8))
    assert sync_run(directory).pending == 0
    assert [point["step"] for point in kept(project)] == list(range(10))


@pytest.mark.parametrize("project", [["broken", "keeper"], ["leaver", "keeper"]], indirect=True)
def test_a_tracker_that_fails_holds_up_no_other(project: Project) -> None:
    directory = begin_run(project)
    attempt(directory, project, 1, steps=range(3))
    with pytest.raises(PrismError, match=r"'broken' failed: RuntimeError|'leaver' failed: SystemExit"):
        sync_run(directory)
    assert [point["step"] for point in kept(project)] == [0, 1, 2]
    first, second = read_state(directory).trackers.values()
    assert first.pending > 0
    assert "failed" in first.problem
    assert (second.pending, second.problem) == (0, "")


def test_a_sync_that_gets_no_further_ends(project: Project) -> None:
    """A tracker of an earlier attempt that the configuration no longer names."""
    directory = begin_run(project)
    journal = open_journal(directory, "a1-launch", role="launcher")
    facts = {"experiment": "any", "name": "", "config_file": "sais_foundation.yaml", "trackers": ["gone"]}
    journal.write("run", facts)
    journal.write("end", {"status": "FAILED", "exit_code": 1, "error": ""})
    journal.close()
    attempt(directory, project, 2, steps=range(3))
    began = time.monotonic()
    state = sync_run(directory)
    assert time.monotonic() - began < 20
    assert state.trackers["keeper"].pending == 0
    assert state.trackers["gone"].pending > 0
    assert Claim(directory).take() is not None


def test_a_lost_run_that_speaks_again_is_opened_at_the_tracker(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = begin_run(project)
    node = JournalWriter(directory.journal / "a1-rank0.jsonl")
    node.write("start", {"role": "worker", "process": ProcessIdentity("node7", "boot/pid:[1]", 12, 99).dump()})
    describe_run(node.write, project)
    node.write("metrics", {"step": 0, "metrics": {"loss": 0.5}})
    assert (sync_run(directory).status, kept(project)[0]["step"]) == ("RUNNING", 0)
    monkeypatch.setenv("PRISM_LEASE_SECONDS", "0.01")
    time.sleep(0.1)
    assert sync_run(directory).status == "FAILED"
    monkeypatch.delenv("PRISM_LEASE_SECONDS")
    node.write("heartbeat", {"count": 1})  # nothing that a tracker is told
    state = read_state(directory)
    assert (state.status, state.pending) == ("RUNNING", 1)
    assert (sync_run(directory).pending, read_state(directory).pending) == (0, 0)
    node.write("end", {"status": "FINISHED", "exit_code": 0, "error": ""})
    assert (sync_run(directory).status, sync_run(directory).pending) == ("FINISHED", 0)
    assert (project.config.project / "closed.txt").read_text(encoding="utf-8") == "FAILED RUNNING FINISHED "
