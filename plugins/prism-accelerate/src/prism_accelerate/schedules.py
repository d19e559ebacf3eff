"""Learning-rate schedules: pure functions of the step, so that nothing of them needs saving."""

from __future__ import annotations

import math
from collections.abc import Callable

from attrs import frozen


@frozen
class Schedule:
    """`lr_scheduler_type` over `total` optimizer steps, the first `warmup` of them rising from 0."""

    kind: str
    warmup: int
    total: int

    def factor(self, step: int) -> float:
        """What the learning rate is multiplied with in the step after `step` finished ones; 0 to 1."""
        if step < self.warmup and self.kind != "constant":
            return step / self.warmup
        span = max(1, self.total - self.warmup)
        return _SHAPES[self.kind](min(1.0, (step - self.warmup) / span))


def warmup_steps(total: int, *, steps: float, ratio: float) -> int:
    """How many of `total` steps warm up: `steps` (a share of all when below 1), else `ratio` of all."""
    if steps >= 1:
        return int(steps)
    return math.ceil(total * (steps or ratio))


_SHAPES: dict[str, Callable[[float], float]] = {
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
    "constant": lambda progress: 1.0,
    "constant_with_warmup": lambda progress: 1.0,
}
