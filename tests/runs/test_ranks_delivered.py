"""Several ranks with a live server: restarts and resumes between checkpoints leave one run with one set of points."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from collections import Counter
from typing import Any

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]

TRAIN = """
import os
import signal
import time

import torch.distributed as dist

from prism.journal.directory import RunDirectory
from prism.journal.state import read_state


def train(run):
    dist.init_process_group("gloo")
    saved = run.latest_checkpoint()
    first = int((saved / "step").read_text()) + 1 if saved else 1
    run.log_params({"resumed_from": first - 1} if saved else {})
    for step in range(first, 13):
        run.log_metrics({"loss": run.rank + 1 / step, "lr": run.params.lr}, step=step)
        if step % 4 == 0:
            with run.checkpoint(step=step) as folder:
                if run.rank == 0:
                    (folder / "step").write_text(str(step))
        if step == 7 and run.attempt == 1:
            fail(run)
    dist.barrier()
    dist.destroy_process_group()


def fail(run):
    "What was said is at the server, and the last checkpoint is three steps old."
    if run.rank == 0:
        deadline = time.monotonic() + 100
        while not is_delivered(read_state(RunDirectory(run.directory))):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        (run.project / "delivered").touch()
    dist.barrier()
    if run.params.dies and run.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if run.params.dies:
        dist.barrier()  # raises: the other one is gone
    time.sleep(100)


def is_delivered(state):
    return "mlflow" in state.trackers and state.trackers["mlflow"].run_id and state.pending == 0
"""
CONFIGURATION = """
foundation: {{experiment_name: {experiment}}}
ml: {{tracking_uri: "{uri}", system_tracing: false, parameters: {{lr: 0.5, seed: 7, dies: {dies}, name: whole}}}}
"""


def configure(project: Any, uri: str, *, dies: str) -> str:
    experiment = f"ranks-{secrets.token_hex(4)}"
    project.configure(CONFIGURATION.format(experiment=experiment, uri=uri, dies=dies))
    project.write("train.py", TRAIN)
    return experiment


def check_one_run(project: Any, uri: str, experiment: str) -> Any:
    """One run at the server with every point once; returned."""
    from mlflow.tracking import MlflowClient

    assert project.prism("sync").code == 0
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    (run,) = client.search_runs([found.experiment_id])
    assert (run.info.status, set(run.data.metrics)) == ("FINISHED", {"loss", "lr"})
    for name in ("loss", "lr"):
        points = client.get_metric_history(run.info.run_id, name)
        assert Counter(point.step for point in points) == dict.fromkeys(range(1, 13), 1)
    assert {point.value for point in client.get_metric_history(run.info.run_id, "loss")} == {
        1 / step for step in range(1, 13)
    }
    return run


def test_an_elastic_restart_between_two_checkpoints(project: Any, mlflow_server: Any) -> None:
    experiment = configure(project, mlflow_server.uri, dies="true")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    torchrun += ["--max_restarts", "1", "-m", "prism", "run", "train.py:train"]
    # a store that outlives the restart would give gloo the addresses of processes that are dead
    done = project.start(torchrun, TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1").finish(within=300)
    assert done.code == 0, done.err
    state = project.state()
    assert (state.status, state.attempts) == ("FINISHED", 2)
    assert {path.stem for path in project.run().journal.glob("a*-rank*.jsonl")} == {
        f"a{attempt}-rank{rank}" for attempt in (1, 2) for rank in (0, 1)
    }
    logged = [(r.file, r.data["step"]) for r in project.records("metrics") if r.file.endswith("rank0")]
    assert {("a1-rank0", 7), ("a2-rank0", 5), ("a2-rank0", 7)} <= set(logged)  # three steps were done again
    check_one_run(project, mlflow_server.uri, experiment)


def test_four_ranks_that_are_killed_are_resumed_with_another_learning_rate(project: Any, mlflow_server: Any) -> None:
    experiment = configure(project, mlflow_server.uri, dies="false")
    started = project.start_prism("run", "-n", "4", "train.py:train")
    project.await_file("delivered", within=300)
    for pid in workers_of(project):
        os.kill(pid, signal.SIGKILL)
    started.signal_group(signal.SIGKILL)
    started.finish()
    project.await_status("FAILED", within=60)
    changed = ("ml.parameters.lr=0.25", "ml.parameters.warmup=10")
    done = project.prism("run", "-n", "4", "train.py:train", "--resume", "auto", *changed, within=300)
    assert done.code == 0, done.err
    state = project.state()
    assert (state.status, state.attempts, len(state.processes)) == ("FINISHED", 2, 8)
    run = check_one_run(project, mlflow_server.uri, experiment)
    told = {"lr": "0.5", "resume.2.lr": "0.25", "warmup": "10", "seed": "7", "name": "whole", "resumed_from": "4"}
    assert {name: run.data.params.get(name) for name in told} == told
    assert (state.params["lr"], state.params["warmup"]) == (0.25, 10)


def workers_of(project: Any) -> list[int]:
    return [process.process.pid for process in project.state().processes.values()]
