"""Two processes on a CPU: the same training as one process with batches twice as large."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from prism.errors import UsageError
from prism.project import open_project
from prism.protocols import Job, Topology
from prism.runs.beginning import begin_run
from prism_accelerate.contents import Position, TrainerState, load_state, save_state
from prism_accelerate.launcher import AccelerateLauncher
from prism_accelerate.trainer import AccelerateTrainer

WORKER = """
import os, shutil, sys
from pathlib import Path
import torch
from prism.errors import PrismError, Stopped
from prism.runs.beginning import enter_attempt
from prism.journal.directory import RunDirectory
from prism.project import open_project
from prism.runs.signals import StopRequest
from prism_accelerate.trainer import AccelerateTrainer

class Fit:
    def model(self):
        return torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Dropout(0.1), torch.nn.Linear(8, 1))
    def batches(self, split):
        points = torch.arange(42.0).reshape(-1, 1) / 42
        return torch.utils.data.DataLoader(points, batch_size=4, shuffle=True)
    def loss(self, model, batch):
        return (model(batch) - batch.square()).square().mean()

class After(StopRequest):
    def look(self):
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == int(os.environ.get("STOP_AFTER", 0)) and os.environ["RANK"] == "1":
            self.signal_number = 15  # one rank alone is told
        return super().look()

file, directory, attempt, out, task = sys.argv[1:]
run = enter_attempt(RunDirectory(Path(directory)), project=open_project(Path(file)), attempt=int(attempt), stop=After())
code = 0
try:
    folder = AccelerateTrainer().train(Fit() if task == "fit" else None, run)
    if run.rank == 0:
        shutil.copy(folder / "model.safetensors", out)
except Stopped:
    code = 143
except PrismError as error:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    code = error.exit_code
if run.world_size > 1:
    torch.distributed.destroy_process_group()
run.finish("FINISHED" if code == 0 else "KILLED" if code == 143 else "FAILED")
sys.exit(code)
"""


class TwoRanks:
    """Starts the worker script under the launcher's own plan, with two processes on a CPU."""

    def __init__(self, folder: Path) -> None:
        self.script = folder / "worker.py"
        self.script.write_text(WORKER, encoding="utf-8")

    def run(
        self, file: Path, directory: Path, out: Path, *, attempt: int = 1, task: str = "sft", **environ: str
    ) -> str:
        """What was said on stderr; the exit code is in its last line, for torchrun makes every code 1."""
        job = Job((str(self.script), str(file), str(directory), str(attempt), str(out), task), environ)
        plan = AccelerateLauncher().plan(job, Topology("explicit", "a test", processes=2))
        env = {**os.environ, **plan.env, "OMP_NUM_THREADS": "1"}
        child = subprocess.Popen(plan.argv, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            _, said = child.communicate(timeout=100)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            raise
        return f"{said}\nexit code {child.returncode}"


@pytest.fixture
def two_ranks(tmp_path):
    return TwoRanks(tmp_path)


PARAMETERS = {
    "device": "cpu",
    "num_train_epochs": 2,
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-2,
    "optim": "sgd",
    "logging_steps": 1,
}


def configure(folder: Path, parameters: dict) -> Path:
    values = {
        "unified_data_access": {"enabled": False, "data_access": {"dataset_names": ["train.jsonl"]}},
        "data": {"validation": "validation.jsonl"},
        "ml": {"enabled": False, "parameters": parameters},
    }
    file = folder / "sais_foundation.yaml"
    file.write_text(json.dumps(values), encoding="utf-8")
    return file


@pytest.mark.timeout(240)
def test_two_processes_train_as_one_with_twice_the_batch(
    start_run, said, two_ranks, project_folder, still_model, tmp_path
):
    """11 records: the last step of an epoch has 3, which two ranks with batches of 2 share unequally."""
    parameters = {**PARAMETERS, "base_model": str(still_model)}
    file = configure(project_folder, parameters)
    directory = begin_run(open_project(file))
    output = two_ranks.run(file, directory.path, tmp_path / "two.safetensors")
    assert output.endswith("exit code 0"), output
    one = start_run({**parameters, "per_device_train_batch_size": 4}, data={"validation": "validation.jsonl"})
    alone = load_file(AccelerateTrainer().train(None, one) / "model.safetensors")
    both = load_file(tmp_path / "two.safetensors")
    assert all(torch.allclose(alone[name], both[name], atol=1e-6) for name in alone)

    expected = {data["step"]: data["metrics"] for data in said(one, "metrics") if "loss" in data["metrics"]}
    lines = (directory.path / "journal" / "a1-rank0.jsonl").read_text(encoding="utf-8").splitlines()
    got = [json.loads(line) for line in lines]
    losses = {each["step"]: each["metrics"]["loss"] for each in got if "loss" in each.get("metrics", {})}
    assert losses == pytest.approx({step: values["loss"] for step, values in expected.items()}, rel=1e-4)
    evaluated = [each["metrics"]["eval_loss"] for each in got if "eval_loss" in each.get("metrics", {})]
    alone_evaluated = [d["metrics"]["eval_loss"] for d in said(one, "metrics") if "eval_loss" in d["metrics"]]
    assert evaluated == pytest.approx(alone_evaluated, rel=1e-4)


@pytest.mark.timeout(240)
def test_two_ranks_stop_at_one_step_and_resume_bitwise(two_ranks, project_folder, tmp_path):
    file = configure(
        project_folder, {"device": "cpu", "num_train_epochs": 2, "learning_rate": 0.05, "save_strategy": "no"}
    )
    project = open_project(file)
    whole, broken = begin_run(project), begin_run(project)
    assert two_ranks.run(file, whole.path, tmp_path / "whole", task="fit").endswith("exit code 0")
    output = two_ranks.run(file, broken.path, tmp_path / "none", task="fit", STOP_AFTER="8")
    assert not output.endswith("exit code 0") and not (tmp_path / "none").exists()
    assert [path.name for path in broken.checkpoints.iterdir()] == ["step-00000008-a1"]
    assert {path.name for path in (broken.checkpoints / "step-00000008-a1").glob("rng-*")} == {
        "rng-rank0.safetensors",
        "rng-rank1.safetensors",
    }
    output = two_ranks.run(file, broken.path, tmp_path / "resumed", task="fit", attempt=2)
    assert output.endswith("exit code 0"), output
    one, other = load_file(tmp_path / "whole"), load_file(tmp_path / "resumed")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_another_number_of_processes_is_refused_on_resume(tmp_path):
    state = TrainerState(Position(step=3), world_size=2, batch_size=4, window={}, scaler={})
    for rank in range(2):
        save_state(tmp_path, state, rank=rank)
    assert load_state(tmp_path, rank=1, world_size=2) == state
    for world_size, rank in ((1, 0), (4, 3)):
        with pytest.raises(UsageError, match=f"written by 2 processes, and there are {world_size} now"):
            load_state(tmp_path, rank=rank, world_size=world_size)
