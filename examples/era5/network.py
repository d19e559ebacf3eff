"""A small convolutional network on the globe, from fields in their units to fields in their units."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_model, save_model
from torch import nn
from torch.nn import functional

from era5 import Statistics

GRID = (61, 120)  # latitudes, longitudes


class GlobeConv(nn.Conv2d):
    """A 3 × 3 convolution: round the Earth eastwards, and beyond a pole the last row once more."""

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        around = functional.pad(fields, (1, 1, 0, 0), mode="circular")
        return super().forward(functional.pad(around, (0, 0, 1, 1), mode="replicate"))


class Network(nn.Module):
    """Temperature at 850 hPa, (batch, latitude, longitude) in K, from three fields, (batch, 3, latitude, longitude).

    It looks at how far the predictors lie from what is usual at each point, and says how far t850 does; untrained it
    says what is usual. What is usual belongs to it: the statistics are saved with the weights.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.Sequential(
            GlobeConv(5, width, kernel_size=3),
            nn.GELU(),
            GlobeConv(width, width, kernel_size=3),
            nn.GELU(),
            nn.Conv2d(width, 1, kernel_size=1),
        )
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)
        self.register_buffer("predictors", torch.zeros(3, *GRID))
        self.register_buffer("predictors_spread", torch.ones(3, 1, 1))
        self.register_buffer("t850", torch.zeros(GRID))
        self.register_buffer("t850_spread", torch.ones(()))
        latitude = torch.linspace(torch.pi / 2, -torch.pi / 2, GRID[0]).reshape(1, -1, 1)
        position = torch.cat([latitude.sin(), latitude.cos()])  # the Earth's rotation, and how narrow a cell is
        self.register_buffer("position", position.expand(2, *GRID).contiguous())

    def forward(self, predictors: torch.Tensor) -> torch.Tensor:
        anomalies = (predictors - self.predictors) / self.predictors_spread
        position = self.position.expand(len(predictors), -1, -1, -1)
        return self.t850 + self.t850_spread * self.layers(torch.cat([anomalies, position], dim=1))[:, 0]

    def take(self, statistics: Statistics) -> Network:
        """Let these statistics say what is usual."""
        for name in ("predictors", "predictors_spread", "t850", "t850_spread"):
            getattr(self, name).copy_(torch.as_tensor(getattr(statistics, name)))
        return self


def save_network(network: Network, folder: Path) -> None:
    """Write the weights with the statistics, and what is needed to read them again."""
    save_model(network, str(folder / "model.safetensors"))
    description = {
        "width": network.width,
        "predictors": ["t500 in K", "z850 in m2 s-2", "z500 in m2 s-2"],
        "predicts": "t850 in K",
        "grid": "90 to -90 degrees north, 0 to 357 degrees east, every 3 degrees",
    }
    (folder / "network.json").write_text(json.dumps(description, indent=2), encoding="utf-8")


def load_network(folder: Path) -> Network:
    """The network that `save_network` wrote into `folder`."""
    network = Network(json.loads((folder / "network.json").read_text(encoding="utf-8"))["width"])
    load_model(network, folder / "model.safetensors")
    return network.eval()
