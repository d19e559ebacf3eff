"""Metrics computed from logged ones, as `ml.custom_metrics` says: at each step, and when the run has succeeded."""

from __future__ import annotations

import math
import operator
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from prism.config.expressions import Expression, Metric, Number, Operation, Series, parse_expression, parts
from prism.config.sections import CustomMetric
from prism.journal.directory import RunDirectory, parse_journal_name
from prism.journal.records import number, parse_number
from prism.runs.series import RUNNING, Points, Running, earlier_than, read_series

if TYPE_CHECKING:
    from prism.runs.handle import Run

Compute = Callable[[], float]
History = Callable[[Sequence[str]], Mapping[str, Points]]


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def _extreme(pick: Callable[[tuple[float, ...]], float]) -> Callable[..., float]:
    return lambda *values: math.nan if any(map(math.isnan, values)) else pick(values)


_OPERATIONS: Mapping[str, Callable[..., float]] = MappingProxyType(
    {
        "+": operator.add,
        "-": operator.sub,
        "*": operator.mul,
        "/": operator.truediv,
        "%": operator.mod,
        "**": math.pow,
        "negative": operator.neg,
        "positive": operator.pos,
        "exp": _exp,
        "log": math.log,
        "log10": math.log10,
        "sqrt": math.sqrt,
        "abs": abs,
        "min": _extreme(min),
        "max": _extreme(max),
    }
)


@frozen
class _Computed:
    """One expression: `here` are the metrics it takes at the step, `pace` those that set it off."""

    name: str
    compute: Compute
    here: frozenset[str]
    series: frozenset[str]
    pace: frozenset[str]


@define
class CustomMetrics:
    """Computes the expressions of one process from what this process logs.

    An expression is computed at a step as soon as all metrics in it have been logged at that step; one
    that has functions over series only, whenever the first metric in it is logged. `history` gives what
    earlier attempts logged under some names, so that series go on over a resume. Safe for threads.
    """

    definitions: Sequence[CustomMetric]
    warn: Callable[[str], None]
    history: History = lambda _: {}
    _computed: list[_Computed] = field(factory=list)
    _latest: dict[str, tuple[int | None, float]] = field(factory=dict)
    _series: dict[str, dict[Series, Running]] = field(factory=dict)
    _counts: dict[str, int] = field(factory=dict)
    _before: dict[str, Points] | None = None
    _complained: set[str] = field(factory=set)
    _lock: threading.RLock = field(factory=threading.RLock)
    _owner: int = field(factory=os.getpid)

    def __attrs_post_init__(self) -> None:
        for definition in self.definitions:
            if definition.expression is not None:
                self._add(definition.name, parse_expression(definition.expression))

    def observe(self, step: int | None, points: Mapping[str, float | str]) -> dict[str, float | str]:
        """What is computed now that `points` (as the journal has them) are logged at `step`."""
        if self._owner != os.getpid():  # after a fork: another thread of the parent may have held the lock
            self._owner, self._lock = os.getpid(), threading.RLock()
        with self._lock:
            return self._observe(step, points)

    def _observe(self, step: int | None, points: Mapping[str, float | str]) -> dict[str, float | str]:
        for name, value in points.items():
            self._take(name, step, parse_number(value))
        found: dict[str, float | str] = {}
        for one in self._computed:
            if one.pace.isdisjoint(points) and one.pace.isdisjoint(found):
                continue
            there = all(name in self._latest and self._latest[name][0] == step for name in one.here)
            if not there or not all(self._counts.get(name) for name in one.series):
                continue
            if one.name in points:
                self._complain(one.name, "is logged by the run itself too; that stands where both do")
                continue
            value = self._value(one)
            self._take(one.name, step, value)
            found[one.name] = number(value)
        return found

    def _take(self, name: str, step: int | None, value: float) -> None:
        self._latest[name] = (step, value)
        running = self._series.get(name)
        if running is None:
            return
        if self._before is None:
            self._before = self._read_history()
        for _, earlier in earlier_than(step, self._before.pop(name, [])):
            self._count(name, earlier)
        self._count(name, value)

    def _read_history(self) -> dict[str, Points]:
        try:
            return dict(self.history(list(self._series)))
        except OSError as error:  # training goes on
            self.warn(f"custom metrics begin anew: what was logged before cannot be read ({error.strerror})")
            return {}

    def _count(self, name: str, value: float) -> None:
        if math.isfinite(value):
            self._counts[name] = self._counts.get(name, 0) + 1
            for running in self._series[name].values():
                running.add(value)

    def _value(self, one: _Computed) -> float:
        try:
            return one.compute()
        except (ArithmeticError, ValueError) as error:
            self._complain(one.name, f"is NaN where it has no value ({error})")
            return math.nan

    def _complain(self, name: str, what: str) -> None:
        if name not in self._complained:
            self._complained.add(name)
            self.warn(f"the custom metric {name!r} {what}")

    def _add(self, name: str, expression: Expression) -> None:
        found = list(parts(expression))
        here = frozenset(part.name for part in found if isinstance(part, Metric))
        series = frozenset(part.name for part in found if isinstance(part, Series))
        pace = here or frozenset(part.name for part in found[:1])
        self._computed.append(_Computed(name, self._compile(expression), here, series, pace))

    def _compile(self, expression: Expression) -> Compute:
        if isinstance(expression, Number):
            constant = expression.value
            return lambda: constant
        if isinstance(expression, Metric):
            latest, name = self._latest, expression.name
            return lambda: latest[name][1]
        if isinstance(expression, Series):
            known = self._series.setdefault(expression.name, {})
            return known.setdefault(expression, RUNNING[expression.function](expression.argument)).value
        return _applied(expression, [self._compile(operand) for operand in expression.operands])


def _applied(operation: Operation, operands: Sequence[Compute]) -> Compute:
    function = _OPERATIONS[operation.name]
    if len(operands) == 1:
        (only,) = operands
        return lambda: function(only())
    if len(operands) == 2:
        first, second = operands
        return lambda: function(first(), second())
    return lambda: function(*(operand() for operand in operands))


def custom_metrics_of(run: Run, directory: RunDirectory) -> CustomMetrics | None:
    """What computes `ml.custom_metrics` of this process's points; None where nothing is to be computed."""
    wanted = run.config.ml.custom_metrics
    if not any(one.expression for one in wanted):
        return None
    rank = parse_journal_name(run.journal_file).rank or 0
    return CustomMetrics(wanted, run.warn, partial(read_series, directory, rank=rank, before=run.attempt))
