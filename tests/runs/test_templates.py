"""The templates of `prism init` run as they are: typed as they are told, registered, killed and resumed to the same."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from prism.journal.state import RunState, read_state

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]


@frozen
class Expected:
    """What comes of a template: last values in their ranges, and the steps of a metric that is logged all along."""

    metrics: Mapping[str, tuple[float, float]]
    along: str
    steps: Sequence[int]


EXPECTED = {
    "sft": Expected({"eval/capitals/rougeL": (0.9, 1.0), "loss": (0.0, 0.5)}, "loss", range(10, 301, 10)),
    "science": Expected({"eval_skill": (0.85, 1.0), "eval_loss": (0.01, 0.02)}, "loss", range(10, 101, 10)),
    "lightning": Expected({"val_error": (0.0, 0.3), "train_loss": (0.01, 0.2)}, "train_loss", range(10)),
}


def needs(template: str) -> None:
    for module in ("accelerate", "mlflow", "transformers"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    if template == "lightning" and find_spec("lightning") is None:
        pytest.skip("lightning is not installed")


def begin(project: Any, template: str) -> list[list[str]]:
    """Lay the template out; the commands that it says are next."""
    made = project.prism("init", "--template", template, "--force")
    assert made.code == 0, made.err
    (told,) = re.findall(r"^next: (.+)$", made.err, re.MULTILINE)
    return [shlex.split(command) for command in told.split(" && ")]


def states(project: Any) -> list[RunState]:
    """Every run of the project, the newest last."""
    return [read_state(directory) for directory in sorted(project.runs(), key=lambda directory: directory.run_id)]


def stored_steps(folder: Path, state: RunState, metric: str) -> list[int]:
    """The steps of every point that MLflow's file has of a metric, doubled ones doubled."""
    rows = "SELECT step FROM metrics WHERE run_uuid = ? AND key = ? ORDER BY step"
    with sqlite3.connect(folder / "mlflow.db") as database:
        return [step for (step,) in database.execute(rows, (state.trackers["mlflow"].run_id, metric))]


def versions_in(folder: Path) -> list[str]:
    with sqlite3.connect(folder / "mlflow.db") as database:
        return [name for (name,) in database.execute("SELECT name FROM model_versions ORDER BY version")]


def assert_whole(project: Any, state: RunState, expected: Expected, *, version: str) -> None:
    assert state.status == "FINISHED", state.error
    assert state.model is not None
    assert (state.model["name"], state.model["version"]) == (f"{project.path.name}_model", version)
    assert state.model["state"] == "registered", state.model
    for name, (low, high) in expected.metrics.items():
        assert low <= state.metrics[name] <= high, (name, state.metrics[name])
    assert stored_steps(project.path, state, expected.along) == list(expected.steps)


@pytest.mark.parametrize("template", EXPECTED)
def test_a_template_runs_as_it_is_and_resumes_to_the_same(template: str, project: Any) -> None:
    needs(template)
    *before, run = begin(project, template)
    for command in [*before, run]:
        done = project.start(command).finish(within=240)
        assert done.code == 0, f"{command}:\n{done.out}\n{done.err}"
    (unbroken,) = states(project)
    assert_whole(project, unbroken, EXPECTED[template], version="1.0.0")
    assert state_of_killed(project, run).status == "FAILED"
    resumed = project.start([*run, "--resume", "auto"]).finish(within=240)
    assert resumed.code == 0, resumed.err
    state = states(project)[-1]
    assert state.attempts == 2
    assert_whole(project, state, EXPECTED[template], version=f"1.0.{len(states(project)) - 1}")
    weights = [each.directory.model / "model.safetensors" for each in (unbroken, state)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert len(versions_in(project.path)) == len(states(project))


def state_of_killed(project: Any, run: Sequence[str]) -> RunState:
    """Kill a run after its first checkpoint. One that was at its end by then does not count, and another is begun."""
    for _ in range(5):
        there = len(project.runs())
        started = project.start(run)
        project.until(lambda there=there: checkpoints(project)[there:], within=240, what="its first checkpoint")
        for worker in states(project)[-1].deciding().values():
            assert worker.process is not None
            with suppress(ProcessLookupError):
                os.kill(worker.process.pid, signal.SIGKILL)
        started.finish(within=120)
        state = states(project)[-1]
        if state.status != "FINISHED":
            return state
    raise AssertionError("five runs were at their end before they could be killed")


def checkpoints(project: Any) -> list[Path]:
    """One whole checkpoint of each run that has any."""
    found = (list(directory.path.glob("checkpoints/*/manifest.json")) for directory in project.runs())
    return [each[0] for each in found if each]


def test_the_lightning_template_takes_the_older_package(project: Any, tmp_path: Path) -> None:
    needs("lightning")
    if find_spec("pytorch_lightning") is None:
        pytest.skip("pytorch_lightning is not installed")
    hidden = tmp_path / "hidden" / "lightning" / "__init__.py"
    hidden.parent.mkdir(parents=True)
    hidden.write_text("raise ModuleNotFoundError(\"No module named 'lightning'\", name='lightning')\n")
    (run,) = begin(project, "lightning")
    done = project.start(run, PYTHONPATH=str(hidden.parents[1])).finish(within=240)
    assert done.code == 0, done.err
    assert_whole(project, states(project)[0], EXPECTED["lightning"], version="1.0.0")
    assert "pytorch_lightning" in done.err + done.out
