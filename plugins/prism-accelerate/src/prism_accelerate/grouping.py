"""The order of records in an epoch: shuffled, with records of like length together, so that little is padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

_ROUNDS_PER_POOL = 50


def grouped_order(lengths: Sequence[int], *, size: int, seed: int, epoch: int) -> list[list[int]]:
    """Every record once, in groups of `size` of like length (the last may be smaller), in random order.

    Records are shuffled, cut into pools of 50 groups, each pool sorted by length and cut into
    groups, and the groups shuffled. A function of `seed` and `epoch` alone.
    """
    generator = np.random.default_rng((seed, epoch))
    order = generator.permutation(len(lengths))
    pool = size * _ROUNDS_PER_POOL
    groups: list[list[int]] = []
    for start in range(0, len(order), pool):
        members = sorted(order[start : start + pool].tolist(), key=lambda record: -lengths[record])
        groups += [members[at : at + size] for at in range(0, len(members), size)]
    return [groups[at] for at in generator.permutation(len(groups)).tolist()]


def sorted_order(lengths: Sequence[int], *, size: int) -> list[list[int]]:
    """Every record once, longest first, in groups of `size`."""
    order = sorted(range(len(lengths)), key=lambda record: -lengths[record])
    return [order[at : at + size] for at in range(0, len(order), size)]


def share(groups: Sequence[list[int]], *, rank: int, world_size: int) -> Iterator[tuple[list[int], bool]]:
    """Each group's part for `rank`, and whether it counts.

    A group is cut into `world_size` parts of equal size; a rank for which none is left gets the
    first part, uncounted.
    """
    for group in groups:
        part = -(-len(group) // world_size)
        mine = group[rank * part : (rank + 1) * part]
        yield (mine, True) if mine else (group[:part], False)
