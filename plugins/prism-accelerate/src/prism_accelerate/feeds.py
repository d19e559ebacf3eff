"""Which batch a rank gets when: any iterable of batches dealt out over ranks, from any place in an epoch.

A round is one micro-batch for each rank. When an epoch's batches do not fill its last round, the
ranks left over get the round's first batch with weight 0: it takes part in the collective calls
and adds nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, Protocol, runtime_checkable

import torch
from attrs import field, frozen
from torch.utils.data import DistributedSampler

Weigh = Callable[[Any], float]
Weighed = tuple[Any, float]


@runtime_checkable
class Positioned(Protocol):
    """Batches that can be asked for one rank's share of an epoch from a position on, at no cost.

    A loader with these methods is asked; every other iterable is iterated from its beginning and
    the batches before the position are thrown away.
    """

    def rounds(self, world_size: int) -> int:
        """Micro-batches each rank gets in an epoch."""
        ...

    def share(self, epoch: int, *, rank: int, world_size: int, skip: int) -> Iterator[Weighed]:
        """(batch, weight) for `rank`, without the first `skip` of the epoch."""
        ...


@frozen
class Feed:
    """One rank's batches of a split, each with its weight: how many items its loss is the mean of."""

    loader: Any
    weigh: Weigh
    rank: int = 0
    world_size: int = 1
    generators: tuple[torch.Generator, ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "generators", tuple(_generators(self.loader)))

    def rounds(self) -> int | None:
        """Micro-batches per epoch on each rank; None when the loader has no length."""
        if isinstance(self.loader, Positioned):
            return self.loader.rounds(self.world_size)
        length = _length(self.loader)
        return None if length is None else length if self._is_dealt() else -(-length // self.world_size)

    def start(self, epoch: int, *, skip: int = 0) -> Iterator[Weighed]:
        """The batches of an epoch after the first `skip`, which have been passed when this returns.

        A loader that shuffles draws its order here, not at the first batch.
        """
        if isinstance(self.loader, Positioned):
            return self.loader.share(epoch, rank=self.rank, world_size=self.world_size, skip=skip)
        _announce(epoch, self.loader)
        dealt = self._deal()
        passed = list(itertools.islice(dealt, max(skip, 1)))
        return dealt if skip else itertools.chain(passed, dealt)

    def _deal(self) -> Iterator[Weighed]:
        batches = iter(self.loader)
        if self.world_size == 1 or self._is_dealt():
            yield from ((batch, self.weigh(batch)) for batch in batches)
            return
        while group := list(itertools.islice(batches, self.world_size)):
            if self.rank < len(group):
                yield group[self.rank], self.weigh(group[self.rank])
            else:
                yield group[0], 0.0

    def _is_dealt(self) -> bool:
        """Whether the loader itself gives each rank its share."""
        return isinstance(getattr(self.loader, "sampler", None), DistributedSampler)


def grouped(batches: Iterator[Weighed], size: int) -> Iterator[list[Weighed]]:
    """`size` micro-batches at a time, never reading ahead; the last group may be shorter."""
    while group := list(itertools.islice(batches, size)):
        yield group


def _length(loader: Any) -> int | None:
    if not isinstance(loader, Sized):
        return None
    try:
        return len(loader)
    except TypeError:  # a DataLoader over an iterable dataset says so only when asked
        return None


def _announce(epoch: int, loader: Any) -> None:
    for part in (loader, getattr(loader, "sampler", None), getattr(loader, "dataset", None)):
        set_epoch = getattr(part, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(epoch)


def _generators(loader: Any) -> Iterable[torch.Generator]:
    """The generators a user gave to a DataLoader or its samplers: their state belongs to a checkpoint."""
    sampler = getattr(loader, "sampler", None)
    inner = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
    found = [getattr(part, "generator", None) for part in (loader, sampler, inner)]
    return {id(g): g for g in found if isinstance(g, torch.Generator)}.values()
