"""What a tracker is told: one point per key and step over attempts, rank 0 only, parameters never overwritten."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from prism.journal.directory import RunDirectory, create_run_directory
from prism.journal.points import ToldPoints
from prism.journal.projection import Follower, Projection
from prism.journal.records import JournalWriter


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return create_run_directory(tmp_path, "20260101-000000-aaaaaa")


def write(directory: RunDirectory, stem: str, *records: tuple[str, dict[str, Any]]) -> None:
    writer = JournalWriter(directory.journal / f"{stem}.jsonl")
    for kind, data in records:
        writer.write(kind, data)
    writer.close()


def point(step: int | None, **metrics: Any) -> tuple[str, dict[str, Any]]:
    return "metrics", {"step": step, "metrics": metrics}


def told(directory: RunDirectory) -> list[dict[str, Any]]:
    projection = Projection(directory)
    records = [projection.project(record) for record in Follower(directory).poll()]
    return [dict(record.data) for record in records if record]


def test_a_resumed_attempt_tells_no_point_twice(directory: RunDirectory) -> None:
    write(directory, "a1-rank0", *(point(step, loss=float(step)) for step in (1, 2, 3)))
    write(directory, "a2-rank0", *(point(step, loss=step + 0.5, new=1.0) for step in (3, 4)))
    assert told(directory) == [
        {"step": 1, "metrics": {"loss": 1.0}},
        {"step": 2, "metrics": {"loss": 2.0}},
        {"step": 3, "metrics": {"loss": 3.0}},
        {"step": 3, "metrics": {"new": 1.0}},
        {"step": 4, "metrics": {"loss": 4.5, "new": 1.0}},
    ]


def test_attempts_come_in_order_past_nine(directory: RunDirectory) -> None:
    for attempt in (10, 2, 1):
        write(directory, f"a{attempt}-rank0", point(attempt, loss=1.0))
    assert [data["step"] for data in told(directory)] == [1, 2, 10]


def test_other_ranks_stay_in_the_journal(directory: RunDirectory) -> None:
    write(directory, "a1-rank0", point(1, loss=1.0))
    write(directory, "a1-rank1", point(1, loss=9.0))
    assert told(directory) == [{"step": 1, "metrics": {"loss": 1.0}}]


def test_points_without_a_step_are_all_told(directory: RunDirectory) -> None:
    write(directory, "a1-rank0", point(None, score=1.0))
    write(directory, "a2-rank0", point(None, score=2.0))
    assert len(told(directory)) == 2


def test_a_result_without_a_step_is_not_taken_for_an_earlier_attempts(directory: RunDirectory) -> None:
    # tracking libraries put step 0 where none was given
    write(directory, "a1-rank0", point(0, accuracy=0.5, same=1.0, loss=3.0, nan="NaN"), point(1, loss=2.0))
    write(directory, "a2-rank0", point(0, accuracy=0.75, same=1.0, loss=2.5, nan="NaN"), point(0, accuracy=0.5))
    assert told(directory)[2:] == [{"step": 0, "metrics": {"accuracy": 0.75}}]


def test_points_of_an_attempt_that_was_thought_dead_are_not_told_again(directory: RunDirectory) -> None:
    first = JournalWriter(directory.journal / "a1-rank0.jsonl")
    for step in (1, 2):
        first.write(*point(step, loss=float(step)))
    write(directory, "a2-rank0", *(point(step, loss=step + 0.5) for step in (2, 3)))
    live, follower = Projection(directory), Follower(directory)
    assert [record.data["step"] for record in map(live.project, follower.poll()) if record] == [1, 2, 3]
    for step in (3, 4):  # it was only cut off
        first.write(*point(step, loss=float(step)))
    first.close()
    assert [record.data["step"] for record in map(live.project, follower.poll()) if record] == [4]
    position = {"a1-rank0": 2, "a2-rank0": 2}
    anew = Projection(directory, delivered=position)  # another deliverer, that reads all of the first attempt first
    records = [record for record in map(anew.project, Follower(directory).poll()) if record]
    assert [record.data["step"] for record in records if record.seq > position.get(record.file, 0)] == [4]


def test_what_a_rank_was_asked_for_is_told_under_its_name(directory: RunDirectory) -> None:
    write(directory, "a1-rank0", point(1, loss=1.0))
    asked = [point(1, loss=9.0), ("params", {"params": {"lr": 1}}), ("tags", {"tags": {"gpu": "a"}})]
    write(directory, "a1-rank3", *((kind, {**data, "told": True}) for kind, data in asked), point(2, loss=8.0))
    write(directory, "a2-rank3", *((kind, {**data, "told": True}) for kind, data in (point(1, loss=9.5),)))
    assert told(directory) == [
        {"step": 1, "metrics": {"loss": 1.0}},
        {"step": 1, "metrics": {"rank3/loss": 9.0}},
        {"params": {"rank3/lr": 1}},
        {"tags": {"rank3/gpu": "a"}},
    ]


def test_a_parameter_that_changed_gets_a_name_of_its_own(directory: RunDirectory) -> None:
    write(directory, "a1-rank0", ("params", {"params": {"lr": 0.1, "seed": 1}}))
    write(directory, "a2-rank0", ("params", {"params": {"lr": 0.2, "seed": 1, "new": "x"}}))
    again = [("params", {"params": {"lr": 0.1, "seed": 1}}), ("params", {"params": {"seed": 2}})]
    write(directory, "a3-rank0", *again)
    assert told(directory) == [
        {"params": {"lr": 0.1, "seed": 1}},
        {"params": {"resume.2.lr": 0.2, "seed": 1, "new": "x"}},
        {"params": {"resume.3.lr": 0.1, "seed": 1}},
        {"params": {"resume.3.seed": 2}},
    ]


def test_non_finite_values_are_floats_again(directory: RunDirectory) -> None:
    write(directory, "a1-rank0", point(1, loss="Infinity"))
    assert told(directory) == [{"step": 1, "metrics": {"loss": float("inf")}}]


@pytest.mark.parametrize("order", [range(2000), reversed(range(2000)), random.Random(5).sample(range(2000), 2000)])
def test_steps_are_known_in_whatever_order_they_came(order: Iterable[int]) -> None:
    told, seen = ToldPoints(), []
    for step in order:
        assert told.admit(1, "loss", step, 1.0)
        seen.append(step)
    assert not any(told.admit(2, "loss", step, 2.0) for step in seen)
    assert told.admit(2, "loss", 2000, 1.0) and told.admit(2, "other", 5, 1.0)


def test_what_belongs_to_no_attempt_is_told_as_it_is(directory: RunDirectory) -> None:
    write(directory, "a1-rank0", point(10, loss=1.0))
    write(directory, "a2-rank0", point(20, loss=2.0))
    write(directory, "node-x", point(10, cpu=50.0), point(20, cpu=60.0))
    assert [data["step"] for data in told(directory)] == [10, 20, 10, 20]
