"""Folders with a `sais_foundation.yaml` in which this process uses `sais_prism` as a script of its own does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from attrs import define

from prism.journal.directory import RunDirectory, list_runs
from prism.journal.projection import Follower
from prism.journal.state import RunState, read_state
from prism.protocols import Record

UNTRACKED = """
foundation: {experiment_name: seeds}
unified_data_access: {enabled: false}
ml: {enabled: false, system_tracing: false, parameters: {lr: 0.1}}
"""
_OTHERS = ("PRISM", "MLFLOW", "RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "TORCHELASTIC")


@define
class Here:
    """A project folder, the current one, and what its runs have said."""

    path: Path

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
        return path

    def configure(self, text: str = UNTRACKED) -> Path:
        return self.write("sais_foundation.yaml", text)

    def runs(self) -> list[RunDirectory]:
        return list(list_runs(self.path))

    def run(self) -> RunDirectory:
        """The run begun last."""
        return max(self.runs(), key=lambda run: run.run_id)

    def state(self) -> RunState:
        return read_state(self.run())

    def records(self, kind: str) -> list[Record]:
        return [record for record in Follower(self.run()).poll() if record.kind == kind]

    def points(self, name: str) -> list[tuple[int | None, float]]:
        """Every point of that name in the journal: step and value."""
        said = [record.data for record in self.records("metrics")]
        return [(data["step"], data["metrics"][name]) for data in said if name in data["metrics"]]

    def python(self, *words: str | Path, code: int = 0, **environ: str) -> subprocess.CompletedProcess[str]:
        """A Python of its own here, to its end, which is to be with that code."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OTHERS)}
        started = subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=self.path, env={**kept, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", **environ},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            out, err = started.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            started.terminate()  # a launcher ends what it has launched
            out, err = started.communicate(timeout=30)
        done = subprocess.CompletedProcess(words, started.returncode, out, err)
        assert done.returncode == code, done.stdout + done.stderr
        return done


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    """An empty folder, the current one, in a process that has used nothing of `sais_prism` yet."""
    from sais_prism.core.config import ConfigManager
    from sais_prism.frameworks.saved import LastSaved
    from sais_prism.here import here as held

    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith(_OTHERS)]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "argv", ["script.py"])
    monkeypatch.setattr(ConfigManager, "_instance", None)
    monkeypatch.setattr("sais_prism.hints._said", set())
    monkeypatch.setattr("sais_prism.hints._before", [], raising=False)
    fresh: dict[str, Any] = {"run": None, "saved": LastSaved(), "working": False, "spoken_for": False}
    for name, value in {**fresh, "data_client": None, "ml_manager": None}.items():
        monkeypatch.setattr(held, name, value)
    yield Here(folder)
    if held.open_run is not None:
        held.open_run.finish()


Argv = Callable[..., None]


@pytest.fixture
def argv(monkeypatch: pytest.MonkeyPatch) -> Argv:
    """Sets the command line that scripts see: `argv("--config", "a.b=1")`."""
    return lambda *words: monkeypatch.setattr(sys, "argv", ["script.py", *words])
