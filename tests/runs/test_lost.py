"""A node that is lost is closed by whoever looks from elsewhere; one that lives is never closed wrongly.

The other machine is a pid namespace of its own, which is another machine to Prism; its clock, where
it is set wrong, is set so by libfaketime.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--uts", "--kill-child")


def can_unshare() -> bool:
    try:
        return subprocess.run([*UNSHARE, "true"], capture_output=True, timeout=30, check=False).returncode == 0
    except OSError:
        return False


pytestmark = pytest.mark.skipif(not can_unshare(), reason="no pid namespace can be made here")
LEASE = 6.0
SPEAKING = """
import pathlib, threading, time
def work(run):
    for step in range(1, 100000):
        run.log_metrics({"loss": 1 / step}, step=step)
        pathlib.Path("begun").touch()
        if pathlib.Path("enough").exists():
            return
        time.sleep(0.1)
"""


@pytest.fixture
def looked(project: Any) -> Callable[..., Any]:
    """`prism runs … --json` on this machine."""

    def look(command: str, *options: str, lease: float = LEASE) -> Any:
        done = project.prism("runs", command, *options, "--json", PRISM_LEASE_SECONDS=str(lease))
        assert done.code == 0, done.err
        return json.loads(done.out)

    return look


def on_node7(project: Any, *words: str) -> Any:
    """Start a command on another machine that sees the same folder."""
    return project.start([*UNSHARE, "sh", "-c", 'hostname node7; exec "$@"', "sh", *words])


def lose_power(node7: Any) -> None:
    """All of the other machine is gone at once: the first process of its namespace dies, and the kernel kills all."""
    node7.signal(signal.SIGKILL)  # unshare's; --kill-child does the rest


def worker_on_node7(project: Any) -> int:
    """The worker's pid as it is called on this machine."""
    words = ("pgrep", "-f", f"prism.runs.worker {project.path}")
    found = subprocess.run(words, capture_output=True, text=True, check=True, timeout=30)
    return int(found.stdout.split()[-1])


def test_commands_that_look_now_and_then_close_a_lost_node(project: Any, looked: Callable[..., Any]) -> None:
    project.write("train.py", SPEAKING)
    node7 = on_node7(project, sys.executable, "-m", "prism", "run", "train.py:work")
    project.await_file("begun")
    assert looked("list")[0]["status"] == "RUNNING"
    lose_power(node7)
    time.sleep(1)
    began = time.monotonic()
    assert looked("list", lease=600)[0]["status"] == "RUNNING"  # the first look at what it is now
    (seen,) = looked("reap", lease=600)
    assert (seen["status"], "node7 has been silent for" in seen["reason"]) == ("RUNNING", True)
    time.sleep(max(0.0, 3 - (time.monotonic() - began)))
    silent = time.monotonic() - began
    shown = looked("show", project.run().run_id, lease=silent * 2)
    assert (shown["status"], "no sign of life from node7" in shown["error"]) == ("LOST", True)
    assert not [record for record in project.records("end") if record.data.get("of")]
    time.sleep(0.5)
    (closed,) = looked("reap", lease=silent)
    assert (closed["status"], "lost: node7" in closed["reason"]) == ("FAILED", True)
    assert looked("reap") == [] and looked("list")[0]["status"] == "FAILED"
    assert len([record for record in project.records("end") if record.data.get("of")]) == 1


@pytest.mark.parametrize("clock", ["-5m", "+5m"])
def test_a_clock_that_is_wrong_closes_nothing(project: Any, looked: Callable[..., Any], clock: str) -> None:
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        pytest.skip("libfaketime is not installed")
    # with libfaketime 0.9.10 and the monotonic clock as it is, clock_nanosleep(2) fails, and it alone
    project.write("train.py", SPEAKING.replace("time.sleep(0.1)", "threading.Event().wait(0.1)"))
    skew = (f"LD_PRELOAD={library}", f"FAKETIME={clock}", "FAKETIME_DONT_FAKE_MONOTONIC=1")
    on_node7(project, "env", *skew, sys.executable, "-m", "prism", "run", "train.py:work")
    project.await_file("begun")
    (said,) = [record for record in project.records("run")]
    assert abs(said.time / 1000 - time.time()) > 200
    project.until(lambda: len(project.records("metrics")) > 5, within=30, what="points")
    for _ in range(3):
        assert looked("reap", "--wait")[0]["status"] == "RUNNING"
    (project.path / "enough").touch()
    project.await_status("FINISHED", within=30)


def test_a_stopped_node_is_lost_then_closed_and_opened_when_it_speaks(project: Any, looked: Callable[..., Any]) -> None:
    project.write("train.py", SPEAKING)
    on_node7(project, sys.executable, "-m", "prism", "run", "train.py:work")
    project.await_file("begun")
    worker = worker_on_node7(project)
    os.kill(worker, signal.SIGSTOP)
    assert looked("list")[0]["status"] == "RUNNING"
    (closed,) = looked("reap", "--wait")
    assert (closed["status"], "lost: node7" in closed["reason"]) == ("FAILED", True)
    refused = project.start_prism("run", "train.py:work", "--resume", project.run().run_id, "--dry-run").finish()
    assert refused.code == 0, refused.err  # from now on it may be resumed
    os.kill(worker, signal.SIGCONT)
    project.await_status("RUNNING", within=30)
    assert looked("list")[0]["status"] == "RUNNING"
    (project.path / "enough").touch()
    project.await_status("FINISHED", within=30)
    assert looked("list")[0]["status"] == "FINISHED"


def test_a_node_lost_before_its_first_record_is_closed(project: Any, looked: Callable[..., Any]) -> None:
    code = "from pathlib import Path\nfrom prism.journal.directory import create_run_directory\n"
    code += "create_run_directory(Path('.'), '20260101-000000-aaaaaa')\n"
    assert on_node7(project, sys.executable, "-c", code).finish().code == 0
    assert looked("list")[0]["status"] == "RUNNING"
    (closed,) = looked("reap", "--wait", lease=2)
    assert (closed["status"], "node7" in closed["reason"]) == ("FAILED", True)
    assert looked("list")[0]["status"] == "FAILED"


def test_resume_waits_to_see_whether_the_other_node_lives(project: Any) -> None:
    project.write("train.py", SPEAKING.replace('pathlib.Path("begun")', CHECKPOINT + 'pathlib.Path("begun")'))
    node7 = on_node7(project, sys.executable, "-m", "prism", "run", "train.py:work")
    project.await_file("begun")
    lose_power(node7)
    (project.path / "enough").touch()
    done = project.prism("run", "train.py:work", "--resume", "auto", PRISM_LEASE_SECONDS="3")
    assert done.code == 0 and "was at work on node7" in done.err, done.err
    assert (len(project.runs()), project.state().status, project.state().attempts) == (1, "FINISHED", 2)


CHECKPOINT = """with run.checkpoint(step=step, keep=1) as folder:
            (folder / "step").write_text(str(step))
        """
