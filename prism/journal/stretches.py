"""Many ascending numbers in little room: the numbers of a file's records have few gaps."""

from __future__ import annotations

from bisect import bisect_right

from attrs import define, field


@define
class Stretches:
    """Ascending numbers, kept as stretches without a gap."""

    _firsts: list[int] = field(factory=list)
    _lasts: list[int] = field(factory=list)
    _before: list[int] = field(factory=list)

    def add(self, number: int) -> None:
        """Add a number greater than all before; another one is there already."""
        if self._lasts and number == self._lasts[-1] + 1:
            self._lasts[-1] = number
        elif not self._lasts or number > self._lasts[-1]:
            self._before.append(len(self))
            self._firsts.append(number)
            self._lasts.append(number)

    def count_after(self, number: int) -> int:
        """How many of them are greater than `number`."""
        stretch = bisect_right(self._lasts, number)
        if stretch == len(self._lasts):
            return 0
        return len(self) - self._before[stretch] - max(0, number - self._firsts[stretch] + 1)

    def __len__(self) -> int:
        return self._before[-1] + self._lasts[-1] - self._firsts[-1] + 1 if self._lasts else 0
