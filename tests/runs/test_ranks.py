"""Ranks that agree through files: real processes, every collective call, and one that stays away."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from prism.errors import WorkFailed
from prism.runs.ranks import ByFiles


def agree(folder: Path, rank: int, world_size: int, answers: Any) -> None:
    ranks = ByFiles(folder, rank, world_size, patience=30)
    got: list[Any] = []
    for round_number in range(20):
        got.append(ranks.any(rank == round_number))
        got.append(ranks.broadcast({"from": rank, "round": round_number}))
        ranks.barrier()
    answers.put((rank, got))


def test_all_ranks_get_the_same_answers(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    processes = [context.Process(target=agree, args=(tmp_path, rank, 3, answers)) for rank in range(3)]
    for process in processes:
        process.start()
    got = dict(answers.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(10)
    expected: list[Any] = []
    for round_number in range(20):
        expected += [round_number < 3, {"from": 0, "round": round_number}]
    assert got == {0: expected, 1: expected, 2: expected}
    assert len(list(tmp_path.iterdir())) <= 2 * 3  # rounds that are over are cleared away


def test_a_rank_that_stays_away_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorkFailed, match=r"waited .* for rank 1"):
        ByFiles(tmp_path, 0, 2, patience=0.2).barrier()
