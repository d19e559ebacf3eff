"""SIGTERM, SIGHUP and Ctrl-C to a script that has begun its run itself, where the kernel tells its parent only."""

from __future__ import annotations

import secrets
import signal
from typing import Any

import pytest

from prism.journal.records import read_journal
from prism.journal.state import read_state

OLD_KERNEL = """
from prism.delivery import watch
from prism.hookspecs import hookimpl

watch.wait_status = lambda process, pidfd: None

@hookimpl
def prism_trackers():
    return []
"""
UNTRACKED = "foundation: {experiment_name: ended}\nplugins: {local: [old_kernel.py]}\nml: {enabled: false}\n"
BEGIN = """
import ctypes, os, pathlib, signal, sys, threading, time
import prism

run = prism.start_run()
run.log_metrics({"loss": 0.5}, step=1)

def begun():
    pathlib.Path("begun").touch()
"""
BUSY = "begun()\nwhile True:\n    run.log_metrics({'loss': 0.25})\n"
HANGING = """
mutex = ctypes.create_string_buffer(128)
lock = ctypes.CDLL(None).pthread_mutex_lock  # which no signal interrupts
lock(mutex)
begun()
lock(mutex)
"""
IN_A_RECORD = """
def hold():
    with run._journal._lock:  # as a thread that waits for a disk
        begun()
        time.sleep(1000)
threading.Thread(target=hold, daemon=True).start()
run.log_metrics({"loss": 0.25})
"""
WAITING = "threading.Thread(target=lambda: (begun(), time.sleep(1000))).start()\n"
OTHERS = """
def raised(*_):
    sys.exit(7)
signal.signal(signal.SIGTERM, raised)
begun()
time.sleep(1000)
"""


@pytest.fixture
def project_on_old_kernel(project: Any) -> Any:
    project.configure(UNTRACKED)
    project.write("old_kernel.py", OLD_KERNEL)
    return project


@pytest.mark.parametrize(
    ("code", "number", "exit_code", "status"),
    [
        (BUSY, signal.SIGTERM, 143, "KILLED"),
        (BUSY, signal.SIGHUP, 129, "KILLED"),
        (BUSY, signal.SIGINT, 130, "KILLED"),
        (HANGING, signal.SIGTERM, 143, "KILLED"),
        (IN_A_RECORD, signal.SIGTERM, 143, "KILLED"),
        (WAITING, signal.SIGTERM, 143, "KILLED"),
        (OTHERS, signal.SIGTERM, 7, "FAILED"),
        (BUSY, signal.SIGKILL, 137, "FAILED"),
    ],
    ids=["TERM", "HUP", "INT", "hangs", "in a record", "a thread goes on", "a handler of its own", "KILL"],
)
def test_a_script_that_is_asked_to_end(
    project_on_old_kernel: Any, code: str, number: int, exit_code: int, status: str
) -> None:
    project = project_on_old_kernel
    project.write("plain.py", BEGIN + code)
    started = project.start(["python", "plain.py"])
    project.await_file("begun")
    started.signal(number)
    done = started.finish(within=30)
    assert (done.code, started.process.returncode < 0) == (exit_code, exit_code > 128), done.err
    state = project.await_status(status, within=20)
    assert state.metrics["loss"] in (0.5, 0.25)
    if exit_code > 128 and status == "KILLED":
        assert [end.data["status"] for end in project.records("end")] == ["KILLED"]
        assert [end.data["exit_code"] for end in project.records("end")] == [exit_code]
        assert "Traceback" not in done.err or number == signal.SIGINT


HANDLERS = """
import multiprocessing, os, signal, sys, threading
import prism

kept = lambda *_: None
def handlers():
    return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]

signal.signal(signal.SIGHUP, kept)
run = prism.start_run()
first, second = handlers()
assert first in (None, signal.SIG_DFL) and first is not signal.SIG_DFL and second is kept
assert signal.set_wakeup_fd(-1) > 2
threading.Thread(target=run.finish).start()
while run.status == "RUNNING":
    pass
assert handlers()[0] is first  # a thread could not put it back
run = prism.start_run()
assert handlers()[0] is first
for _ in range(10):
    with multiprocessing.get_context("fork").Pool(3) as pool:  # ends its workers with SIGTERM
        pool.map(abs, range(3))
run.finish()
assert handlers() == [signal.SIG_DFL, kept] and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
with prism.start_run() as run:
    signal.signal(signal.SIGTERM, kept)
    os.kill(os.getpid(), signal.SIGTERM)
    child = os.fork()
    if child == 0:
        os._exit(signal.getsignal(signal.SIGTERM) is not kept)
    assert os.waitpid(child, 0)[1] == 0
assert handlers() == [kept, kept]
"""


def test_handlers_of_the_user_stay_and_a_pool_ends_its_workers(project: Any) -> None:
    project.write("plain.py", HANDLERS)
    done = project.python("plain.py")
    assert (done.code, done.err.count("Traceback")) == (0, 0), done.err
    assert {read_state(run).status for run in project.runs()} == {"FINISHED"} and len(project.runs()) == 3


def test_mlflow_is_told_once_that_a_script_was_killed(project_on_old_kernel: Any, mlflow_server: Any) -> None:
    from mlflow.tracking import MlflowClient

    project, experiment = project_on_old_kernel, f"ended-{secrets.token_hex(4)}"
    tracked = UNTRACKED.replace("enabled: false", f"tracking_uri: '{mlflow_server.uri}'")
    project.configure(tracked.replace("experiment_name: ended", f"experiment_name: {experiment}"))
    project.write("plain.py", BEGIN + BUSY.replace("while", "time.sleep(1)\nwhile").replace("})", "}); time.sleep(1)"))
    started = project.start(["python", "plain.py"])
    project.await_file("begun")
    client = MlflowClient(tracking_uri=mlflow_server.uri)

    def statuses() -> list[str]:
        found = client.get_experiment_by_name(experiment)
        return [run.info.status for run in client.search_runs([found.experiment_id])] if found else []

    project.until(lambda: statuses() == ["RUNNING"], within=60, what="the run in MLflow")
    started.signal(signal.SIGTERM)
    assert started.finish(within=30).code == 143
    project.until(lambda: statuses() == ["KILLED"], within=60, what=f"KILLED (is {statuses()})")
    project.until(lambda: project.state().pending == 0, within=30, what="the end of the delivery")
    readings = [read_journal(path) for path in project.run().delivery_files()]
    told = [record.data["closed"] for reading in readings for record in reading.records if "closed" in record.data]
    assert told == ["KILLED"]
