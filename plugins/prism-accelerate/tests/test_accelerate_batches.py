"""Orders, shares and rounds: every record once, in groups of like length, dealt out over ranks."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from prism_accelerate.feeds import Feed, grouped
from prism_accelerate.grouping import grouped_order, share, sorted_order

lengths = st.lists(st.integers(1, 500), min_size=1, max_size=300)


@settings(max_examples=50, deadline=None)
@given(lengths, st.integers(1, 16), st.integers(0, 5))
def test_every_record_comes_once_and_groups_are_full(sizes, size, epoch):
    groups = grouped_order(sizes, size=size, seed=3, epoch=epoch)
    assert sorted(itertools.chain(*groups)) == list(range(len(sizes)))
    assert sorted(map(len, groups), reverse=True)[: len(sizes) // size] == [size] * (len(sizes) // size)
    assert groups == grouped_order(sizes, size=size, seed=3, epoch=epoch)


def test_epochs_differ_and_little_is_padding():
    sizes = [1 + at % 100 for at in range(1000)]
    first, second = (grouped_order(sizes, size=10, seed=0, epoch=epoch) for epoch in (0, 1))
    assert first != second
    padded = sum(max(sizes[at] for at in group) * len(group) for group in first)
    assert padded < 1.05 * sum(sizes)


@settings(max_examples=50, deadline=None)
@given(lengths, st.integers(1, 8), st.integers(1, 5))
def test_ranks_share_a_group_without_losing_or_doubling_a_record(sizes, size, world):
    groups = sorted_order(sizes, size=size * world)
    shares = [list(share(groups, rank=rank, world_size=world)) for rank in range(world)]
    counted = [at for parts in shares for part, counts in parts if counts for at in part]
    assert sorted(counted) == list(range(len(sizes)))
    assert {len(parts) for parts in shares} == {len(groups)}
    assert all(part for parts in shares for part, _ in parts)


def numbers(count: int, *, size: int = 1, shuffle: bool = False) -> DataLoader:
    return DataLoader(TensorDataset(torch.arange(count)), batch_size=size, shuffle=shuffle)


def values(batches) -> list:
    return [(batch[0].tolist(), weight) for batch, weight in batches]


@pytest.mark.parametrize("count", [6, 7, 8])
def test_a_loader_is_dealt_out_in_rounds_and_the_last_is_filled_with_weight_nothing(count):
    feeds = [Feed(numbers(count), lambda batch: 1.0, rank=rank, world_size=3) for rank in range(3)]
    dealt = [values(feed.start(0)) for feed in feeds]
    assert [len(each) for each in dealt] == [feeds[0].rounds()] * 3
    counted = sorted(batch[0] for each in dealt for batch, weight in each if weight)
    assert counted == list(range(count))


def test_skipping_gives_the_rest_of_the_same_epoch():
    feed = Feed(numbers(20, size=2, shuffle=True), lambda batch: 1.0)
    torch.manual_seed(5)
    whole = values(feed.start(0))
    torch.manual_seed(5)
    assert values(feed.start(0, skip=4)) == whole[4:]
    torch.manual_seed(5)
    assert values(feed.start(0, skip=10)) == []


def test_a_loader_without_a_length_has_no_rounds():
    class Endless(IterableDataset):
        def __iter__(self):
            return iter(torch.zeros(3, 1))

    assert Feed(DataLoader(Endless()), lambda batch: 1.0).rounds() is None
    assert Feed((n for n in range(3)), lambda batch: 1.0).rounds() is None
    assert Feed([1, 2, 3], lambda batch: 1.0, world_size=2).rounds() == 2


def test_groups_never_read_ahead():
    read = []
    source = ((read.append(at), 1.0) for at in range(10))
    groups = grouped(source, 4)
    next(groups)
    assert read == [0, 1, 2, 3]
    assert [len(group) for group in groups] == [4, 2]
