"""Disks that are full, fill up, or are read-only: real ones, small, mounted for the test."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

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


@frozen
class FailingDisk:
    """A real disk at `place`, in a file, that fails when it is told to."""

    place: Path

    def become_read_only(self) -> None:
        """As after an error that the file system has found, while files are open for writing."""
        (device,) = [
            line.split()[0] for line in Path("/proc/mounts").read_text().splitlines() if f" {self.place} " in line
        ]
        Path(f"/sys/fs/ext4/{Path(device).name}/trigger_fs_error").write_text("of a test")

    def break_down(self) -> None:
        """As when the device is gone: errors for whatever is written, and for what is not in memory."""
        descriptor = os.open(self.place, os.O_RDONLY)
        fcntl.ioctl(descriptor, 0x8004587D, struct.pack("I", 2))  # EXT4_IOC_SHUTDOWN, without flushing
        os.close(descriptor)


@pytest.fixture
def failing_disk(tmp_path: Path) -> Iterator[FailingDisk]:
    image, place = tmp_path / "image", tmp_path / "disk"
    image.write_bytes(b"")
    os.truncate(image, 16 << 20)
    place.mkdir()
    try:
        subprocess.run(["mkfs.ext4", "-q", image], capture_output=True, timeout=20, check=True)
        mount("-o", "loop,errors=remount-ro", image, place)
    except FileNotFoundError as error:
        pytest.skip(f"this machine has no {error.filename}")
    yield FailingDisk(place)
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
            "    print(",
            "    run.log_artifact(run.project / 'ballast')\n    (run.project / 'ballast').unlink()\n"
            "    run.log_metrics({'after': 1.0})\n    print(",
        ),
    )
    done = project.prism("run", "train.py:work", within=60)
    assert done.code == 0, done.err
    state = project.state()
    assert (state.status, state.metrics["after"], len(state.damage)) == ("FINISHED", 1.0, 1)
    assert "warning: the artifact ballast could not be kept in" in done.err and not project.records("file")


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


FAILING = """
import pathlib, time
def work(run):
    outside = run.project.parent
    for step in range(1, 101):
        run.log_metrics({"loss": 1 / step}, step=step)
    (outside / "begun").touch()
    while not (outside / "failed").exists():
        time.sleep(0.02)
    for step in range(101, 301):
        run.log_metrics({"loss": 1 / step, "accuracy": 0.5}, step=step)
    run.log_artifact(outside / "figure.png")
    run.log_text("so it was", name="note.txt")
    run.log_params({"late": 1})
    print("trained to the end", flush=True)
"""


@pytest.mark.parametrize(
    ("how", "reason"),
    [("become_read_only", "Read-only file system"), ("break_down", "Input/output error")],
)
def test_a_disk_that_fails_during_the_run(
    failing_disk: FailingDisk, new_project: Callable[..., Any], how: str, reason: str
) -> None:
    project, outside = new_project(failing_disk.place), failing_disk.place.parent
    project.write("train.py", FAILING)
    (outside / "figure.png").write_bytes(bytes(PAGE))
    started = project.start_prism("run", "train.py:work")
    project.until((outside / "begun").exists, within=60, what="the first points")
    getattr(failing_disk, how)()
    (outside / "failed").touch()
    done = started.finish(within=60)
    assert (done.code, "Traceback" in done.err) == (0, False), done.err
    assert "trained to the end" in done.out and "FINISHED  (not recorded" in done.out
    told = [line.partition(": ")[2] for line in done.err.splitlines() if line.startswith("warning: ")]
    assert all(reason in line for line in told if "could not be written" not in line)
    cannot = [line for line in told if "a1-rank0.jsonl cannot be written" in line]
    assert len(cannot) == 1 and "the run goes on" in cannot[0]
    for name in ("figure.png", "note.txt"):
        assert sum(f"the artifact {name} could not be kept" in line for line in told) == 1
    assert sum("with 400 points could not be written to" in line for line in told) == 1
    if how == "become_read_only":  # and what was said before is there
        assert len(project.records("metrics")) == 100 and project.prism("runs", "list").code == 0
