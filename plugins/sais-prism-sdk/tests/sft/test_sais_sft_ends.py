"""How a decorated `run()` may end, and what the run is called then. The scripts need no framework."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

import pytest

from prism.journal.state import read_state

SCRIPT = """
import os, signal, sys
from sais_prism import sais_foundation
from sais_prism.core.service_locator import ServiceLocator

@sais_foundation
class Work:
    def run(self, act=lambda: None):
        self.ml = ServiceLocator.get_ml_manager()
        self.ml.log_metrics({"loss": 1.0}, step=1)
        act()

def fail():
    raise ValueError("it went wrong")
"""
ENDS = {  # what the script does, its exit code, the run's status
    "exits with 3": ("Work().run(lambda: sys.exit(3))", 3, "FAILED"),
    "exits with 0": ("Work().run(lambda: sys.exit(0))", 0, "FINISHED"),
    "fails in main": ("Work().run()\nfail()", 1, "FAILED"),
    "ctrl-c": ("Work().run(lambda: os.kill(os.getpid(), signal.SIGINT))", -signal.SIGINT, "KILLED"),
    "terminated": ("Work().run(lambda: os.kill(os.getpid(), signal.SIGTERM))", -signal.SIGTERM, "KILLED"),
    "killed": ("Work().run(lambda: os.kill(os.getpid(), signal.SIGKILL))", -signal.SIGKILL, "FAILED"),
    "terminated in main": ("Work().run()\nos.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, "KILLED"),
}


@pytest.mark.parametrize("end", ENDS)
def test_how_a_program_ends(end: str, here: Any) -> None:
    doing, code, status = ENDS[end]
    here.configure()
    here.write("script.py", SCRIPT + doing)
    here.python("script.py", code=code)
    if end == "killed":  # it said nothing itself; who reads the run sees that it is gone
        assert read_state(here.run()).status in ("FAILED", "RUNNING")
        subprocess.run([sys.executable, "-m", "prism", "runs", "reap"], cwd=here.path, check=True, timeout=60)
    assert here.state().status == status
    assert here.points("loss") == [(1, 1.0)]
    if status == "FAILED" and end != "killed":
        (log,) = here.run().logs.glob("*-error.log")
        assert ("it went wrong" if end == "fails in main" else "SystemExit: 3") in log.read_text(encoding="utf-8")


CAUGHT = """
for act in (fail, lambda: sys.exit(3), lambda: None):
    try:
        Work().run(act)
    except (ValueError, SystemExit):
        pass
here = ServiceLocator.get_ml_manager()
here.log_metrics({"later": 2.0}, step=2)
"""


def test_each_call_is_a_run_and_what_the_script_catches_has_failed_all_the_same(here: Any) -> None:
    here.configure()
    here.write("script.py", SCRIPT + CAUGHT)
    for words, code in ((["script.py"], 0), (["-m", "prism", "run", "script.py"], 1)):
        before = set(here.runs())
        here.python(*words, code=code)  # of `prism run` the first run's, which is the one that it has begun
        states = sorted((read_state(run) for run in set(here.runs()) - before), key=lambda state: state.started)
        assert [state.status for state in states] == ["FAILED", "FAILED", "FINISHED"], words
        assert [state.metrics.get("later") for state in states] == [None, None, 2.0]


def test_two_ranks_under_prism_run_begin_their_further_runs_together(here: Any) -> None:
    here.configure()
    here.write("script.py", f"{SCRIPT}\nfor _ in range(3):\n    Work().run()\n")
    here.python("-m", "prism", "run", "-n", "2", "script.py", ACCELERATE_USE_CPU="true")
    states = [read_state(run) for run in here.runs()]
    assert [(state.status, len(state.processes)) for state in states] == [("FINISHED", 2)] * 3


NESTED = """
@sais_foundation
class Outer:
    def run(self):
        Work().run()
        self.worked = ServiceLocator.get_ml_manager().run.run_id

outer = Outer()
outer.run()
assert outer.worked == ServiceLocator.get_ml_manager().run.run_id
"""


def test_a_run_within_a_run_is_the_same_run(here: Any) -> None:
    here.configure()
    here.write("script.py", SCRIPT + NESTED)
    here.python("script.py")
    assert [read_state(run).status for run in here.runs()] == ["FINISHED"]
    assert here.state().name == "Outer"


ONE_FOLDER = """
import pathlib
folder = pathlib.Path("model")
folder.mkdir()
for number in ("1", "2"):
    Work().run(lambda: [(folder / "config.json").write_text(number), ServiceLocator.get_ml_manager().log_model(folder)])
    (folder / "tokenizer.json").write_text(number)  # of the same run still
"""


@pytest.mark.parametrize("words", [["script.py"], ["-m", "prism", "run", "script.py"]], ids=["python", "prism run"])
def test_runs_that_save_to_the_same_folder_have_their_own_models(words: list[str], here: Any) -> None:
    here.configure()
    here.write("script.py", SCRIPT + ONE_FOLDER)
    here.python(*words)
    states = sorted((read_state(run) for run in here.runs()), key=lambda state: state.started)
    assert [state.status for state in states] == ["FINISHED", "FINISHED"], [state.error for state in states]
    for state, number in zip(states, ("1", "2"), strict=True):
        found = {path.name: path.read_text() for path in state.directory.model.iterdir()}
        assert found == {"config.json": number, "tokenizer.json": number}
