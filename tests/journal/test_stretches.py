"""Numbers kept as stretches count as the plain list does."""

from __future__ import annotations

from bisect import bisect_right

from hypothesis import given
from hypothesis import strategies as st

from prism.journal.stretches import Stretches


@given(st.sets(st.integers(1, 60)), st.integers(-1, 62))
def test_they_count_as_the_list_of_them(numbers: set[int], position: int) -> None:
    stretches = Stretches()
    for number in sorted(numbers):
        stretches.add(number)
        stretches.add(number)
    assert len(stretches) == len(numbers)
    assert stretches.count_after(position) == len(numbers) - bisect_right(sorted(numbers), position)
