"""Sums over the steps between two log lines, kept where they arise so that no step waits for a device."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from attrs import define, field

Total = Callable[[list[float]], list[float]]


@define
class Meter:
    """Weighted sums of the loss and of what else the task reports, and how much went by, since it was made."""

    sums: dict[str, Any] = field(factory=dict)
    weight: float = 0.0
    tokens: float = 0.0
    steps: int = 0
    _began: float = field(factory=time.perf_counter)

    def add(self, values: Mapping[str, Any], *, weight: float, tokens: float = 0.0) -> None:
        """Take in one micro-batch: values per item (numbers or tensors of one), and how many items."""
        for name, value in values.items():
            item = value.detach() if isinstance(value, torch.Tensor) else value
            share = item * weight if weight else 0.0  # a batch that only fills a round adds nothing, NaN or not
            self.sums[name] = self.sums[name] + share if name in self.sums else share
        self.weight += weight
        self.tokens += tokens

    def means(self, total: Total) -> dict[str, float]:
        """The mean of each value over all items, of all ranks. A collective call."""
        names = sorted(self.sums)
        *sums, weight = total([*(float(self.sums[name]) for name in names), self.weight])
        return {name: value / weight if weight else 0.0 for name, value in zip(names, sums, strict=True)}

    def rates(self, total: Total) -> dict[str, float]:
        """Steps a second, and tokens a second of all ranks where tokens are known. A collective call."""
        seconds = max(time.perf_counter() - self._began, 1e-9)
        (tokens,) = total([self.tokens])
        rates = {"steps_per_second": self.steps / seconds}
        return {**rates, "tokens_per_second": tokens / seconds} if tokens else rates

    def state(self) -> dict[str, float]:
        """The sums as numbers, to go on from after a resume; the time is not among them."""
        return {**{f"sum {name}": float(value) for name, value in self.sums.items()}, "weight": self.weight}

    @classmethod
    def load(cls, state: Mapping[str, float]) -> Meter:
        sums = {name.removeprefix("sum "): value for name, value in state.items() if name.startswith("sum ")}
        return cls(sums=sums, weight=state.get("weight", 0.0))
