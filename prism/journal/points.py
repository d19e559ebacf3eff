"""Which points each attempt of a run has told, so that a point that is logged again is not told again."""

from __future__ import annotations

from array import array
from bisect import bisect_left

from attrs import define, field


@define
class Steps:
    """The steps at which one key was logged, eight bytes each while they rise."""

    at_zero: set[float | str] = field(factory=set)
    _rising: array[int] = field(factory=lambda: array("q"))
    _others: set[int] = field(factory=set)

    def add(self, step: int, value: float | str) -> None:
        if step == 0:
            self.at_zero.add(value)
        if not self._rising or step > self._rising[-1]:
            self._rising.append(step)
        elif step not in self:
            self._others.add(step)

    def __contains__(self, step: int) -> bool:
        at = bisect_left(self._rising, step)
        return (at < len(self._rising) and self._rising[at] == step) or step in self._others

    @property
    def are_real(self) -> bool:
        """Whether the key is logged with steps: one that has only step 0 may have been logged with none."""
        return len(self._rising) + len(self._others) > 1


@define
class ToldPoints:
    """The points of every attempt: attempt → key → steps."""

    _of: dict[int, dict[str, Steps]] = field(factory=dict)

    def admit(self, attempt: int, name: str, step: int, value: float | str) -> bool:
        """Whether a point of `attempt` is to be told: no other attempt has told its key and step; it is noted then.

        At step 0 of a key that has no other step, only the same value is the same point: tracking libraries
        put 0 where no step was given, and a later attempt's result is not an earlier one's.
        """
        for other, keys in self._of.items():
            steps = keys.get(name) if other != attempt else None
            if steps is not None and step in steps and (step != 0 or steps.are_real or value in steps.at_zero):
                return False
        self._of.setdefault(attempt, {}).setdefault(name, Steps()).add(step, value)
        return True
