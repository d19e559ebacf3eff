"""Several processes write into one SQLite file: all of it arrives, and none is told that the database is locked."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import prism_mlflow.access.turns
from prism_mlflow.access.turns import in_turn

PROCESSES, POINTS = 6, 1000

WRITERS = """
import os, sys
from pathlib import Path
from prism.protocols import Record, RunRef, TrackedRun
from prism_mlflow.options import TrackerOptions
from prism_mlflow.tracker import MlflowTracker

project, processes, points = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

def write(number):
    run = TrackedRun(RunRef(f"run-{number}", project / "runs" / str(number)), project, "shared", f"r{number}", 1)
    tracker = MlflowTracker(TrackerOptions(timeout=60))
    tracker.open(run)
    for start in range(1, points + 1, 250):
        seqs = range(start, start + 250)
        records = [Record("a1-rank0", n, 10**12 + n, "metrics", {"step": n, "metrics": {"loss": n / 7}}) for n in seqs]
        tracker.deliver(records, {"a1-rank0": seqs[-1]})
    tracker.close("FINISHED", 2)

for number in range(processes):  # forked when everything is imported, so that they all write at the same time
    if os.fork() == 0:
        try:
            write(number)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
sys.exit(any([os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(processes)]))
"""


@pytest.mark.timeout(400)
def test_processes_that_write_at_once(embedded: Path) -> None:
    command = [sys.executable, "-c", WRITERS, str(embedded), str(PROCESSES), str(POINTS)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert "locked" not in ended.stdout + ended.stderr
    with sqlite3.connect(embedded / "mlflow.db") as database:
        counts = database.execute("SELECT count(*), sum(step) FROM metrics GROUP BY run_uuid").fetchall()
        assert counts == [(POINTS, POINTS * (POINTS + 1) // 2)] * PROCESSES
        statuses = database.execute("SELECT status FROM runs").fetchall()
    assert statuses == [("FINISHED",)] * PROCESSES
    assert sorted(path.name for path in embedded.iterdir() if "mlflow" in path.name) == ["mlflow.db"]


def test_writers_come_one_after_the_other_and_readers_wait_for_none(tmp_path: Path) -> None:
    database, inside, most = tmp_path / "x.db", [0], [0]

    def work() -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.01)
        inside[0] -= 1

    threads = [threading.Thread(target=in_turn, args=(database, "log_batch", work)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1] and inside == [0]
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        let_go.wait(60)

    holder = threading.Thread(target=in_turn, args=(database, "log_batch", hold))
    holder.start()
    held.wait(60)
    assert in_turn(database, "get_run", lambda: "read") == "read" and holder.is_alive()
    let_go.set()
    holder.join(60)


def test_a_turn_that_never_comes_is_waited_for_so_long_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A suspended process may hold it; SQLite keeps the data whole without it too."""
    monkeypatch.setattr(prism_mlflow.access.turns, "LONGEST_WAIT", 0.3)
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        let_go.wait(60)

    holder = threading.Thread(target=in_turn, args=(tmp_path / "x.db", "log_batch", hold))
    holder.start()
    held.wait(60)
    assert in_turn(tmp_path / "x.db", "log_batch", lambda: "written") == "written" and holder.is_alive()
    let_go.set()
    holder.join(60)
    begun = time.monotonic()  # and nothing of the one who did not wait is left in the queue
    assert in_turn(tmp_path / "x.db", "log_batch", lambda: "again") == "again"
    assert time.monotonic() - begun < 20


def test_who_asks_for_no_turn_is_tried_around(embedded: Path) -> None:
    """MLflow's own clients know of no turns: what they were in the way of is done again."""
    from mlflow.exceptions import MlflowException

    tries = []

    def work() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise MlflowException("(sqlite3.OperationalError) database is locked")
        return "done"

    assert in_turn(embedded / "mlflow.db", "log_batch", work) == "done" and len(tries) == 3
