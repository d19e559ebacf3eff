"""A process is told apart from every other that has had or will have its pid, with /proc and without."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from prism.runs import identity
from prism.runs.identity import ProcessIdentity, new_run_id


@pytest.fixture(params=["proc", "ps"])
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if request.param == "ps":
        monkeypatch.setattr(identity, "_PROC", tmp_path / "none")


@pytest.mark.usefixtures("source")
def test_alive_then_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    who = ProcessIdentity.of(child.pid)
    assert who is not None and who.is_here() and who.is_alive()
    child.kill()
    child.wait(10)
    assert not who.is_alive()
    assert ProcessIdentity.of(child.pid) is None


@pytest.mark.usefixtures("source")
def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    who = ProcessIdentity.of(child.pid)
    assert who is not None
    child.kill()
    for _ in range(100):
        if not who.is_alive():
            break
    else:
        pytest.fail("alive although killed")
    child.wait(10)


@pytest.mark.usefixtures("source")
def test_another_start_is_another_process() -> None:
    mine = ProcessIdentity.mine()
    assert mine.is_alive()
    assert not ProcessIdentity(mine.host, mine.machine, mine.pid, mine.started - 5).is_alive()


def test_a_process_of_another_machine_is_not_here() -> None:
    mine = ProcessIdentity.mine()
    assert not ProcessIdentity(mine.host, "another", mine.pid, mine.started).is_here()


def test_run_ids_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = []
    for second in (1_700_000_000, 1_700_000_001, 1_800_000_000):
        monkeypatch.setattr(identity.time, "gmtime", partial(time.gmtime, second))
        ids.append(new_run_id())
        monkeypatch.undo()
    assert ids == sorted(ids) and ids[0].startswith("20231114-221320-")
