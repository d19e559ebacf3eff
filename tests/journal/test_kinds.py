"""What user code may say: nothing of it makes a run unreadable, whatever it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prism.errors import UsageError
from prism.journal.directory import RunDirectory
from prism.journal.records import JournalWriter, read_journal
from prism.journal.state import read_state, write_run_summary
from prism.project import open_project
from prism.runs.beginning import begin_run, enter_attempt
from prism.runs.handle import Run
from prism.runs.values import artifact_name, whole_step

HALF = "\udce9"  # as Python reads a file name that is no UTF-8


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    settings = {"foundation": {"experiment_name": "any"}, "ml": {"enabled": False}}
    (tmp_path / "sais_foundation.yaml").write_text(json.dumps(settings), encoding="utf-8")
    project = open_project(tmp_path / "sais_foundation.yaml")
    with enter_attempt(begin_run(project), project=project, attempt=1) as run:
        yield run


class Index:
    """An integer of some array library."""

    def __index__(self) -> int:
        return 7


@pytest.mark.parametrize(("step", "stored"), [(None, None), (3, 3), (-1, -1), (True, 1), (4.0, 4), (Index(), 7)])
def test_a_step_is_stored_as_a_whole_number(step: Any, stored: int | None) -> None:
    found = whole_step(step)
    assert found == stored
    assert json.dumps(found) == json.dumps(stored)


@pytest.mark.parametrize("step", ["10", 1.5, float("nan"), float("inf"), [1], 1 << 63, 10**30])
def test_what_is_no_step_is_refused_where_it_is_said(run: Run, step: Any) -> None:
    with pytest.raises(TypeError, match="step"):
        run.log_metrics({"loss": 1.0}, step=step)


@pytest.mark.parametrize("value", ["fast", None, [1.0], 1j, 10**400])
def test_what_is_no_metric_is_refused_where_it_is_said(run: Run, value: Any) -> None:
    with pytest.raises(TypeError):
        run.log_metrics({"loss": value}, step=1)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("metrics", {"step": "a", "metrics": {}}),
        ("metrics", {"step": 1, "metrics": {"loss": "fast"}}),
        ("metrics", {"loss": 1.0}),
        ("params", {"params": []}),
        ("model", {"digest": "", "size": 1, "register": {"name": "m"}}),
        ("checkpoint", {}),
        ("mine", {"seq": 5}),
        ('mine","seq":5,"x":"', {}),
    ],
)
def test_a_record_that_nobody_could_read_is_not_written(run: Run, kind: str, data: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        run.say(kind, data)
    run.say("mine", {"anything": [1, None]})
    assert read_state(RunDirectory(run.directory)).damage == []


def test_a_record_that_nobody_can_read_is_named_and_passed_over(run: Run) -> None:
    journal = JournalWriter(run.directory / "journal" / "a1-rank0-p1.jsonl")
    journal.write("metrics", {"step": "one", "metrics": {"loss": 1.0}})
    journal.write("metrics", {"step": 2, "metrics": {"loss": 0.5}})
    journal.close()
    state = read_state(RunDirectory(run.directory))
    assert state.metrics == {"loss": 0.5}
    (damage,) = state.damage
    assert "'step' is missing or of a wrong type" in damage.reason


def test_half_a_character_comes_back_as_it_was_said(run: Run) -> None:
    run.log_params({HALF: HALF})
    run.set_tags({"note": HALF})
    run.log_metrics({HALF: 1.0})
    (run.project / f"{HALF}.txt").write_text("here", encoding="utf-8")
    run.log_artifact(run.project / f"{HALF}.txt")
    run.log_text(HALF, name="half.txt")
    directory = RunDirectory(run.directory)
    state = read_state(directory)
    assert (state.params[HALF], state.tags["note"], state.metrics[HALF]) == (HALF, HALF, 1.0)
    records = read_journal(directory.journal / "a1-rank0.jsonl").records
    kept = next(record.data["stored"] for record in records if record.kind == "file")
    assert (run.directory / kept).read_text(encoding="utf-8") == "here"
    write_run_summary(state)
    assert json.loads(directory.summary.read_text(encoding="utf-8"))["params"][HALF] == HALF


@pytest.mark.parametrize("name", ["", ".", "/a", "../a", "a/../../b", "a\0b"])
def test_a_name_that_no_artifact_can_have_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        artifact_name(name)
