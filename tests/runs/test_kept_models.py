"""A run's model: kept whole or the one before it stays, at a process's end too, and told when its name is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prism.errors import DataError
from prism.journal.state import read_state
from prism.runs.models import keep_model

SAVING_LATE = """
import atexit, pathlib, prism
folder = pathlib.Path("made")
folder.mkdir()
for number in range(5):
    (folder / f"part{number}.bin").write_bytes(bytes([number]) * 1000)
run = prism.start_run()
run.before_success(lambda: run.log_model(folder))
"""
FAILING_LATE = """
import prism
run = prism.start_run()
run.before_success(lambda: run.log_model("nowhere"))
"""
TAKING = """
import pathlib, sys, prism
pathlib.Path("made").mkdir(exist_ok=True)
pathlib.Path("made/weights.bin").write_text(sys.argv[1])
with prism.start_run() as run:
    run.log_model("made")
"""
REGISTERING = """
foundation: {experiment_name: kept}
ml: {system_tracing: false, model_repo: {name: kept_model, version: "1.0.1"}}
"""


def is_decided(project: Any) -> bool:
    """Whether it is known what became of the newest run's model."""
    model = read_state(project.runs()[0]).model
    return model is not None and model["state"] != "pending"


def test_an_earlier_model_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.bin").write_text(name)
    keep_model(tmp_path / "first", tmp_path / "kept")
    with pytest.raises(DataError):
        keep_model(tmp_path / "nowhere", tmp_path / "kept")
    assert (tmp_path / "kept" / "weights.bin").read_text() == "first"
    keep_model(tmp_path / "second", tmp_path / "kept")
    assert (tmp_path / "kept" / "weights.bin").read_text() == "second"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "kept", "second"]


def test_a_model_is_kept_while_the_process_ends(project: Any) -> None:
    """Python starts no more threads then, which digests of several files would take."""
    project.write("script.py", SAVING_LATE)
    done = project.python("script.py")
    assert (done.code, project.state().status) == (0, "FINISHED"), done.err
    assert len(list((project.state().directory.model).iterdir())) == 5


def test_what_fails_at_the_end_is_said(project: Any) -> None:
    project.write("script.py", FAILING_LATE)
    done = project.python("script.py")
    assert project.state().status == "FAILED"
    assert f"run {project.state().run_id} FAILED: nowhere is not a folder" in done.err


def test_a_version_that_is_taken_is_told_when_the_model_is_kept(project: Any) -> None:
    pytest.importorskip("mlflow")
    project.configure(REGISTERING)
    project.write("script.py", TAKING)
    for content, told in (("one", False), ("one", False), ("two", True)):
        done = project.python("script.py", content)
        assert ("this model will be refused; an empty version takes the next" in done.err) is told, done.err
        project.until(lambda: is_decided(project), within=90, what="the registration")
    listed = project.prism("runs", "list")
    assert "already has a version" in listed.out, listed.out
