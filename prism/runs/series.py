"""The values that a metric has had, and what the functions of `ml.custom_metrics` make of them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Protocol

from attrs import define, field

from prism.journal.directory import LATER, RunDirectory, parse_journal_name
from prism.journal.projection import Follower
from prism.journal.records import parse_number

Points = list[tuple[int | None, float]]
"""Step and value, in the order logged."""


class Running(Protocol):
    """What is known of a series so far; finite values only."""

    def add(self, value: float) -> None: ...

    def value(self) -> float: ...


@define
class Mean:
    """The mean of the last `size` values, or of all."""

    size: int | None = None
    _last: deque[float] = field(factory=deque)
    _sum: float = 0.0
    _count: int = 0

    def add(self, value: float) -> None:
        self._sum += value
        self._count += 1
        if self.size is not None:
            self._last.append(value)
            if len(self._last) > self.size:
                self._sum -= self._last.popleft()
            if self._count % self.size == 0:  # what rounding has added up to is forgotten
                self._sum = math.fsum(self._last)

    def value(self) -> float:
        return self._sum / (self._count if self.size is None else len(self._last))


@define
class Folded:
    """A value that each new one is folded into."""

    fold: Callable[[float, float], float]
    _value: float | None = None

    def add(self, value: float) -> None:
        self._value = value if self._value is None else self.fold(self._value, value)

    def value(self) -> float:
        return math.nan if self._value is None else self._value


@define
class Delta:
    """The last value less the one before; 0 while there is one only."""

    _before: float | None = None
    _last: float = math.nan

    def add(self, value: float) -> None:
        self._before, self._last = (value if self._before is None else self._last), value

    def value(self) -> float:
        return self._last - (self._last if self._before is None else self._before)


def _smooth(share: float) -> Folded:
    return Folded(lambda before, value: share * before + (1 - share) * value)


RUNNING: Mapping[str, Callable[[float | None], Running]] = MappingProxyType(
    {
        "mean": lambda size: Mean(None if size is None else int(size)),
        "min": lambda _: Folded(min),
        "max": lambda _: Folded(max),
        "ema": lambda share: _smooth(share or 0.0),
        "first": lambda _: Folded(lambda before, _: before),
        "last": lambda _: Folded(lambda _, value: value),
        "delta": lambda _: Delta(),
    }
)


def read_series(directory: RunDirectory, names: Iterable[str], *, rank: int, before: int = LATER) -> dict[str, Points]:
    """The values of metrics in the journal files of a rank, in those of attempts earlier than `before`.

    An attempt that logs a metric again from some step on takes the place of what was logged from there.
    """
    found: dict[str, Points] = {name: [] for name in names}
    seen: set[tuple[int, str]] = set()
    for attempt, step, metrics in _metrics_of(directory, rank=rank, before=before):
        for name in found.keys() & metrics.keys():
            if (attempt, name) not in seen:
                seen.add((attempt, name))
                found[name] = earlier_than(step, found[name])
            found[name].append((step, parse_number(metrics[name])))
    return found


def earlier_than(step: int | None, points: Points) -> Points:
    """The points that stay when a later attempt begins to log at `step`."""
    return points if step is None else [(at, value) for at, value in points if at is None or at < step]


def _metrics_of(
    directory: RunDirectory, *, rank: int, before: int
) -> Iterator[tuple[int, int | None, Mapping[str, float | str]]]:
    for record in Follower(directory).poll():
        name = parse_journal_name(record.file)
        if record.kind == "metrics" and name.rank == rank and name.attempt < before:
            yield name.attempt, record.data["step"], record.data["metrics"]
