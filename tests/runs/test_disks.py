"""Disks that are full, fill up, or are read-only: real ones, small, mounted for the test."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.mount

PAGE = 4096
TRAIN = """
import time
def work(run):
    for step in range(1, 201):
        run.log_metrics({"loss": 1 / step}, step=step)
    (run.project / "trained").touch()
"""
FILLING = """
import pathlib, os
def work(run):
    for step in range(1, 101):
        run.log_metrics({"loss": 1 / step}, step=step)
    fill(run.project / "ballast")
    for step in range(101, 301):
        run.log_metrics({"loss": 1 / step}, step=step)
    print("trained to the end", flush=True)

def fill(path):
    with path.open("wb", buffering=0) as stream:
        try:
            while stream.write(bytes(4096)):
                pass
        except OSError:
            pass
"""
SCRIPT_THAT_PRINTS = FILLING.replace("    for step in range(101", "    print('x' * 200_000)\n    for step in range(101")


def mount(*arguments: str | Path) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        pytest.skip(f"this machine does not let us mount a file system: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a file system of so many bytes; gone after the test."""
    place = tmp_path / "disk"
    place.mkdir()

    def make(size: int) -> Path:
        try:
            mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", place)
        except FileNotFoundError:
            pytest.skip("this machine has no mount command")
        return place

    yield make
    if place.is_mount():
        subprocess.run(["umount", "--lazy", place], timeout=20, check=True)


def fill(folder: Path, *, leaving: int) -> None:
    """Use the disk up, but for `leaving` pages."""
    free = os.statvfs(folder)
    with (folder / "ballast").open("wb") as stream:
        stream.write(bytes((free.f_bavail - leaving) * free.f_frsize))


def left(project: Any) -> list[str]:
    """Everything in the project but what the test put there."""
    own = {"sais_foundation.yaml", "train.py", "ballast", "trained"}
    return sorted(str(p.relative_to(project.path)) for p in project.path.rglob("*") if p.name not in own)


def test_a_disk_that_is_full_before_the_run(disk: Callable[[int], Path], new_project: Callable[..., Any]) -> None:
    project = new_project(disk(1024 * PAGE))
    project.write("train.py", TRAIN)
    fill(project.path, leaving=0)
    done = project.prism("run", "train.py:work")
    assert done.code == 4
    assert "No space left on device" in done.err and str(project.path) in done.err and "make room" in done.err
    assert "Traceback" not in done.err
    assert left(project) == []


@pytest.mark.parametrize("entries", [1, 2, 5, 7, 9, 11, 13])
def test_a_disk_that_takes_only_some_of_the_files(
    disk: Callable[..., Path], new_project: Callable[..., Any], entries: int
) -> None:
    """Room is refused at each stage of beginning: then nothing was begun and nothing stays, or it trains to the end."""
    place = disk(1024 * PAGE)
    project = new_project(place)
    project.write("train.py", TRAIN)
    mount("-o", f"remount,nr_inodes={3 + entries}", place)  # the root, the configuration, the script
    done = project.prism("run", "train.py:work", within=60)
    assert "Traceback" not in done.err
    if done.code == 0:
        assert (project.path / "trained").exists()
    else:
        assert done.code == 4 and "No space left on device" in done.err
        assert entries > 9 or left(project) == [], done.err


@pytest.mark.parametrize("source", [FILLING, SCRIPT_THAT_PRINTS], ids=["logs", "prints"])
def test_a_disk_that_fills_up_during_the_run(
    disk: Callable[[int], Path], new_project: Callable[..., Any], source: str
) -> None:
    project = new_project(disk(1024 * PAGE))
    project.write("train.py", source)
    done = project.prism("run", "train.py:work", within=60)
    assert done.code == 0, done.err
    assert "trained to the end" in done.out and "Traceback" not in done.err
    warnings = [line for line in done.err.splitlines() if line.startswith("warning: the journal")]
    assert len(warnings) == 1 and "No space left on device" in warnings[0]
    (project.path / "ballast").unlink()
    state = project.state()
    assert state.status == "FINISHED"
    points = len(project.records("metrics"))
    assert 100 <= points < 300 and state.metrics["loss"] == 1 / points  # without a hole before the disk was full
    assert f"{300 - points} records with {300 - points} points could not be written to" in done.err
    assert any(f"{300 - points} points could not be written" in warning for warning in state.warnings)
    shown = project.prism("runs", "show", state.run_id)
    assert shown.code == 0 and "FINISHED" in shown.out


def test_room_that_comes_back_is_used(disk: Callable[[int], Path], new_project: Callable[..., Any]) -> None:
    project = new_project(disk(1024 * PAGE))
    project.write(
        "train.py",
        FILLING.replace(
            "    print(", "    (run.project / 'ballast').unlink()\n    run.log_metrics({'after': 1.0})\n    print("
        ),
    )
    done = project.prism("run", "train.py:work", within=60)
    assert done.code == 0, done.err
    state = project.state()
    assert (state.status, state.metrics["after"], len(state.damage)) == ("FINISHED", 1.0, 1)


def test_a_checkpoint_without_room_leaves_nothing_and_those_before_whole(
    disk: Callable[[int], Path], new_project: Callable[..., Any]
) -> None:
    project = new_project(disk(1024 * PAGE))
    project.write(
        "train.py",
        """
        def work(run):
            for step, size in ((1, 1 << 20), (2, 1 << 23)):
                with run.checkpoint(step=step) as folder:
                    (folder / "weights").write_bytes(bytes(size))
        """,
    )
    done = project.prism("run", "train.py:work")
    state = project.state()
    assert (done.code, state.status) == (1, "FAILED") and "No space left on device" in state.error
    assert [path.name for path in project.run().checkpoints.iterdir()] == [state.checkpoints[0]["folder"]]


def test_a_read_only_disk(disk: Callable[[int], Path], new_project: Callable[..., Any]) -> None:
    project = new_project(disk(1024 * PAGE))
    project.write("train.py", TRAIN)
    mount("-o", "remount,ro", project.path)
    done = project.prism("run", "train.py:work")
    assert done.code == 4
    assert "Read-only file system" in done.err and str(project.path) in done.err and "nothing was started" in done.err
    assert left(project) == []
    plain = project.python("-c", "import prism; prism.start_run()")
    assert plain.code == 1 and "Read-only file system" in plain.err
    assert project.prism("runs", "list").code == 0
