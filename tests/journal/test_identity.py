"""A process is told apart from every other that has had or will have its pid, with /proc and without."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prism.journal import identity
from prism.journal.identity import ProcessIdentity, new_run_id


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
    deadline = time.monotonic() + 10
    while who.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.wait(10)


@pytest.mark.usefixtures("source")
def test_another_start_is_another_process() -> None:
    mine = ProcessIdentity.mine()
    assert mine.is_alive()
    assert not ProcessIdentity(mine.host, mine.machine, mine.pid, mine.started - 5).is_alive()


def test_a_process_of_another_machine_is_not_here() -> None:
    mine = ProcessIdentity.mine()
    assert not ProcessIdentity(mine.host, "another", mine.pid, mine.started).is_here()


def test_run_ids_sort_by_time() -> None:
    ids = []
    for _ in range(3):
        ids.append(new_run_id())
        time.sleep(1.01)
    assert ids == sorted(ids)
    assert all(re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}", run_id) for run_id in ids)
