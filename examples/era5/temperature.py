"""Learn the temperature at 850 hPa from three other fields of the same time: `prism run temperature.py:Temperature`.

The class says what the model is, which batches there are and what is to be made small. The loop is Prism's trainer: it
tracks, saves, resumes exactly and registers, as for any run. `run.params` is ml.parameters of sais_foundation.yaml.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

import prism

from baselines import Score, correlation, mean_square, score, score_baselines
from era5 import Array, area_weights, hold_out, read_fields, statistics
from network import Network, save_network


class Temperature:
    def __init__(self, run: prism.Run) -> None:
        self.run = run
        data = run.dataset(run.config.data.train)  # its digest is recorded with the run
        self.split = hold_out(read_fields(data.path), run.params.held_out)
        self.statistics = statistics(self.split.training)
        self.weights = area_weights(self.split.held_out.latitude)
        self.baselines = score_baselines(self.split)
        run.log_metrics(metrics_of(self.baselines), step=0)

    def model(self) -> Network:
        return Network(self.run.params.width).take(self.statistics)

    def batches(self, split: str) -> DataLoader:
        """Members of the times to learn from, shuffled; for "validation" those of the time that is held out."""
        fields = self.split.training if split == "train" else self.split.held_out
        pairs = TensorDataset(*(torch.from_numpy(each).flatten(0, 1) for each in (fields.predictors, fields.t850)))
        return DataLoader(pairs, batch_size=self.run.params.per_device_train_batch_size, shuffle=split == "train")

    def loss(self, model: torch.nn.Module, batch: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """The mean square error in K², to make small, and the anomaly correlation, to look at; weighted by area."""
        predictors, t850 = self.mirror_half(*batch) if model.training else batch
        forecast = model(predictors)
        usual, weights = self.like(self.statistics.t850, t850), self.like(self.weights, t850)
        acc = correlation(forecast.detach() - usual, t850 - usual, weights)
        return {"loss": mean_square(forecast - t850, weights), "acc": acc.mean()}

    def mirror_half(self, predictors: torch.Tensor, t850: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Swap the hemispheres' anomalies in a random half of the fields: a weather map may as well be upside down.

        The laws are the same on both sides of the equator. What is usual at a point, and where it lies, stay.
        """
        chosen = torch.rand(len(t850), device=t850.device) < 0.5
        usual = self.statistics
        return (
            mirror(predictors, self.like(usual.predictors, t850), where=chosen),
            mirror(t850, self.like(usual.t850, t850), where=chosen),
        )

    def like(self, values: Array, other: torch.Tensor) -> torch.Tensor:
        """Values of this task on the device of the batch."""
        return torch.from_numpy(values).to(other.device)

    def weight(self, batch: list[torch.Tensor]) -> int:
        """The number of fields in a batch, so that means over batches of unequal size are right."""
        return len(batch[1])

    def save(self, model: Network, folder: Path) -> None:
        """Write the finished network, and keep its scores beside those of the baselines."""
        save_network(model, folder)
        held_out = self.split.held_out
        with torch.no_grad():
            device = next(model.parameters()).device
            forecast = model(torch.from_numpy(held_out.predictors[0]).to(device)).cpu().numpy()
        scores = {"network": score(forecast, held_out.t850[0], self.statistics.t850, self.weights)}
        self.run.log_text(table_of(scores | self.baselines, time=held_out.times[0]), name="scores.md")


def mirror(fields: torch.Tensor, usual: torch.Tensor, *, where: torch.Tensor) -> torch.Tensor:
    """The fields (batch, …), the anomalies from `usual` of those that `where` (batch,) chooses turned upside down."""
    chosen = where.reshape(-1, *[1] * usual.ndim)
    return torch.where(chosen, usual + (fields - usual).flip(-2), fields)


def metrics_of(scores: dict[str, Score]) -> dict[str, float]:
    """As metrics: `eval_rmse_<name>` and, where there is one, `eval_acc_<name>`."""
    named = {f"eval_rmse_{name}": one.rmse for name, one in scores.items()}
    return named | {f"eval_acc_{name}": one.acc for name, one in scores.items() if one.acc is not None}


def table_of(scores: dict[str, Score], *, time: str) -> str:
    rows = [
        f"| {name} | {one.rmse:.3f} | {'–' if one.acc is None else f'{one.acc:.3f}'} |" for name, one in scores.items()
    ]
    head = ["| forecast | RMSE in K | ACC |", "|---|--:|--:|"]
    return "\n".join([f"Temperature at 850 hPa, held-out time {time} UTC, weighted by area", "", *head, *rows, ""])
