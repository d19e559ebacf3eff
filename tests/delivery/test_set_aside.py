"""One record that a tracker does not take now holds up no other: it is set aside, counted, named and tried again."""

from __future__ import annotations

import json
import random
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from prism.delivery.syncing import sync_run
from prism.errors import Unreachable
from prism.journal.directory import RunDirectory
from prism.journal.opening import open_journal
from prism.journal.records import JournalWriter
from prism.journal.state import LiveState, RunState, read_state
from prism.project import Project, open_project
from prism.runs.beginning import begin_run, describe_run

TRACKERS = """
import json
import random

from prism.errors import Unreachable, WorkFailed
from prism.hookspecs import hookimpl
from prism.protocols import TrackerRun
from prism.providers import Provider


class Picky:
    # what it does not take stands in picky.json: text in a record -> the error; "all" -> how often any call fails

    def open(self, run):
        self.folder = run.project
        self.chance = random.Random(1)
        return TrackerRun(id="picky", url="")

    def position(self):
        file = self.folder / "position.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def deliver(self, records, position):
        wrong = json.loads((self.folder / "picky.json").read_text())
        if self.chance.random() < wrong.get("all", 0):
            raise Unreachable("no answer in time")
        for record in records:
            for text, error in wrong.items():
                if text in json.dumps(dict(record.data)):
                    raise {"later": Unreachable, "never": WorkFailed, "bug": RuntimeError}[error](f"500 for {text}")
        with (self.folder / "kept.jsonl").open("a") as stream:
            stream.writelines(json.dumps([r.file, r.seq, r.kind, dict(r.data)]) + "\\n" for r in records)
        (self.folder / "position.json").write_text(json.dumps(dict(position)))

    def close(self, status, ended):
        pass


@hookimpl
def prism_trackers():
    return [Provider("picky", target="strange:Picky")]
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "strange.py").write_text(dedent(TRACKERS), encoding="utf-8")
    settings = {"trackers": ["picky"], "plugins": {"local": ["strange.py"]}, "foundation": {"experiment_name": "any"}}
    (tmp_path / "sais_foundation.yaml").write_text(json.dumps(settings), encoding="utf-8")
    return open_project(tmp_path / "sais_foundation.yaml")


def refuse(project: Project, **wrong: str | float) -> None:
    (project.config.project / "picky.json").write_text(json.dumps(wrong))


def ended_run(project: Project, *records: tuple[str, dict[str, Any]]) -> RunDirectory:
    directory = begin_run(project)
    journal = open_journal(directory, "a1-rank0", role="worker")
    describe_run(journal.write, project)
    for kind, data in records:
        journal.write(kind, data)
    journal.write("end", {"status": "FINISHED", "exit_code": 0, "error": ""})
    journal.close()
    return directory


def points(steps: range) -> list[tuple[str, dict[str, Any]]]:
    return [("metrics", {"step": step, "metrics": {"loss": 0.5}}) for step in steps]


def file(name: str, *, stored: str = "files/x") -> tuple[str, dict[str, Any]]:
    return "file", {"name": name, "stored": stored, "original": "", "size": 1, "sha256": ""}


def kept(project: Project) -> list[tuple[str, dict[str, Any]]]:
    lines = (project.config.project / "kept.jsonl").read_text(encoding="utf-8").splitlines()
    return [(kind, data) for _, _, kind, data in map(json.loads, lines)]


def steps_kept(project: Project) -> list[int]:
    return [data["step"] for kind, data in kept(project) if kind == "metrics"]


def sync_with_trouble(directory: RunDirectory) -> RunState:
    with pytest.raises(Unreachable):
        sync_run(directory)
    return read_state(directory)


@pytest.mark.parametrize("error", ["later", "bug"])
def test_what_is_not_taken_is_set_aside_named_and_delivered_later(project: Project, error: str) -> None:
    directory = ended_run(project, *points(range(30)), file("big.bin"), *points(range(30, 60)))
    refuse(project, **{"big.bin": error})
    for _ in range(2):  # each sync tries it again
        state = sync_with_trouble(directory)
        assert sorted(steps_kept(project)) == list(range(60))
        assert (state.pending, state.trackers["picky"].held) == (1, {"a1-rank0": [33]})
        assert "'big.bin' (a1-rank0:33)" in state.trackers["picky"].problem
        assert "500 for big.bin" in state.trackers["picky"].problem
        assert state.trackers["picky"].closed == "FINISHED"
    refuse(project)
    state = sync_run(directory)
    assert (state.pending, state.trackers["picky"].held, state.trackers["picky"].problem) == (0, {}, "")
    assert [data["name"] for kind, data in kept(project) if kind == "file"] == ["big.bin"]
    assert sorted(steps_kept(project)) == list(range(60))


def test_what_is_final_is_refused_with_a_warning_and_everything_else_arrives(project: Project) -> None:
    directory = ended_run(project, *points(range(300)), file("bad.bin"), *points(range(300, 600)))
    refuse(project, **{"bad.bin": "never"})
    state = sync_run(directory)
    assert steps_kept(project) == list(range(600))
    (warning,) = state.warnings
    assert "refused file record a1-rank0:303: 500 for bad.bin" in warning
    assert state.pending == 0


def test_a_tracker_that_takes_nothing_has_nothing_set_aside(project: Project) -> None:
    directory = ended_run(project, *points(range(30)))
    refuse(project, all=1.0)
    state = sync_with_trouble(directory)
    assert state.trackers["picky"].held == {}
    assert state.pending > 30
    assert "no answer in time" in state.trackers["picky"].problem


def test_the_last_word_counts_for_what_was_set_aside(project: Project) -> None:
    """A file or tag that was said anew and delivered must not be overwritten by its earlier self."""
    directory = ended_run(
        project,
        file("report", stored="files/first"),
        ("tags", {"tags": {"stage": "first", "other": "early"}}),
        *points(range(3)),
        file("report", stored="files/second"),
        ("tags", {"tags": {"stage": "second"}}),
    )
    refuse(project, **{"files/first": "later", "early": "later"})
    assert sync_with_trouble(directory).trackers["picky"].held == {"a1-rank0": [4]}
    refuse(project)
    sync_run(directory)
    assert [data["stored"] for kind, data in kept(project) if kind == "file"] == ["files/second"]
    tags: dict[str, str] = {}
    for kind, data in kept(project):
        tags |= data["tags"] if kind == "tags" else {}
    assert tags == {"stage": "second", "other": "early"}


def test_calls_stay_in_order_behind_one_that_is_set_aside(project: Project) -> None:
    calls = [("call", {"tracker": "picky", "method": f"m{i}", "arguments": {}}) for i in range(4)]
    directory = ended_run(project, *calls[:2], *points(range(3)), *calls[2:])
    refuse(project, m1="later")
    state = sync_with_trouble(directory)
    assert state.pending == 3
    assert steps_kept(project) == [0, 1, 2]
    refuse(project)
    assert sync_run(directory).pending == 0
    assert [data["method"] for kind, data in kept(project) if kind == "call"] == ["m0", "m1", "m2", "m3"]


def test_a_server_that_fails_now_and_then_loses_and_refuses_nothing(project: Project) -> None:
    seed = 5
    print("seed", seed)
    count = random.Random(seed).randrange(200, 300)
    directory = ended_run(project, *points(range(count)), *(file(f"{i}.bin") for i in range(20)))
    refuse(project, all=0.4)
    for _ in range(60):
        try:
            state = sync_run(directory)
        except Unreachable:
            continue
        break
    assert (state.pending, state.warnings) == (0, [])
    assert sorted(steps_kept(project)) == list(range(count))
    assert len([data for kind, data in kept(project) if kind == "file"]) == 20


def test_a_deliverer_that_was_taken_over_from_does_not_bring_back_what_it_had_set_aside(project: Project) -> None:
    directory = ended_run(project, *points(range(3)), file("big.bin"))
    refuse(project, **{"big.bin": "later"})
    sync_with_trouble(directory)
    refuse(project)
    sync_run(directory)
    live = LiveState(directory)
    late = JournalWriter(directory.delivery / "000000.jsonl")
    late.write("tracker", {"tracker": "picky", "held": {"a1-rank0": [6]}})
    late.close()
    assert live.poll().pending == read_state(directory).pending == 0
