"""A run that was stopped goes on at the exact batch with the same random numbers: bitwise the same on a CPU."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader, Dataset, IterableDataset

from prism.errors import Stopped, UsageError
from prism_accelerate.trainer import AccelerateTrainer

# 11 records in batches of 2, two to a step: 3 steps an epoch, the last of them shorter; 9 steps in all.
SFT = {
    "num_train_epochs": 3,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-3,
    "warmup_steps": 2,
    "logging_steps": 2,
    "save_strategy": "no",
}


def curve(*measured: list[dict]) -> dict[int, dict[str, float]]:
    """Step → what was logged there, without what depends on the clock; a later attempt's word counts."""
    points = {}
    for data in (each for one in measured for each in one):
        values = {name: value for name, value in data["metrics"].items() if not name.endswith("_per_second")}
        points.setdefault(data["step"], {}).update(values)
    return points


def weights(folder):
    return load_file(folder / "model.safetensors")


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("at", [1, 2, 3, 4, 6, 8])
def test_sft_with_accumulation_and_dropout_resumes_bitwise(start_run, stop_after, said, at):
    whole = start_run(SFT)
    unbroken = weights(AccelerateTrainer().train(None, whole))

    first = start_run(SFT, stop=stop_after(at))
    with pytest.raises(Stopped) as stopped:
        AccelerateTrainer().train(None, first)
    assert stopped.value.signal_number == 15
    assert json.loads((first.latest_checkpoint() / "manifest.json").read_text())["step"] == at
    second = start_run(SFT, like=first)
    assert_same(weights(AccelerateTrainer().train(None, second)), unbroken)
    assert curve(said(first, "metrics"), said(second, "metrics")) == curve(said(whole, "metrics"))


def test_nothing_in_a_checkpoint_must_be_unpickled(start_run, stop_after):
    run = start_run(SFT, stop=stop_after(2))
    with pytest.raises(Stopped):
        AccelerateTrainer().train(None, run)
    names = {path.name for path in run.latest_checkpoint().iterdir()}
    assert {path.rpartition(".")[2] for path in names} == {"json", "safetensors"}
    assert {"model.safetensors", "optimizer.safetensors", "rng-rank0.safetensors", "trainer-rank0.json"} <= names


class Noisy(Dataset):
    """Points with noise from each of the three generators that user code draws from."""

    def __len__(self):
        return 24

    def __getitem__(self, at):
        noise = random.random() + float(np.random.rand()) + float(torch.rand(()))
        return torch.tensor([at / 24, noise]), torch.tensor([at / 12])


class Stream(IterableDataset):
    """The same points without a length."""

    def __iter__(self):
        return (Noisy()[at] for at in range(24))


class Fit:
    """A small regression, as a user would write it."""

    def __init__(self, *, workers=0, generator=None, dataset=None):
        self.workers, self.generator, self.dataset = workers, generator, dataset or Noisy()

    def model(self):
        return torch.nn.Sequential(
            torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Dropout(0.2), torch.nn.Linear(16, 1)
        )

    def batches(self, split):
        shuffle = not isinstance(self.dataset, IterableDataset)
        return DataLoader(
            self.dataset, batch_size=4, shuffle=shuffle, num_workers=self.workers, generator=self.generator
        )

    def loss(self, model, batch):
        points, targets = batch
        error = torch.nn.functional.mse_loss(model(points), targets)
        return {"loss": error, "rmse": error.detach().sqrt()}


FIT = {"num_train_epochs": 2, "learning_rate": 0.01, "save_strategy": "no", "logging_steps": 1}


@pytest.mark.parametrize(
    "make",
    [
        Fit,
        lambda: Fit(workers=2),
        lambda: Fit(generator=torch.Generator().manual_seed(3)),
        lambda: Fit(dataset=Stream()),
    ],
    ids=["plain", "workers", "own generator", "iterable"],
)
@pytest.mark.parametrize("at", [2, 6, 9])
def test_a_task_of_the_users_own_resumes_bitwise(start_run, stop_after, said, make, at):
    parameters = {**FIT, "max_steps": 12}
    whole = start_run(parameters)
    unbroken = weights(AccelerateTrainer().train(make(), whole))
    first = start_run(parameters, stop=stop_after(at))
    with pytest.raises(Stopped):
        AccelerateTrainer().train(make(), first)
    second = start_run(parameters, like=first)
    assert_same(weights(AccelerateTrainer().train(make(), second)), unbroken)
    assert curve(said(first, "metrics"), said(second, "metrics")) == curve(said(whole, "metrics"))


def test_twice_in_one_epoch_and_once_at_its_end(start_run, stop_after):
    unbroken = weights(AccelerateTrainer().train(Fit(), start_run(FIT)))
    run = start_run(FIT, stop=stop_after(2))
    for more in (2, 2, 1):  # to steps 2, 4, 6 (the end of the first epoch) and 7
        with pytest.raises(Stopped):
            AccelerateTrainer().train(Fit(), run)
        run = start_run(FIT, like=run, stop=stop_after(more))
    with pytest.raises(Stopped):
        AccelerateTrainer().train(Fit(), run)
    assert_same(weights(AccelerateTrainer().train(Fit(), start_run(FIT, like=run))), unbroken)


def test_a_finished_training_resumed_is_finished(start_run):
    run = start_run({**FIT, "save_strategy": "epoch"})
    first = weights(AccelerateTrainer().train(Fit(), run))
    again = start_run({**FIT, "save_strategy": "epoch"}, like=run)
    assert_same(weights(AccelerateTrainer().train(Fit(), again)), first)


def test_a_new_learning_rate_acts_after_a_resume(start_run, stop_after, said):
    first = start_run({**FIT, "lr_scheduler_type": "constant"}, stop=stop_after(3))
    with pytest.raises(Stopped):
        AccelerateTrainer().train(Fit(), first)
    second = start_run({**FIT, "lr_scheduler_type": "constant", "learning_rate": 0.002}, like=first)
    AccelerateTrainer().train(Fit(), second)
    assert {data["metrics"]["learning_rate"] for data in said(second, "metrics")} == {0.002}


def test_another_model_is_refused(start_run, stop_after):
    class Wider(Fit):
        def model(self):
            return torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))

    first = start_run(FIT, stop=stop_after(2))
    with pytest.raises(Stopped):
        AccelerateTrainer().train(Fit(), first)
    with pytest.raises(UsageError, match="is of another model"):
        AccelerateTrainer().train(Wider(), start_run(FIT, like=first))


def test_old_checkpoints_go_as_the_limit_says(start_run):
    run = start_run({**FIT, "save_strategy": "steps", "save_steps": 3, "save_total_limit": 2})
    AccelerateTrainer().train(Fit(), run)
    kept = sorted(path.name for path in (run.directory / "checkpoints").iterdir())
    assert kept == ["step-00000009-a1", "step-00000012-a1"]
