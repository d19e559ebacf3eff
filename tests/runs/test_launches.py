"""Real launches of several processes: torchrun, accelerate launch, `prism run -n 2`. One launch is one run."""

from __future__ import annotations

import json
import signal
import sys
from importlib.util import find_spec
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(find_spec("accelerate") is None, reason="accelerate is not installed here")

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2")
ACCELERATE = (sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--multi_gpu")
ACCELERATE_TWO = (*ACCELERATE, "--num_processes", "2", "--num_machines", "1", "--main_process_port", "0")
PRISM_TRAIN = ("-m", "prism", "run", "train.py:train")
CPU = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}

TRAIN = """
import prism

@prism.experiment
def train(run: prism.Run) -> None:
    for step in range(1, 4):
        run.log_metrics({"loss": run.rank + 1 / step}, step=step)
    heard = run.ranks.broadcast(f"from {run.rank}")
    run.log_text(heard, name=f"heard-{run.rank}.txt")
    with run.checkpoint(step=3) as folder:
        (folder / f"part-{run.rank}").write_text(str(run.world_size))
    latest = run.latest_checkpoint()
    run.log_params({f"latest{run.rank}": latest.name})
    stopping = run.stopping
    run.log_params({f"stopping{run.rank}": stopping})
"""
STOPPED = """
import os, signal, time

def train(run):
    for step in range(1, 2000):
        run.log_metrics({"loss": 1 / step}, step=step)
        if step == 5 and run.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        if run.stopping:
            with run.checkpoint(step=step) as folder:
                (folder / f"part-{run.rank}").write_text(str(step))
            return
        time.sleep(0.01)
"""
UNTRACKED = "foundation: {experiment_name: real}\nml: {enabled: false}\n"


def workers(project: Any) -> list[tuple[str, int]]:
    """(journal file, world size) of the run's workers."""
    starts = [record for record in project.records("start") if record.data["role"] == "worker"]
    return sorted((record.file, record.data["world_size"]) for record in starts)


def check_two_ranks(project: Any) -> None:
    state = project.state()
    assert (state.status, state.attempts) == ("FINISHED", 1)
    assert workers(project) == [("a1-rank0", 2), ("a1-rank1", 2)]
    assert state.metrics["loss"] == 1 / 3  # rank 0's; rank 1's are in its journal
    points = [(r.file, r.data["metrics"]["loss"]) for r in project.records("metrics")]
    assert ("a1-rank1", 1 + 1 / 3) in points and len(points) == 6
    kept = {r.data["name"]: (project.run().path / r.data["stored"]).read_text() for r in project.records("file")}
    assert kept == {"heard-0.txt": "from 0", "heard-1.txt": "from 0"}
    assert [(c["step"], c["folder"]) for c in state.checkpoints] == [(3, "step-00000003-a1")]
    folder = project.run().checkpoints / "step-00000003-a1"
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "part-0", "part-1"]
    said = {name: value for r in project.records("params") for name, value in r.data["params"].items()}
    assert said == {"latest0": folder.name, "latest1": folder.name, "stopping0": False, "stopping1": False}


def test_accelerate_launch_makes_one_run_each_time(project: Any) -> None:
    project.write("train.py", TRAIN)
    done = project.start([*ACCELERATE_TWO, *PRISM_TRAIN], **CPU).finish()
    assert done.code == 0, done.err
    check_two_ranks(project)
    assert done.err.count(f"run {project.run().run_id} of") == 1  # said by rank 0 alone
    assert done.out.count("FINISHED") == 1
    again = project.start([*ACCELERATE_TWO, *PRISM_TRAIN], **CPU).finish()
    assert again.code == 0, again.err
    assert [run["status"] for run in json.loads(project.prism("runs", "list", "--json").out)] == ["FINISHED"] * 2


def test_torchrun_makes_one_run(project: Any) -> None:
    project.write("train.py", TRAIN)
    done = project.start([*TORCHRUN, *PRISM_TRAIN], **CPU).finish()
    assert done.code == 0, done.err
    check_two_ranks(project)


def test_torchrun_resumes_a_run(project: Any) -> None:
    project.write("train.py", TRAIN)
    assert project.start([*TORCHRUN, *PRISM_TRAIN], **CPU).finish().code == 0
    again = project.start([*TORCHRUN, *PRISM_TRAIN, "--resume", project.run().run_id], **CPU).finish()
    assert again.code == 0, again.err
    names = {path.stem for path in project.run().journal_files()}
    assert {"a2-rank0", "a2-rank1"} <= names and not any(name.startswith("a3") for name in names)
    assert (project.state().status, project.state().attempts) == ("FINISHED", 2)


def test_two_torchruns_at_the_same_time_are_two_runs(project: Any) -> None:
    project.write("train.py", TRAIN)
    both = [project.start([*TORCHRUN, "--master_port", "0", *PRISM_TRAIN], **CPU) for _ in range(2)]
    assert [started.finish().code for started in both] == [0, 0]
    assert [run["status"] for run in json.loads(project.prism("runs", "list", "--json").out)] == ["FINISHED"] * 2


def test_prism_starts_two_processes(project: Any) -> None:
    project.write("train.py", TRAIN)
    done = project.prism("run", "-n", "2", "train.py:train", **CPU)
    assert done.code == 0, done.err
    check_two_ranks(project)
    launch = json.loads((project.run().journal / "a1-launch.jsonl").read_text().splitlines()[0])
    assert "torch.distributed.run" in launch["argv"]


def test_a_plain_script_under_torchrun_is_one_run(project: Any) -> None:
    project.write(
        "plain.py", TRAIN + "\nif __name__ == '__main__':\n    with prism.start_run() as run:\n        train(run)\n"
    )
    done = project.start([*TORCHRUN, "plain.py"], **CPU).finish()
    assert done.code == 0, done.err
    check_two_ranks(project)


@pytest.mark.parametrize("form", ["prism", "torchrun"])
def test_ranks_agree_to_stop_when_one_is_told(project: Any, form: str) -> None:
    project.write("train.py", STOPPED)
    argv = [*TORCHRUN, *PRISM_TRAIN] if form == "torchrun" else [sys.executable, *PRISM_TRAIN, "-n", "2"]
    done = project.start(argv, **CPU).finish()
    state = project.state()
    assert state.status == "KILLED", done.err
    assert done.code == (143 if form == "prism" else 1)  # torchrun gives a code of its own
    (checkpoint,) = state.checkpoints
    folder = project.run().checkpoints / checkpoint["folder"]
    assert {(folder / f"part-{rank}").read_text() for rank in (0, 1)} == {str(checkpoint["step"])}


def test_a_signal_to_the_command_reaches_every_rank(project: Any) -> None:
    project.write("train.py", STOPPED.replace("os.kill(os.getpid(), signal.SIGTERM)", "open('begun', 'w').close()"))
    started = project.start([sys.executable, *PRISM_TRAIN, "-n", "2"], **CPU)
    project.await_file("begun")
    started.signal(signal.SIGTERM)
    done = started.finish(within=40)
    assert (done.code, project.state().status) == (143, "KILLED"), done.err
    assert len(project.state().checkpoints) == 1


def test_the_exit_code_of_the_rank_that_failed_first_is_kept(project: Any) -> None:
    project.write(
        "train.py", "import sys, time\ndef train(run):\n    sys.exit(7) if run.rank == 1 else time.sleep(60)\n"
    )
    done = project.prism("run", "-n", "2", "train.py:train", **CPU)
    assert (done.code, project.state().status) == (7, "FAILED"), done.err


def test_fewer_processes_than_asked_for_is_an_error(project: Any) -> None:
    project.configure(UNTRACKED + "launcher: {name: lazy, processes: 2}\nplugins: {local: [lazy.py]}\n")
    project.write("train.py", TRAIN)
    project.write(
        "lazy.py",
        """
        import sys
        from prism.hookspecs import hookimpl
        from prism.protocols import LaunchPlan
        from prism.providers import Provider

        class Lazy:
            def plan(self, job, topology):
                return LaunchPlan((sys.executable, *job.arguments), job.environment, {})

        @hookimpl
        def prism_launchers():
            return [Provider("lazy", target="lazy:Lazy")]
        """,
    )
    done = project.prism("run", "train.py:train")
    assert done.code == 4 and "2 processes were asked for and the launcher made 1" in done.err
    assert project.state().status == "FAILED" and not project.records("metrics")


def test_more_processes_than_the_launcher_made_is_an_error(project: Any) -> None:
    project.write("train.py", TRAIN)
    done = project.start([*TORCHRUN, *PRISM_TRAIN, "-n", "3"], **CPU).finish()
    assert done.code != 0 and "3 processes were asked for, and this launcher has started 2" in done.err
    assert project.runs() == [] or not project.records("metrics")
