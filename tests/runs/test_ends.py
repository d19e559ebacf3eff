"""However a process comes to its end, the run's status, its reason and the exit code tell what happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prism.delivery.exits import blame_memory, end_of, open_pidfd, wait_status
from prism.errors import EnvironmentUnfit, Unreachable
from prism.journal.identity import ProcessIdentity
from prism.runs.ending import ending_of

WATCHED = """
import os, pathlib, signal, sys, threading, time
import prism

run = prism.start_run()
run.log_metrics({"loss": 0.5}, step=1)
while not list((run.directory / "journal").glob("node-*.jsonl")):
    time.sleep(0.05)
time.sleep(0.5)
"""


def the_kernel_tells_exit_codes() -> bool:
    """Whether a process that is no parent can learn the exit code (Linux 6.15 and later)."""
    if not hasattr(os, "pidfd_open"):
        return False
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.3); raise SystemExit(3)"])
    identity = ProcessIdentity.of(child.pid)
    pidfd = open_pidfd(identity) if identity else None
    child.wait(30)
    status = wait_status(identity, pidfd) if identity else None
    if pidfd is not None:
        os.close(pidfd)
    return status == 3 << 8


TOLD = pytest.mark.skipif(not the_kernel_tells_exit_codes(), reason="this kernel tells exit codes to parents only")


# ---------------------------------------------------------------- what the kernel tells


def test_the_status_of_a_process_that_its_parent_has_not_asked_for_yet() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.3); raise SystemExit(7)"])
    identity = ProcessIdentity.of(child.pid)
    assert identity is not None
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert wait_status(identity, None) == 7 << 8
    assert (
        wait_status(ProcessIdentity(identity.host, identity.machine, identity.pid, identity.started + 1), None) is None
    )
    child.wait(10)
    assert wait_status(identity, None) is None


@pytest.mark.parametrize(
    ("status", "word", "code", "error"),
    [
        (0, "FINISHED", 0, ""),
        (3 << 8, "FAILED", 3, "exit code 3"),
        (signal.SIGTERM, "KILLED", 143, "killed by SIGTERM"),
        (signal.SIGINT, "KILLED", 130, "killed by SIGINT"),
        (signal.SIGKILL, "FAILED", 137, "killed by SIGKILL"),
        (signal.SIGSEGV | 0x80, "FAILED", 139, "killed by SIGSEGV"),
        (None, "FAILED", None, "the process died without a word"),
    ],
)
def test_an_end_from_a_wait_status(status: int | None, word: str, code: int | None, error: str) -> None:
    assert end_of(status) == {"status": word, "exit_code": code, "error": error}
    blamed = blame_memory(end_of(status), kills=1)["error"]
    assert ("memory" in blamed) == (code in (137, None))
    assert blame_memory(end_of(status), kills=0) == end_of(status)


# ---------------------------------------------------------------- plain scripts


@pytest.mark.parametrize(
    ("ending", "code", "status", "error"),
    [
        pytest.param("raise SystemExit(3)", 3, "FAILED", "exit code 3", marks=TOLD),
        pytest.param("exit(4)", 4, "FAILED", "exit code 4", marks=TOLD),
        pytest.param("os._exit(5)", 5, "FAILED", "exit code 5", marks=TOLD),
        pytest.param("os._exit(0)", 0, "FINISHED", "", marks=TOLD),
        pytest.param("os.kill(os.getpid(), signal.SIGTERM)", 143, "KILLED", "killed by SIGTERM", marks=TOLD),
        ("try:\n    sys.exit(3)\nexcept SystemExit:\n    pass", 0, "FINISHED", ""),
        ("try:\n    sys.exit(3)\nfinally:\n    print('leaving')", 3, "FAILED", "SystemExit: 3"),
        ("sys.excepthook = lambda *_: None\nraise ValueError('unseen')", 1, "FAILED", "ValueError: unseen"),
        (
            "def load():\n    raise ValueError('no data')\nthread = threading.Thread(target=load, name='loader')\n"
            "thread.start()\nthread.join()\nrun.finish()",
            0,
            "FAILED",
            "loader: ValueError: no data",
        ),
    ],
    ids=["SystemExit", "exit", "_exit 5", "_exit 0", "TERM", "caught", "finally", "own hook", "thread"],
)
def test_a_plain_script(project: Any, ending: str, code: int, status: str, error: str) -> None:
    project.write("plain.py", WATCHED + ending + "\n")
    done = project.python("plain.py")
    assert done.code == code, done.err
    project.until(lambda: project.state().status == status, within=20, what=f"{status}, is {project.state().status}")
    time.sleep(0.3)  # and it stays so
    assert (project.state().status, project.state().error) == (status, error)
    assert project.state().metrics == {"loss": 0.5}
    if error == "loader: ValueError: no data":
        assert "in load" in project.log()


# ---------------------------------------------------------------- under prism run


@pytest.mark.parametrize(
    ("ending", "code", "status", "error"),
    [
        pytest.param("os._exit(3)", 3, "FAILED", "exit code 3", marks=TOLD),
        pytest.param("os._exit(0)", 0, "FINISHED", "", marks=TOLD),
        ("threading.Thread(target=fail, name='loader').start()", 1, "FAILED", "loader: ValueError: no data"),
        ("threading.Thread(target=fail, name='loader', daemon=True).start(); time.sleep(1)", 1, "FAILED", "loader: "),
        ("threading.Thread(target=fail).start(); raise KeyError('first')", 1, "FAILED", "KeyError: 'first'"),
        ("threading.Thread(target=sys.exit, args=(3,)).start()", 0, "FINISHED", ""),
        ("threading.Thread(target=say_later, args=(run,)).start()", 0, "FINISHED", ""),
        ("pool.submit(fail); pool.submit(say_later, run)", 0, "FINISHED", ""),
    ],
    ids=["_exit 3", "_exit 0", "thread", "daemon", "both", "SystemExit in a thread", "later", "pool"],
)
def test_code_under_prism_run(project: Any, ending: str, code: int, status: str, error: str) -> None:
    project.write(
        "train.py",
        f"""
        import os, sys, threading, time
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor()

        def fail():
            time.sleep(0.2)
            raise ValueError("no data")

        def say_later(run):
            time.sleep(1)
            run.log_metrics({{"later": 1.0}})

        def work(run):
            run.log_metrics({{"loss": 0.5}}, step=1)
            while not list((run.directory / "journal").glob("node-*.jsonl")):
                time.sleep(0.05)
            time.sleep(0.5)
            {ending}
        """,
    )
    done = project.prism("run", "train.py:work")
    state = project.state()
    assert (done.code, state.status) == (code, status), done.err
    assert state.error.startswith(error) and bool(state.error) == bool(error)
    assert state.metrics == {"loss": 0.5} | ({"later": 1.0} if "say_later" in ending else {})
    if "loader" in error:
        assert "in fail" in project.log()
    assert done.err.count("ValueError: no data") == ("fail" in ending and "pool" not in ending)


@pytest.mark.parametrize("nohup", [(), ("nohup",)], ids=["a terminal", "nohup"])
def test_a_terminal_that_is_closed(project: Any, nohup: tuple[str, ...]) -> None:
    project.write("train.py", STEPPING)
    started = project.start([*nohup, sys.executable, "-m", "prism", "run", "train.py:work"])
    project.await_file("begun")
    started.signal_group(signal.SIGHUP)
    if nohup:
        assert project.state().status == "RUNNING"
        (project.path / "enough").touch()
    assert (started.finish().code, project.state().status) == ((0, "FINISHED") if nohup else (129, "KILLED"))


STEPPING = """
import pathlib, time
def work(run):
    begun = run.latest_checkpoint()
    step = int((begun / "step").read_text()) if begun else 0
    while step < 1000:
        step += 1
        run.log_metrics({"loss": 1 / step}, step=step)
        with run.checkpoint(step=step, keep=2) as folder:
            (folder / "step").write_text(str(step))
        pathlib.Path("begun").touch()
        if pathlib.Path("enough").exists():
            return
        time.sleep(0.02)
"""


def worker_of(project: Any) -> ProcessIdentity:
    (worker,) = [record.data["process"] for record in project.records("start") if record.data["role"] == "worker"]
    return ProcessIdentity.load(worker)


def test_a_worker_does_not_outlive_the_command_and_is_resumed_as_one(project: Any) -> None:
    project.write("train.py", STEPPING)
    started = project.start_prism("run", "train.py:work")
    project.await_file("begun")
    identity = worker_of(project)
    started.signal(signal.SIGKILL)
    project.until(lambda: not identity.is_alive(), within=20, what="the end of the worker")
    assert (project.state().status, "was killed" in project.state().error) == ("FAILED", True)
    (project.path / "enough").touch()
    done = project.prism("run", "train.py:work", "--resume", "auto")
    assert done.code == 0, done.err
    assert (project.state().status, project.state().attempts) == ("FINISHED", 2)  # one run
    steps = [(record.file, record.data["step"]) for record in project.records("metrics")]
    first = [step for file, step in steps if file == "a1-rank0"]
    assert first == list(range(1, len(first) + 1))
    assert next(step for file, step in steps if file == "a2-rank0") in (first[-1], first[-1] + 1)


def test_a_stopped_process_is_lost_until_it_goes_on(project: Any) -> None:
    project.write("train.py", STEPPING)
    started = project.start_prism("run", "train.py:work")
    project.await_file("begun")
    worker = worker_of(project).pid
    os.kill(worker, signal.SIGSTOP)
    assert "stopped" in project.await_status("LOST", within=20).error
    refused = project.prism("run", "train.py:work", "--resume", project.run().run_id)
    assert refused.code == 2 and len(project.runs()) == 1, refused.err
    os.kill(worker, signal.SIGCONT)
    project.await_status("RUNNING", within=20)
    (project.path / "enough").touch()
    assert started.finish().code == 0
    assert project.state().status == "FINISHED"


@pytest.fixture
def memory_group(tmp_path: Path) -> Iterator[Path]:
    """A control group whose processes may have 200 MB of memory together."""
    for place, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        group = place / f"prism-test-{os.getpid()}"
        try:
            group.mkdir()
            (group / limit).write_text(str(200 << 20))
        except OSError:
            if group.is_dir():
                group.rmdir()
            continue
        yield group
        deadline = time.monotonic() + 30
        while (group / "cgroup.procs").read_text() and time.monotonic() < deadline:
            for pid in (group / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.1)
        group.rmdir()
        return
    pytest.skip("no memory control group can be made here")


def watch_die(process: ProcessIdentity) -> tuple[float, float]:
    """When a process is dead, in seconds since the epoch, and how late this loop was at worst: the machine's load."""
    late = 0.0
    while process.is_alive():
        began = time.time()
        time.sleep(0.01)
        late = max(late, time.time() - began - 0.01)
    return time.time(), late


def test_memory_that_ran_out_is_the_reason(project: Any, memory_group: Path) -> None:
    project.write(
        "train.py",
        """
        import os, pathlib, time
        def work(run):
            while not list((run.directory / "journal").glob("node-*.jsonl")):
                time.sleep(0.05)
            time.sleep(1)
            run.log_metrics({"loss": 0.5}, step=1)
            kept = []
            while True:
                kept.append(os.urandom(4 << 20))
        """,
    )
    enter = f"echo $$ > {memory_group}/cgroup.procs; exec {sys.executable} -m prism run train.py:work"
    started = project.start(["sh", "-c", enter])
    project.until(lambda: project.runs() and project.records("metrics"), within=60, what="the first point")
    died, late = watch_die(worker_of(project))
    done = started.finish()
    state = project.state()
    assert state.status == "FAILED" and done.code == 137 and "memory had run out" in state.error, (
        done.err,
        state.error,
    )
    assert state.metrics == {"loss": 0.5}
    ended = next(record for record in project.records("end") if record.data.get("of") == "a1-rank0")
    assert ended.data["exit_code"] in (137, None)
    assert ended.time / 1000 - died < 2 + 10 * late, (died, late)


# ---------------------------------------------------------------- what is damaged


def test_what_is_no_journal_file_breaks_no_command(project: Any) -> None:
    project.write("train.py", "def work(run):\n    run.log_metrics({'loss': 0.5}, step=1)\n")
    assert project.prism("run", "train.py:work").code == 0
    directory = project.run()
    (directory.journal / "x.jsonl").mkdir()
    (directory.delivery / "999999.jsonl").mkdir()
    os.mkfifo(directory.journal / "a1-rank9.jsonl")
    (directory.delivery / "notes.jsonl").write_text("{}\n")
    listed = json.loads(project.prism("runs", "list", "--json").out)
    assert [(run["status"], run["pending"]) for run in listed] == [("FINISHED", 0)]
    shown = project.prism("runs", "show", directory.run_id)
    assert shown.code == 0 and "journal/x.jsonl is no file" in shown.out and "a1-rank9.jsonl is no file" in shown.out
    for command in (("sync",), ("runs", "logs", directory.run_id), ("runs", "reap")):
        done = project.prism(*command)
        assert done.code == 0, (command, done.err)
    assert json.loads(project.prism("runs", "reap", "--json").out) == []


def test_a_run_whose_journal_was_deleted_says_so(project: Any) -> None:
    project.write(
        "train.py",
        """
        import shutil, time
        def work(run):
            while not list((run.directory / "journal").glob("node-*.jsonl")):
                time.sleep(0.05)
            time.sleep(0.5)
            shutil.rmtree(run.directory / "journal")
            time.sleep(1.5)
        """,
    )
    done = project.prism("run", "train.py:work")
    directory = project.run()
    assert done.code == 0 and f"FINISHED  (not recorded: the journal was deleted from {directory.journal})" in done.out
    assert done.err.count("cannot be written (it was deleted)") == 2  # of the work, and of the command
    assert "Traceback" not in done.err + project.log()
    for forgotten in ("nothing", "who made it"):
        if forgotten == "who made it":
            directory.summary.write_text('{"format": 1}')
        (listed,) = json.loads(project.prism("runs", "list", "--json").out)
        shown = project.prism("runs", "show", directory.run_id).out
        assert listed["status"] == "FAILED" and f"its journal is gone from {directory.journal}: put the files" in shown
    assert project.prism("sync").code == 0


def test_a_server_out_of_reach_is_no_unfit_environment() -> None:
    assert ending_of(Unreachable("the data server is away")) == ("FAILED", 1)
    assert ending_of(EnvironmentUnfit("no disk space")) == ("FAILED", 4)
