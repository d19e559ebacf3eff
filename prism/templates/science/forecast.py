"""Forecast tomorrow's field from today's with a small convolutional network: `prism run forecast.py:Forecast`.

A task is a class with three methods. The loop around them is Prism's trainer: device, optimizer, metrics, checkpoints,
stopping and exact resume, several processes (-n 2). `run.params` is ml.parameters of sais_foundation.yaml.
"""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import prism


class Forecast:
    def __init__(self, run: prism.Run) -> None:
        self.run = run

    def model(self) -> nn.Module:
        """The change of a field in a day, (batch, 1, y, x); weights are drawn after ml.parameters.seed was set."""
        width = self.run.params.width
        return nn.Sequential(
            nn.Conv2d(1, width, kernel_size=5, padding=2, padding_mode="circular"),
            nn.GELU(),
            nn.Conv2d(width, 1, kernel_size=5, padding=2, padding_mode="circular"),
        )

    def batches(self, split: str) -> DataLoader:
        """Pairs of days, today's and tomorrow's; `split` is "train" or "validation"."""
        name = self.run.config.data.train if split == "train" else self.run.config.data.validation
        data = self.run.dataset(name, use=split)  # found by name, its digest recorded with the run
        fields = torch.from_numpy(np.load(data.path)).unsqueeze(1)  # (time, 1, y, x)
        pairs = TensorDataset(fields[:-1], fields[1:])
        return DataLoader(pairs, batch_size=self.run.params.per_device_train_batch_size, shuffle=split == "train")

    def loss(self, model: nn.Module, batch: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """The mean squared error, to minimise, and that of saying that tomorrow is as today, to compare with."""
        today, tomorrow = batch
        error = today + model(today) - tomorrow
        return {"loss": error.square().mean(), "persistence": (today - tomorrow).square().mean()}
